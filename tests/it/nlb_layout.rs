//! The layout behind a load balancer as `docs/listeners.md` describes it, with HAProxy in the balancer's place: PROXY headers of
//! version 2, HTTP health checks at the admin port, and a drain.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use regex::Regex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::balancer::{PROXY, header};
use crate::docs::blocks;
use crate::world::admin::until;
use crate::world::binary::{Launch, ProxyProcess};
use crate::world::haproxy::HaProxy;
use crate::world::raw::query;
use crate::world::{RawClient, World};

/// The configuration on the page, for these replicas and faster checks.
fn haproxy_cfg(replicas: [&ProxyProcess; 2]) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/listeners.md")).unwrap();
    let [config] = &blocks(&page, "haproxy")[..] else { panic!("one configuration for HAProxy") };
    let mut config = config.replace("bind :5432", "bind fd@0").replace("inter 2s", "inter 100ms");
    config = config.replace("timeout check 2s", "timeout check 10s"); // the machine of the test may be busy
    for (name, replica) in ["a", "b"].into_iter().zip(replicas) {
        let server = Regex::new(&format!(r"server {name} \S+ (.*) port 9127 ")).unwrap();
        let (port, admin) = (replica.port, replica.admin_addr().port());
        let own = format!("server {name} 127.0.0.1:{port} $1 port {admin} ");
        let changed = server.replace(&config, own.as_str()).into_owned();
        assert_ne!(changed, config, "server {name} of the page");
        config = changed;
    }
    config
}

async fn is(balancer: &HaProxy, server: &str, state: &str) {
    until(&format!("the balancer finds {server} {state}"), async || {
        balancer.status(server).await.starts_with(state)
    })
    .await;
}

/// A health check as an NLB makes it: a header with the command PROXY before the request.
async fn nlb_check(admin: SocketAddr) -> String {
    let mut tcp = TcpStream::connect(admin).await.unwrap();
    let request = [&header(PROXY, [10, 0, 0, 9])[..], b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    tcp.write_all(&request).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

async fn log_in(world: &World, addr: SocketAddr) -> (RawClient, SocketAddr) {
    let tcp = TcpStream::connect(addr).await.unwrap();
    let own = tcp.local_addr().unwrap();
    let client = RawClient::over(tcp, world.listener_ca()).await;
    let (client, _) = client.login("alice", Some("app"), &world.token("alice")).await.expect("let in");
    (client, own)
}

async fn ask(client: &mut RawClient, sql: &str) {
    client.send(&query(sql)).await;
    while client.message().await.expect("an answer").0 != b'Z' {}
}

/// The start of the session of a client at this address, in the replica's records.
fn start_of(replica: &ProxyProcess, client: SocketAddr) -> Option<Value> {
    let records = fs::read_to_string(replica.file("audit.json")).unwrap_or_default();
    let mut starts = records.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    starts.find(|record| record["event"] == "session.start" && record["client"] == client.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layout_of_the_page_checks_names_clients_and_drains() {
    let keys = "proxy_protocol_from = [\"127.0.0.0/8\"]";
    let world = World::builder().listen(keys).limits("shutdown_delay = \"5s\"").start().await;
    let config = "[admin]\naddr = \"127.0.0.1:0\"\n[audit]\nto = \"./audit.json\"";
    let launch = || ProxyProcess::launch(&world, Launch { config: config.to_owned(), ..Launch::usual() });
    let mut replicas = [launch(), launch()];
    let balancer = HaProxy::with_config(&world.folder(), &haproxy_cfg([&replicas[0], &replicas[1]]));
    until("HAProxy answers its commands", async || balancer.is_up()).await;
    for server in ["a", "b"] {
        is(&balancer, server, "UP").await; // with a header of the command LOCAL before the request
    }
    assert_eq!(nlb_check(replicas[0].admin_addr()).await, "HTTP/1.1 200 OK");

    // Records name the client, and the balancer that it came through.
    let (mut client, own) = log_in(&world, balancer.addr).await;
    let mut found = None;
    until("the start is recorded", async || {
        found = (0..2).find_map(|number| Some((number, start_of(&replicas[number], own)?)));
        found.is_some()
    })
    .await;
    let (draining, record) = found.unwrap();
    assert!(record["via"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");

    // A replica stops: the balancer learns it from /readyz, new clients go to the other one, and the session stays.
    ask(&mut client, "begin").await;
    let admin = replicas[draining].admin_addr();
    replicas[draining].signal("TERM");
    is(&balancer, ["a", "b"][draining], "DOWN").await;
    assert_eq!(nlb_check(admin).await, "HTTP/1.1 503 Service Unavailable");
    for _ in 0..4 {
        let (_other, own) = log_in(&world, balancer.addr).await;
        until("the start is recorded", async || start_of(&replicas[1 - draining], own).is_some()).await;
    }
    ask(&mut client, "select 1").await;
    ask(&mut client, "commit").await;
    // Outside a transaction, the session ends as PostgreSQL ends it at a shutdown.
    let ended = loop {
        match client.message().await {
            Some((b'E', body)) => break String::from_utf8_lossy(&body).into_owned(),
            Some(_) => {}
            None => panic!("cut without a word"),
        }
    };
    assert!(ended.contains("57P01"), "{ended}");
    assert_eq!(replicas[draining].ended().await, Some(0), "{}", replicas[draining].log());
}
