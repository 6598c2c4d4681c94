//! Metrics as Prometheus reads them. `scripts/need-prometheus` gets its programs.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::World;

/// A program of Prometheus.
fn tool(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/prometheus").join(name);
    assert!(path.exists(), "{} is not here: run scripts/need-prometheus", path.display());
    Command::new(path)
}

/// Head and body of `/metrics` for a client that sends these header lines.
async fn scraped(world: &World, headers: &str) -> (String, String) {
    let mut tcp = TcpStream::connect(world.admin_addr).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_complain_about() {
    let world = World::start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    world.refusal("bob", &world.token("alice")).await;
    world.metric_is("pgpassport_refusals_total{sqlstate=\"28P01\"}", 1.0).await;
    let (_, text) = scraped(&world, "").await;
    let mut promtool = tool("promtool");
    let check = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut check = check.stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let result = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[result.stdout, result.stderr].concat()).into_owned();
    assert!(result.status.success() && said.is_empty(), "{said}");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scraper_gets_the_format_that_it_asks_for() {
    let world = World::start().await;
    let plain = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    let open = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    for (headers, expected) in [
        ("", plain),
        ("Accept: */*\r\n", plain),
        ("Accept: text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0\r\n", open),
    ] {
        let (head, body) = scraped(&world, headers).await;
        assert!(head.contains(expected) && head.contains("vary: accept\r\n"), "{headers}: {head}");
        assert_eq!(body.ends_with("# EOF\n"), expected == open, "{headers}");
        let info = if expected == open { "pgpassport_build info" } else { "pgpassport_build_info gauge" };
        assert!(body.contains(&format!("# TYPE {info}\n")), "{headers}: {body}");
        assert!(body.contains("\nprocess_cpu_seconds_total "), "{headers}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_counted_when_its_session_starts_and_each_step_has_its_time() {
    let world = World::start().await;
    let (_, text) = world.get("/metrics").await;
    let route = text.lines().find_map(|line| line.strip_prefix("pgpassport_sessions")).unwrap();
    let route = route.strip_suffix(" 0").expect("a series for each cluster and listener before any login");
    assert!(route.starts_with("{cluster=\"app\",listener=\""), "{route}");
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    for (series, value) in [
        (format!("pgpassport_logins_total{route}"), 1.0),
        (format!("pgpassport_sessions{route}"), 1.0),
        ("pgpassport_login_seconds_count{outcome=\"session\"}".to_owned(), 1.0),
        ("pgpassport_session_seconds_count".to_owned(), 0.0),
    ] {
        world.metric_is(&series, value).await;
    }
    for step in ["token", "verification", "connect", "sts", "queue", "server_login", "welcome"] {
        world.metric_is(&format!("pgpassport_login_step_seconds_count{{step=\"{step}\"}}"), 1.0).await;
    }
    let sum = async |of: &str| world.metric(&format!("pgpassport_login_{of}")).await;
    let total = sum("seconds_sum{outcome=\"session\"}").await;
    let login = sum("step_seconds_sum{step=\"server_login\"}").await;
    assert!(login > 0.0 && total > login, "{login} of {total}");
    drop(client);
    world.metric_is("pgpassport_session_seconds_count", 1.0).await;
    world.metric_is(&format!("pgpassport_sessions{route}"), 0.0).await;
    world.metric_is(&format!("pgpassport_logins_total{route}"), 1.0).await;
    world.refusal("bob", &world.token("alice")).await;
    world.metric_is("pgpassport_login_seconds_count{outcome=\"refused\"}", 1.0).await;
    assert!(world.metric("process_open_fds").await > 3.0);
}
