//! Clients behind a load balancer that speaks the PROXY protocol.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::world::admin::until;
use crate::world::raw::{cancel, startup};
use crate::world::{ErrorFields, RawClient, World};

/// Version 2, written for these tests alone: `client` by way of this machine, over IPv4.
pub(crate) fn header(command: u8, client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11, 0, 12]);
    header.extend(client);
    header.extend([127, 0, 0, 1, 0x13, 0x88, 0x15, 0x38]);
    header
}

pub(crate) const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;

async fn send(world: &World, bytes: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    tcp
}

async fn answer(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = send(world, bytes).await.read_to_end(&mut answer).await; // a reset ends it too
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_the_record_names_the_client_and_its_balancer() {
    let keys = "name = \"balanced\"\nproxy_protocol_from = [\"127.0.0.0/8\"]";
    let world = World::builder().listen(keys).start().await;
    let tcp = send(&world, &header(PROXY, [192, 0, 2, 1])).await;
    let balancer = tcp.local_addr().unwrap().to_string();
    let client = RawClient::over(tcp, world.listener_ca()).await;
    let (client, _) = client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    drop(client);
    let record = world.audit_of("balanced", "outcome", "session").await;
    assert_eq!(
        (record["client"].as_str(), record["via"].as_str()),
        (Some("192.0.2.1:5000"), Some(&*balancer))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_a_balancers_health_check_is_routine() {
    let keys = "name = \"checked\"\nproxy_protocol_from = \"127.0.0.1\"";
    let world = World::builder().listen(keys).start().await;
    drop(send(&world, &header(LOCAL, [0; 4])).await);
    let record = world.audit_of("checked", "outcome", "health_check").await;
    assert_eq!(record["level"], "DEBUG");
    assert!(record["reason"].is_null() && record["sqlstate"].is_null(), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_without_a_header_a_balancer_is_not_served() {
    let keys = "name = \"headless\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\nplaintext_from_loopback = true";
    let world = World::builder().listen(keys).start().await;
    let psql = world.psql("user=alice dbname=app", &world.token("alice"), &["-c", "select 1"]).await;
    assert!(!psql.ok, "{psql:?}");
    let record = world.audit_of("headless", "outcome", "dropped").await;
    assert!(record["reason"].as_str().unwrap().contains("no PROXY protocol header"), "{record}");
    // Plain logins from this machine are allowed, and this one only claims to be from here.
    for command in [PROXY, LOCAL] {
        let bytes = [header(command, [127, 0, 0, 1]), startup(&[("user", "alice"), ("database", "app")])];
        let answer = answer(&world, &bytes.concat()).await;
        assert_eq!(answer[0], b'E', "{answer:?}");
        assert_eq!(ErrorFields::parse(&answer[5..]).sqlstate(), "28000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_a_header_from_another_network_is_a_bad_startup_packet() {
    for (name, keys) in [("unbalanced", ""), ("elsewhere", "proxy_protocol_from = [\"192.0.2.0/24\"]")] {
        let world = World::builder().listen(&format!("name = \"{name}\"\n{keys}")).start().await;
        let bytes = [header(PROXY, [192, 0, 2, 1]), crate::world::raw::SSL_REQUEST.to_vec()].concat();
        assert!(answer(&world, &bytes).await.is_empty());
        let record = world.audit_of(name, "outcome", "dropped").await;
        assert!(record["reason"].as_str().unwrap().contains("impossible length of 218762506"), "{record}");
        assert!(record["client"].as_str().unwrap().starts_with("127.0.0.1:") && record["via"].is_null());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_balancer_that_stops_inside_its_header_is_cut_off() {
    let keys = "name = \"stalled\"\nproxy_protocol_from = [\"127.0.0.0/8\"]";
    let limits = "client_login_timeout = \"1s\"\nserver_connect_timeout = \"1s\"";
    let world = World::builder().listen(keys).limits(limits).start().await;
    let header = header(PROXY, [192, 0, 2, 1]);
    // The peer keeps its side open and waits.
    for end in [0, 5, 16, 27] {
        assert!(answer(&world, &header[..end]).await.is_empty(), "{end}");
    }
    let record = world.audit_of("stalled", "outcome", "dropped").await;
    assert_eq!(record["reason"], "the peer said too little for too long");
}

/// Behind a balancer all connections have one peer; who is counted is the client that the header names.
#[tokio::test(flavor = "multi_thread")]
async fn c10_limits_are_for_the_address_in_the_header() {
    let keys = "proxy_protocol_from = [\"127.0.0.0/8\"]";
    let world = World::builder().listen(keys).limits("max_logins_per_address = 1").start().await;
    let from = async |client: [u8; 4]| {
        let tcp = send(&world, &header(PROXY, client)).await;
        RawClient::over(tcp, world.listener_ca()).await
    };
    let token = world.token("alice");
    let _waits = from([192, 0, 2, 1]).await;
    let refusal = from([192, 0, 2, 1]).await.login("alice", Some("app"), &token).await.err().unwrap();
    assert_eq!((refusal.sqlstate(), refusal.message()), ("53300", "too many connections for your address"));
    assert!(from([192, 0, 2, 2]).await.login("alice", Some("app"), &token).await.is_ok());
    // So it is with cancels.
    let guess = cancel(b"\0\0\0\x07what");
    for _ in 0..6 {
        answer(&world, &[header(PROXY, [192, 0, 2, 3]), guess.clone()].concat()).await;
    }
    let reason = "ignored: rate limited, a wrong key, and the source's budget of wrong keys (5 at once, then 5 a \
                  minute) is spent";
    assert_eq!(world.audit("reason", reason).await["client"], "192.0.2.3:5000");
    answer(&world, &[header(PROXY, [192, 0, 2, 4]), guess].concat()).await;
    let other = world.audit("client", "192.0.2.4:5000").await;
    assert!(other["reason"].as_str().unwrap().starts_with("ignored: forged"), "{other}");
}

/// HAProxy as an NLB would be set up: headers of version 2 to the proxy's port, and an HTTP health check at the admin
/// port, which begins with such a header too.
struct Balancer {
    process: Child,
    addr: SocketAddr,
    stats: PathBuf,
}

impl Balancer {
    fn start(folder: &Path, world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stats = folder.join("stats");
        let config = format!(
            "global\n  nbthread 1\n  stats socket {stats}\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
             frontend clients\n  bind fd@0\n  default_backend targets\n\
             backend targets\n  option httpchk GET /readyz\n\
             \u{20} server target 127.0.0.1:{port} send-proxy-v2 check port {admin} check-send-proxy inter 50 fall 1 rise 1\n",
            stats = stats.display(),
            port = world.port,
            admin = world.admin_addr.port(),
        );
        let file = folder.join("nlb.cfg");
        fs::write(&file, config).unwrap();
        let paths = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        let program = paths.into_iter().find(|path| Path::new(path).exists()).unwrap_or("haproxy");
        let process = Command::new(program)
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::null()) // it tells of every change
            .spawn()
            .expect("HAProxy starts; scripts/need-packages haproxy installs it");
        Self { process, addr, stats }
    }

    /// Waits until the target's line in HAProxy's statistics has all of `words`.
    async fn target_is(&self, words: [&str; 2]) {
        until(&format!("the target is {words:?}"), async || {
            let Ok(mut socket) = UnixStream::connect(&self.stats).await else { return false };
            let mut stats = String::new();
            let _ = socket.write_all(b"show stat\n").await;
            let _ = socket.read_to_string(&mut stats).await;
            let line = stats.lines().find(|line| line.starts_with("targets,target,")).unwrap_or_default();
            words.iter().all(|word| line.split(',').any(|field| field == *word))
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_sends_headers_finds_its_target_healthy_until_it_drains() {
    let keys = "proxy_protocol_from = [\"127.0.0.0/8\"]";
    let world = World::builder().listen(keys).limits("shutdown_delay = \"1h\"").start().await;
    let balancer = Balancer::start(&world.folder(), &world);
    balancer.target_is(["UP", "L7OK"]).await;
    let client = RawClient::connect(balancer.addr.port(), world.listener_ca()).await;
    let (client, _) = client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    world.stopping.asked.cancel();
    balancer.target_is(["DOWN", "L7STS"]).await;
    drop(client);
}

/// As an NLB sends it: PROXY and LOCAL, with extensions, in one segment with the request or before it.
#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_answered_behind_a_header() {
    let world = World::start().await;
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    let mut extended = header(PROXY, [192, 0, 2, 1]);
    extended[15] += 8; // PP2_TYPE_NOOP, five bytes
    extended.extend([4, 0, 5, 0, 0, 0, 0, 0]);
    for header in [header(PROXY, [192, 0, 2, 1]), header(LOCAL, [0; 4]), extended, Vec::new()] {
        for path in ["/livez", "/readyz", "/metrics"] {
            for at_once in [true, false] {
                let mut tcp = TcpStream::connect(world.admin_addr).await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
                if at_once {
                    tcp.write_all(&[&header, request.as_bytes()].concat()).await.unwrap();
                } else {
                    tcp.write_all(&header).await.unwrap();
                    tcp.write_all(request.as_bytes()).await.unwrap();
                }
                let mut answer = String::new();
                tcp.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{header:?} {path}: {answer}");
            }
        }
    }
}
