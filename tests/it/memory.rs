//! Memory of many connections.

use std::sync::Arc;

use aws_emulator::Ca;
use tokio::net::TcpStream;

use crate::world::binary::ProxyProcess;
use crate::world::raw::{query, trusting};
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::{RawClient, World};

/// Logs in, and asks once, so that all that a session needs has been needed. The server here answers nothing.
async fn sessions(world: &World, binary: &ProxyProcess, count: usize) -> Vec<RawClient> {
    let tls = Arc::new(trusting(world.listener_ca()));
    let token = world.token("alice");
    let mut clients = Vec::new();
    for _ in 0..count {
        let tcp = TcpStream::connect(("127.0.0.1", binary.port)).await.unwrap();
        let client = RawClient::with(tcp, Arc::clone(&tls)).await;
        let (mut client, _) = client.login("alice", Some("app"), &token).await.unwrap();
        client.send(&query("select 1")).await;
        clients.push(client);
    }
    clients
}

/// Of a build that nobody has optimised; `make bench` measures the shipped one, beside others.
#[tokio::test(flavor = "multi_thread")]
async fn r23_an_idle_session_costs_little_memory() {
    rlimit::increase_nofile_limit(10_000).unwrap();
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::AfterPassword(welcome())).await;
    let world = World::builder().upstream(server.addr, &ca).start().await;
    let binary = ProxyProcess::start(&world);
    let few = sessions(&world, &binary, 100).await;
    let before = binary.resident();
    let many = sessions(&world, &binary, 400).await;
    let each = (binary.resident() - before) / many.len();
    assert!(each <= 64, "{each} KiB for each idle session");
    drop((few, many));
}

/// A flood costs little, and the next one finds all that it has left: the allocator keeps some for the process.
#[tokio::test(flavor = "multi_thread")]
async fn c7_a_flood_leaves_no_memory_behind() {
    const PEERS: usize = 1_023;
    rlimit::increase_nofile_limit(10_000).unwrap();
    let world = World::builder().limits("max_client_conn = 4000").start().await;
    let binary = ProxyProcess::start(&world);
    binary.login(&world).await.unwrap();
    let mut levels = vec![binary.resident()];
    for _ in 0..3 {
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            peers.push(TcpStream::connect(("127.0.0.1", binary.port)).await.unwrap());
        }
        binary.login(&world).await.unwrap(); // behind them in the queue, so all of them are there
        levels.push(binary.resident());
    }
    let each = (levels[1] - levels[0]) / PEERS;
    assert!(each <= 8, "{each} KiB for each silent peer: {levels:?}"); // what later steps need is not there yet
    assert!(levels[3] <= levels[1] + levels[1] / 10, "it grows: {levels:?} KiB");
}
