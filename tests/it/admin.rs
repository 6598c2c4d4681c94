//! Health and metrics, as a balancer and Prometheus see them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use aws_emulator::IssuerPage;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::World;
use crate::world::admin::until;

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_keys_and_ends_with_the_service() {
    let mut world = World::builder().limits("shutdown_delay = \"1h\"").start().await;
    until("keys", async || world.get("/readyz").await == (200, "ready\n".to_owned())).await;
    assert_eq!(world.get("/livez").await, (200, "alive\n".to_owned()));
    world.stopping.asked.cancel();
    assert_eq!(world.get("/readyz").await, (503, "stopping\n".to_owned()));
    assert_eq!(world.get("/livez").await.0, 200, "a drain is no reason to be killed");
    world.stopping.drain.cancel();
    world.serving.take().unwrap().await.unwrap().unwrap();
    until("its port is closed", async || TcpStream::connect(world.admin_addr).await.is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_without_any_keys_it_is_not_ready_and_becomes_so_by_itself() {
    let world = World::start().await;
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    // Another issuer, which is down: its keys are not those of the first.
    let idle = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}", idle.local_addr().unwrap());
    drop(idle);
    world.edit(&format!("url = \"{}\"", world.cloud.issuer.url()), &format!("url = \"{nowhere}\""));
    assert!(world.reloaded().await);
    assert_eq!(world.get("/readyz").await, (503, "no issuer has usable keys\n".to_owned()));
    assert!(world.metric("pgpassport_key_set_usable{issuer=\"idp\"}").await < 0.5);
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.sqlstate(), "28P01", "the first issuer is none any more");
    world.edit(&format!("url = \"{nowhere}\""), &format!("url = \"{}\"", world.cloud.issuer.url()));
    assert!(world.reloaded().await);
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    world.metric_is("pgpassport_key_set_keys{issuer=\"idp\"}", 2.0).await;
    assert!(world.cloud.issuer.count(IssuerPage::Jwks) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_counted_and_every_series_is_there_from_the_start() {
    let world = World::start().await;
    let series = async || {
        let (status, text) = world.get("/metrics").await;
        assert_eq!(status, 200);
        let names = text.lines().filter(|line| !line.starts_with('#'));
        // A set: the order of a family's series says nothing.
        names.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<BTreeSet<_>>()
    };
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    let before = series().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    world.metric_is("pgpassport_cl_active", 1.0).await;
    client.query_one("select repeat('x', 10000)", &[]).await.unwrap();
    client.cancel_token().cancel_query(world.connector()).await.unwrap();
    // Its key dies with the session, and the driver does not wait for the cancel.
    world.metric_is("pgpassport_cancels_total{outcome=\"forwarded\"}", 1.0).await;
    drop(client);
    world.refusal("bob", &world.token("alice")).await;
    world.refusal("alice", "no token").await;
    drop(TcpStream::connect(("127.0.0.1", world.port)).await.unwrap());
    for (name, value) in [
        ("pgpassport_connections_total{outcome=\"session\"}", 1.0),
        ("pgpassport_connections_total{outcome=\"refused\"}", 2.0),
        ("pgpassport_connections_total{outcome=\"dropped\"}", 1.0),
        ("pgpassport_connections_total{outcome=\"aborted\"}", 0.0),
        ("pgpassport_logins_refused_total{stage=\"authorization\"}", 1.0),
        ("pgpassport_logins_refused_total{stage=\"token\"}", 1.0),
        ("pgpassport_sessions_ended_total{reason=\"client_left\"}", 1.0),
        ("pgpassport_cancels_total{outcome=\"forwarded\"}", 1.0),
        ("pgpassport_cl_active", 0.0),
        ("pgpassport_config_last_reload_successful", 1.0),
        ("pgpassport_key_set_usable{issuer=\"idp\"}", 1.0),
        ("pgpassport_ready", 1.0),
    ] {
        world.metric_is(name, value).await;
    }
    assert!(
        world.metric("pgpassport_relayed_bytes_total{cluster=\"app\",direction=\"to_client\"}").await
            > 10_000.0
    );
    assert!(
        world.metric("pgpassport_relayed_bytes_total{cluster=\"app\",direction=\"to_server\"}").await > 20.0
    );
    assert_eq!(series().await, before, "a series has come or gone");
    let build = format!("pgpassport_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert!(before.contains(&build), "{before:?}");
    let expiry = before.iter().find(|name| name.contains("certificate_expiry_timestamp_seconds{listener="));
    assert!(world.metric(expiry.unwrap()).await > 1_800_000_000.0);
}

/// No label contains a part of a person's name.
#[tokio::test(flavor = "multi_thread")]
async fn l6_no_metric_label_names_a_person() {
    let world = World::start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    world.refusal("mallory-of-the-labels", &world.token("alice")).await;
    let (_, text) = world.get("/metrics").await;
    let text = text.replace("cluster=\"app\"", ""); // a name of the configuration, and by chance the database's
    for secret in ["alice", "mallory", "\"app\"", "127.0.0.1:5", world.cloud.issuer.url().as_str()] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    drop(client);
}

/// Slow peers of one kind, from one address, when all of them have connected. With `again` each connects again as soon as
/// it is cut off.
async fn slow_peers(
    to: SocketAddr,
    from: &'static str,
    count: usize,
    kind: Slow,
    again: bool,
) -> JoinSet<()> {
    let (mut peers, mut connected) = (JoinSet::new(), JoinSet::new());
    for _ in 0..count {
        connected.spawn(connect(from, to));
    }
    for tcp in connected.join_all().await {
        peers.spawn(async move {
            let _ = kind.stall(tcp.unwrap()).await; // cut off
            if !again {
                return;
            }
            loop {
                if let Ok(tcp) = connect(from, to).await {
                    let _ = kind.stall(tcp).await;
                }
            }
        });
    }
    peers
}

async fn connect(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(1)?; // the smallest that the system has
    socket.bind(format!("{from}:0").parse().unwrap())?;
    socket.connect(to).await
}

#[derive(Clone, Copy, Debug)]
enum Slow {
    Silent,
    Trickling,
    NotReading,
}

impl Slow {
    /// Holds a connection until the other side ends it.
    async fn stall(self, mut tcp: TcpStream) -> std::io::Result<()> {
        match self {
            Self::Silent => drop(tcp.read(&mut [0]).await?),
            Self::Trickling => {
                for byte in b"GET /metrics HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
                    tcp.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Self::NotReading => {
                tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await?;
                tcp.peek(&mut [0]).await?;
                while tcp.take_error()?.is_none() && !tcp.ready(Interest::READABLE).await?.is_read_closed() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        Ok(())
    }
}

/// True if `/livez` answers one of three requests, the `failureThreshold` of Kubernetes, each within 5 s. An answer takes
/// milliseconds. If all processors are busy, a request can be silent for as long as a slow peer, and is evicted.
async fn probed(admin: SocketAddr) -> bool {
    for _ in 0..3 {
        let answer = async {
            let mut tcp = TcpStream::connect(admin).await?;
            tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await?;
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).await.map(|_| answer)
        };
        if let Ok(Ok(answer)) = timeout(Duration::from_secs(5), answer).await
            && answer.starts_with("HTTP/1.1 200 ")
        {
            return true;
        }
    }
    false
}

/// Probes are answered beside hundreds of slow peers, also if these reconnect at once from another address.
#[tokio::test(flavor = "multi_thread")]
async fn l6_probes_are_answered_beside_slow_peers() {
    rlimit::increase_nofile_limit(10_000).unwrap();
    let world = World::start().await;
    for (count, from, again) in [(400, "127.0.0.1", false), (400, "127.0.0.9", true)] {
        for kind in [Slow::Silent, Slow::Trickling, Slow::NotReading] {
            let peers = slow_peers(world.admin_addr, from, count, kind, again).await;
            for probe in 0..15 {
                let answered = probed(world.admin_addr).await;
                assert!(answered, "{count} {kind:?} peers starve probe {probe}");
            }
            drop(peers);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_and_methods_are_refused() {
    let world = World::start().await;
    for path in ["/metrics/../etc/passwd", "/favicon.ico", "//", "/?", "/index.html"] {
        let (status, body) = world.get(path).await;
        let expected = if path == "/?" { 200 } else { 404 };
        assert_eq!(status, expected, "{path}");
        for known in ["/metrics ", "/livez ", "/readyz ", "/runbooks "] {
            assert!(status == 200 || body.contains(known), "{path}: {body}");
        }
    }
    for (request, status, body) in [
        (
            "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "405",
            "only GET and HEAD\n",
        ),
        ("HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "200", ""),
        (format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(9_000)), "431", ""),
    ] {
        let mut tcp = TcpStream::connect(world.admin_addr).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.20}: {answer}");
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, body, "{request:.20}");
    }
}
