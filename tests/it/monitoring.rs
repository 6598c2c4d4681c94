//! Metrics as Prometheus reads them. `scripts/need-prometheus` gets its programs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use regex::Regex;
use serde_json::Value;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::World;
use crate::world::admin::until;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// A program of Prometheus.
fn tool(name: &str) -> Command {
    let path = root().join(".tools/prometheus").join(name);
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
    world.metric_is("pgpassport_refusals_total{sqlstate=\"28P01\",protocol=\"postgresql\"}", 1.0).await;
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
    assert!(route.ends_with(",protocol=\"postgresql\"}"), "{route}");
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

/// Head and body of a page as a browser gets it.
async fn page(world: &World, path: &str) -> (String, String) {
    let mut tcp = TcpStream::connect(world.admin_addr).await.unwrap();
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_shows_what_has_happened_and_loads_nothing() {
    let world = World::start().await;
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    world.metric_is("pgpassport_cl_active", 1.0).await;
    world.refusal("bob", &world.token("alice")).await;
    world.metric_is("pgpassport_refusals_total{sqlstate=\"28P01\",protocol=\"postgresql\"}", 1.0).await;
    let (head, body) = page(&world, "/").await;
    assert!(head.contains("content-type: text/html; charset=utf-8\r\n"), "{head}");
    for text in [
        "<span class=\"badge\">ready</span>",
        "<b>1</b><span>sessions, of",
        "<b>1</b><span>logins in the last hour",
        "<b>1</b><span>rejected",
        "<td>authorization</td><td>1</td><td>1</td>",
        "<td>server_login</td>",
        "<td>app</td>",
        "<td>idp</td><td class=\"word\"><span class=\"ok-text\">fresh</span></td><td>2</td>",
    ] {
        assert!(body.contains(text), "{text} is not in {body}");
    }
    // As on every page of the port, no person is named.
    for secret in ["alice", "bob"] {
        assert!(!body.contains(secret), "{secret} is in {body}");
    }
    let (runbooks_head, runbooks) = page(&world, "/runbooks").await;
    assert!(runbooks.contains("<h2 id=\"pgpassportnotready\">"), "{runbooks}");
    for (head, body) in [(head, body), (runbooks_head, runbooks)] {
        let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert!(!body.contains("<script") && !body.contains(" src="), "{body}");
    }
    world.edit("[[cluster]]", "[[cluster]]\nunknown = 1");
    assert!(!world.reloaded().await);
    let (_, body) = page(&world, "/").await;
    assert!(body.contains("<a href=\"runbooks#pgpassportreloadrefused\">runbook</a>"), "{body}");
    drop(client);
}

/// The expressions of the dashboard's panels, with every instance chosen and a short time for rates.
fn panel_expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("packaging/monitoring/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let expressions = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| {
            let expression = target["expr"].as_str().unwrap();
            let chosen = expression.replace("$job", ".*").replace("$instance", ".*");
            (panel["title"].as_str().unwrap().to_owned(), chosen.replace("$__rate_interval", "10s"))
        })
    });
    expressions.collect()
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(pgpassport|process)_[a-z_]+[a-z]\b").unwrap();
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

#[test]
fn the_alert_rules_are_valid_fire_for_their_faults_and_have_runbooks() {
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let mut promtool = tool("promtool");
        let result =
            promtool.current_dir(root().join("packaging/monitoring")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&[result.stdout, result.stderr].concat()).into_owned();
        assert!(result.status.success(), "{arguments:?}: {said}");
    }
    let runbooks = read("docs/runbooks.md");
    let sections: BTreeSet<_> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rules = read("packaging/monitoring/alerts.yaml");
    let field = |name: &str| -> Vec<String> {
        let lines = rules.lines().filter_map(|line| line.trim_start().strip_prefix(name));
        lines.map(str::to_owned).collect()
    };
    let alerts = field("- alert: ");
    assert_eq!(alerts.iter().map(String::as_str).collect::<BTreeSet<_>>(), sections);
    let links = field("runbook: ");
    let expected = alerts.iter().map(|alert| format!("docs/runbooks.md#{}", alert.to_lowercase()));
    assert_eq!(links, expected.collect::<Vec<_>>());
}

