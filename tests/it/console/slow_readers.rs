//! Operators, scrapers, and browsers that ask and do not read. All sessions are on one thread with the slow operator.

use std::time::Duration;

use aws_emulator::Ca;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{cell, rows, with_console};
use crate::world::admin::until;
use crate::world::raw::query;
use crate::world::{RawClient, World};

/// Sessions of the load.
const SESSIONS: usize = 30;

/// Queries of each session.
const QUERIES: usize = 100;

/// Commands of one text, the most that the console takes.
const COMMANDS: usize = 64;

/// Texts that the slow operator sends ahead. Their answers fit into no socket's buffers.
const TEXTS: usize = 40;

/// A connection whose receive buffer is small.
async fn narrow(port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
}

/// An operator who asks for thousands of rows and reads none.
async fn stalled_operator(world: &World, ca: &Ca) -> RawClient {
    let client = RawClient::over(narrow(world.port).await, ca).await;
    let token = world.member("slow", &["oncall"]);
    let (mut client, _) = client.login("slow", Some("pgpassport"), &token).await.unwrap();
    let text = "SHOW SESSIONS;".repeat(COMMANDS);
    client.send(&query(&text).repeat(TEXTS)).await;
    client
}

/// A client of the admin port that has sent its request and reads `every` so often one byte, or nothing.
async fn stalled_browser(world: &World, path: &str, every: Option<Duration>) -> JoinSet<()> {
    let mut tcp = narrow(world.admin_addr.port()).await;
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        let Some(every) = every else { return std::future::pending().await };
        while tcp.read_u8().await.is_ok() {
            sleep(every).await;
        }
    });
    reading
}

async fn answered(client: &mut RawClient, sql: &str) {
    client.send(&query(sql)).await;
    while client.message().await.expect("the session goes on").0 != b'Z' {}
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_delay_no_session_and_the_operator_is_let_go() {
    let world = with_console().service_with(|service| service.outside.threads = Some(1)).start().await;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let user = ["alice", "bob"][number % 2];
        let (client, _) = world.raw().await.login(user, Some("app"), &world.token(user)).await.unwrap();
        sessions.push(client);
    }
    let stalled = stalled_operator(&world, world.listener_ca()).await;
    let _scrape = stalled_browser(&world, "/metrics", Some(Duration::from_secs(1))).await;
    let _page = stalled_browser(&world, "/", None).await;
    let console = world.console("oncall").await;
    let connected =
        async || rows(&console, "SHOW CLIENTS").await.iter().any(|row| cell(row, "user") == "slow");
    assert!(connected().await);
    // Every session works, new ones come, and other operators and scrapers are answered, while nothing is read.
    let mut load = JoinSet::new();
    for mut session in sessions {
        load.spawn(async move {
            for _ in 0..QUERIES {
                answered(&mut session, "select 1").await;
            }
            session
        });
    }
    let mut sessions = Vec::new();
    while let Some(session) = load.join_next().await {
        sessions.push(session.unwrap());
    }
    let (mut late, _) = world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    answered(&mut late, "select 1").await;
    let queries = SESSIONS * QUERIES + 1;
    assert_eq!(rows(&console, "SHOW SESSIONS").await.len(), SESSIONS + 1);
    let counted = cell(&rows(&console, "SHOW STATS").await[0], "total_query_count").parse::<usize>().unwrap();
    assert_eq!(counted, queries);
    assert_eq!(world.get("/readyz").await.0, 200);
    assert!(
        connected().await && !world.has_logged("\"end\":\"client_slow\""),
        "nothing was read, and all this is done"
    );
    // The answer has a limit of time, which is the end of an operator who never reads.
    until("the slow operator is let go", async || !connected().await).await;
    until("its record", async || world.has_logged("\"end\":\"client_slow\"")).await;
    drop((stalled, sessions));
}
