//! Three proxies behind a TCP load balancer, two database servers behind one name:
//! a cancel that arrives at another replica than its session still ends the right query.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use aws_emulator::{Postgres, PostgresOptions, names};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::admin::until;
use crate::world::haproxy::HaProxy;
use crate::world::process::TestProcess;
use crate::world::raw::{cancel, query};
use crate::world::{RawClient, World, database, shared_secret, until_asleep};

struct Replica {
    _process: TestProcess,
    records: Arc<Mutex<Vec<Value>>>,
}

impl Replica {
    /// Starts the binary with this configuration; collects what it logs.
    fn start(config: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
            .args(["serve", "--log-format", "json", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let records = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&records);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let record = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
                collected.lock().unwrap().push(record);
            }
        });
        Self { _process: TestProcess(process), records }
    }

    fn find(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.records.lock().unwrap().iter().filter(|record| wanted(record)).cloned().collect()
    }

    async fn addr(&self) -> String {
        let found =
            wait_for("the address", || self.find(|record| record["message"] == "listening").pop()).await;
        found["addr"].as_str().unwrap().to_owned()
    }
}

/// Waits for what `look` finds.
async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, async || {
        found = look();
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Balancer that gives one connection to each server in turn.
fn balancer(folder: &Path, servers: &[String]) -> HaProxy {
    let servers: Vec<_> =
        servers.iter().enumerate().map(|(n, addr)| format!("  server s{n} {addr}\n")).collect();
    HaProxy::start(folder, &servers.concat())
}

async fn session(world: &World, port: u16, minor: u8) -> (RawClient, Vec<u8>) {
    let client = RawClient::connect(port, world.listener_ca()).await;
    client.login_for_key(minor, "alice", &world.token("alice")).await
}

/// A second server with the first one's users, gate and authority.
fn second_server() -> Postgres {
    let first = database();
    let cert = first.ca.server(&[names::ENDPOINT_HOST]).unwrap();
    Postgres::start(&PostgresOptions::new(first.gate.addr(), Some(cert))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_at_another_replica_ends_the_query_on_the_right_server() {
    let (_file, keys) = shared_secret();
    let one = database().postgres.clone();
    let two = tokio::task::spawn_blocking(second_server).await.unwrap();
    let servers = [one.addr(), two.addr()];
    let world = World::builder().upstreams(&servers, &database().ca).cancel(&keys).start().await;
    // The replicas prefer different servers.
    let toml = fs::read_to_string(world.config_file()).unwrap();
    let list = |order: [SocketAddr; 2]| format!("hostaddr = [\"{}\", \"{}\"]", order[0], order[1]);
    let swapped = toml.replace(&list(servers), &list([servers[1], servers[0]]));
    assert_ne!(swapped, toml);
    let mut replicas = Vec::new();
    for (n, toml) in [&toml, &swapped, &toml].into_iter().enumerate() {
        let config = world.folder().join(format!("replica-{n}.toml"));
        fs::write(&config, toml).unwrap();
        replicas.push(Replica::start(&config));
    }
    let mut addresses = Vec::new();
    for replica in &replicas {
        addresses.push(replica.addr().await);
    }
    let balancer = balancer(&world.folder(), &addresses);
    let addr = balancer.addr;

    // Two who must not be disturbed, one on each server.
    let (mut first, _) = session(&world, addr.port(), 0).await;
    let (mut second, _) = session(&world, addr.port(), 0).await;
    first.send(&query("select pg_sleep(640)")).await;
    second.send(&query("select pg_sleep(641)")).await;
    until_asleep(&one, 640).await;
    until_asleep(&two, 641).await;

    // Every connection goes to the next replica: a session and its cancel never to the same one.
    for (n, minor) in [0, 2, 0, 2, 0, 2].into_iter().enumerate() {
        let seconds = 650 + u32::try_from(n).unwrap();
        let cancels = |replica: &Replica| replica.find(|record| record["outcome"] == "cancel");
        let before: Vec<usize> = replicas.iter().map(|replica| cancels(replica).len()).collect();
        let (mut client, key) = session(&world, addr.port(), minor).await;
        client.send(&query(&format!("select pg_sleep({seconds})"))).await;
        tokio::select! { () = until_asleep(&one, seconds) => {}, () = until_asleep(&two, seconds) => {} }
        let mut tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
        tcp.write_all(&cancel(&key)).await.unwrap();
        assert_eq!(tcp.read(&mut [0; 1]).await.unwrap(), 0, "a cancel is not answered");
        client.expect_57014().await;
        drop(client);

        let (at, record) = wait_for("a record of the cancel", || {
            let new = |(n, replica): (usize, &Replica)| Some((n, cancels(replica).get(before[n])?.clone()));
            replicas.iter().enumerate().find_map(new)
        })
        .await;
        let pid = i32::from_be_bytes(*key.first_chunk().unwrap());
        let (home, session) = wait_for("a record of the session", || {
            let ended = |record: &Value| record["outcome"] == "session" && record["upstream_pid"] == pid;
            replicas.iter().enumerate().find_map(|(n, replica)| Some((n, replica.find(ended).pop()?)))
        })
        .await;
        assert_ne!(at, home, "session and cancel came to one replica");
        let told = record["reason"].as_str().unwrap().strip_prefix("forwarded to ").expect("a reason");
        let server = session["upstream"].as_str().unwrap();
        assert!(told.split(", ").any(|told| told == server), "{told}: {server}");
        assert_eq!(told.split(", ").count(), if minor == 2 { 1 } else { 2 }, "3.{minor}: {told}");
    }
    // Still asleep, in the same statements.
    until_asleep(&one, 640).await;
    until_asleep(&two, 641).await;
}