/// A running Prometheus.
struct Prometheus {
    process: Child,
    addr: SocketAddr,
}

impl Prometheus {
    /// Starts one that scrapes `target` and evaluates the alert rules, both several times a second.
    fn start(folder: &Path, target: SocketAddr) -> Self {
        let config = format!(
            "global: {{ scrape_interval: 200ms, evaluation_interval: 200ms }}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{ job_name: pgpassport, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            root().join("packaging/monitoring/alerts.yaml").display()
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut process = tool("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let listening = lines.find(|line| line.contains("msg=\"Listening on\"")).expect("it listens");
        let addr = listening.rsplit_once("address=").unwrap().1.trim().parse().unwrap();
        lines.find(|line| line.contains("Server is ready")).expect("it starts");
        std::thread::spawn(move || lines.for_each(drop)); // so that it can write more
        Self { process, addr }
    }

    async fn api(&self, path: &str) -> Value {
        let mut tcp = TcpStream::connect(self.addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.addr);
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 OK"), "{path}: {answer}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Number of series that an expression gives now.
    async fn series(&self, expression: &str) -> usize {
        let encoded: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let answer = self.api(&format!("/api/v1/query?query={encoded}")).await;
        answer["data"]["result"].as_array().unwrap().len()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_fills_every_panel_and_evaluates_every_rule() {
    let world = World::start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    let prometheus = Prometheus::start(&world.folder(), world.admin_addr);
    until("a scrape", async || prometheus.series("rate(pgpassport_ready[10s])").await == 1).await;
    // Quantiles need logins between two scrapes.
    drop(world.connect("bob", &world.token("bob")).await.unwrap());
    world.refusal("bob", &world.token("alice")).await;
    let expressions = panel_expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for (panel, expression) in &expressions {
        until(&format!("{panel}: {expression}"), async || prometheus.series(expression).await > 0).await;
    }
    // Rules name no series that does not exist: a rule about a misspelled name would never fire.
    let (_, scrape) = world.get("/metrics").await;
    for name in names(&read("packaging/monitoring/alerts.yaml")) {
        let known = [" ", "{"].iter().any(|end| scrape.contains(&format!("\n{name}{end}")));
        assert!(known, "{name} is not scraped");
    }
    let rules = async || {
        prometheus.api("/api/v1/rules").await["data"]["groups"][0]["rules"].as_array().unwrap().clone()
    };
    until("every rule is evaluated", async || rules().await.iter().all(|rule| rule["health"] == "ok")).await;
    world.edit("[[cluster]]", "[[cluster]]\nunknown = 1");
    assert!(!world.reloaded().await);
    let state = async |alert: &str| {
        let rules = rules().await;
        rules.iter().find(|rule| rule["name"] == alert).unwrap()["state"].as_str().unwrap().to_owned()
    };
    until("the refused reload", async || state("PgpassportReloadRefused").await == "pending").await;
    assert_eq!(state("PgpassportNotReady").await, "inactive");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_the_running_proxy_in_one_screen() {
    let world = World::start().await;
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    world.metric_is("pgpassport_cl_active", 1.0).await;
    let top = async |addr: &str| {
        let mut top = tokio::process::Command::new(env!("CARGO_BIN_EXE_pgpassport"));
        top.args(["top", "--once", "--interval", "250ms", "--addr", addr]).output().await.unwrap()
    };
    let output = top(&world.admin_addr.to_string()).await;
    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for text in
        ["   ready\n", "sessions 1 of ", "\nsessions           1  ", "\nserver_login ", "\napp ", "\nidp "]
    {
        assert!(screen.contains(text), "{text:?} is not in\n{screen}");
    }
    assert!(!screen.contains('\u{1b}') && !screen.contains("alice"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = top(&free).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
    drop(client);
}
