//! Tasks that must not end: each of them panics once, and what it is for goes on. Health says what does not.

mod alone;
mod health;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_emulator::{AnswerHold, HttpFault, IssuerPage};
use pgpassport::supervisor::{Failpoints, TaskKind};
use tokio::time::timeout;

use crate::world::admin::until;
use crate::world::raw::{PATIENCE, query};
use crate::world::{RawClient, World, WorldBuilder};

/// A world whose tasks panic when they are told to.
async fn fallible(builder: WorldBuilder) -> (World, Failpoints) {
    let failpoints = Failpoints::enabled();
    let ordered = failpoints.clone();
    let builder = builder.service_with(move |service| service.outside.tasks.failpoints = ordered.clone());
    (builder.start().await, failpoints)
}

fn restarts(kind: TaskKind) -> String {
    format!("pgpassport_task_restarts_total{{task=\"{}\"}}", kind.word())
}

fn up(kind: TaskKind) -> String {
    format!("pgpassport_task_up{{task=\"{}\"}}", kind.word())
}

/// The task panics, once, and begins again.
async fn panics(world: &World, failpoints: &Failpoints, kind: TaskKind) {
    let before = world.metric(&restarts(kind)).await;
    failpoints.order(kind, 1);
    world.metric_is(&restarts(kind), before + 1.0).await;
    world.metric_is(&up(kind), 1.0).await;
    assert_eq!(world.get("/livez").await, (200, "alive\n".to_owned()), "one panic is no reason to be killed");
    world.log_line(&format!("\"task\":\"{}", kind.word())).await;
}

async fn session(world: &World) -> RawClient {
    world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap().0
}

/// The session answers.
async fn answers(client: &mut RawClient) {
    client.send(&query("select 1")).await;
    while client.message().await.expect("the session goes on").0 != b'Z' {}
}

#[tokio::test(flavor = "multi_thread")]
async fn key_refresher_waiting_logins_end_and_keys_rotate_afterwards() {
    let (world, failpoints) = fallible(World::builder()).await;
    drop(session(&world).await);
    tokio::task::block_in_place(|| world.cloud.issuer.rotate(false).unwrap());
    world.cloud.sts.forget_keys();
    // A fetch is under way, and logins with the new key wait for it.
    let hold = AnswerHold::new();
    world.cloud.issuer.fail_times(IssuerPage::Jwks, 1, HttpFault::Hold(hold.clone()));
    let tokens: Vec<_> = (0..5).map(|_| world.token("alice")).collect();
    let logins: Vec<_> = tokens
        .iter()
        .map(|token| {
            let (port, ca, token) = (world.port, world.listener_ca().clone(), token.clone());
            tokio::spawn(async move {
                RawClient::connect(port, &ca).await.login("alice", Some("app"), &token).await.map(drop)
            })
        })
        .collect();
    hold.arrived(1).await;
    panics(&world, &failpoints, TaskKind::KeyRefresher).await;
    for login in logins {
        // Refused with the old keys, or let in with those of the next fetch; but not left waiting.
        let _ = timeout(PATIENCE, login).await.expect("a login waits for a fetch that has ended").unwrap();
    }
    hold.release();
    until("the new key is known", async || {
        let client = world.raw().await;
        client.login("alice", Some("app"), &tokens[0]).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloader_a_reload_that_is_cut_off_is_reported_and_the_next_ones_work() {
    let (world, failpoints) = fallible(World::builder()).await;
    assert!(world.reloaded().await);
    panics(&world, &failpoints, TaskKind::Reloader).await;
    assert!(world.reloaded().await, "after a panic between two reloads");
    // A file that cannot be read to its end: a pipe whose writer says nothing.
    let (file, aside) = (world.config_file(), world.folder().join("aside.toml"));
    std::fs::rename(&file, &aside).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let opened = file.clone();
    let writer = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(opened));
    world.reload.notify_one();
    let writer = writer.await.unwrap().unwrap(); // the reload has opened it too
    panics(&world, &failpoints, TaskKind::Reloader).await;
    let refused = "pgpassport_reloads_total{outcome=\"refused\"}";
    world.metric_is(refused, 1.0).await;
    world.metric_is("pgpassport_config_last_reload_successful", 0.0).await;
    world.log_line("the last reload panicked").await;
    // The thread that reads is not joined by another one.
    assert!(!world.reloaded().await);
    world.log_line("the files of the previous reload are still being read").await;
    drop(writer);
    std::fs::rename(&aside, &file).unwrap();
    until("a reload is taken", async || world.reloaded().await).await;
    drop(session(&world).await);
}

/// A panic while the configuration is read ends one reload.
#[tokio::test(flavor = "multi_thread")]
async fn reloader_a_panic_while_reading_is_a_refused_reload() {
    let world = World::builder().service_with(|service| {
        let (load, panics) = (Arc::clone(&service.load), AtomicBool::new(true));
        service.load = Arc::new(move || {
            assert!(!panics.swap(false, Ordering::Relaxed), "as a test has ordered");
            load()
        });
    });
    let world = world.start().await;
    assert!(!world.reloaded().await);
    world.log_line("reading the configuration panicked").await;
    assert!(world.reloaded().await, "it panics once");
    assert!(world.metric(&restarts(TaskKind::Reloader)).await < 0.5, "the task itself goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_keeper_idle_connections_are_closed_afterwards() {
    let (world, failpoints) = fallible(World::builder().pool("server_idle_timeout = \"1s\"")).await;
    panics(&world, &failpoints, TaskKind::PoolKeeper).await;
    let mut client = session(&world).await;
    client.send(b"X\0\0\0\x04").await;
    world.metric_is("pgpassport_pool_closed_total{reason=\"idle\"}", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acceptor_the_listener_stays_open_and_is_served_afterwards() {
    let (world, failpoints) = fallible(World::builder()).await;
    let mut there = session(&world).await;
    for _ in 0..3 {
        failpoints.order(TaskKind::Acceptor, 1);
        drop(session(&world).await); // a client that connects during the pause waits in the listener's queue
    }
    world.metric_is(&restarts(TaskKind::Acceptor), 3.0).await;
    answers(&mut there).await;
    drop(there);
    world.metric_is("pgpassport_cl_active", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_server_health_and_metrics_are_answered_afterwards() {
    let (world, failpoints) = fallible(World::builder()).await;
    for _ in 0..3 {
        panics(&world, &failpoints, TaskKind::AdminServer).await;
    }
    until("it is ready", async || world.get("/readyz").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_monitor_begins_again() {
    let (world, failpoints) = fallible(World::builder()).await;
    panics(&world, &failpoints, TaskKind::HealthMonitor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_threads_keep_their_sessions_and_take_new_ones() {
    let (world, failpoints) = fallible(World::builder()).await;
    let threads = std::thread::available_parallelism().unwrap().get();
    let mut sessions = Vec::new();
    for _ in 0..2 * threads {
        sessions.push(session(&world).await); // some on each thread
    }
    let kind = TaskKind::SessionThread;
    failpoints.order(kind, u32::try_from(threads).unwrap());
    world.metric_is(&restarts(kind), f64::from(u32::try_from(threads).unwrap())).await;
    for client in &mut sessions {
        answers(client).await;
    }
    world.metric_is(&up(kind), 1.0).await;
    for _ in 0..2 * threads {
        answers(&mut session(&world).await).await;
    }
    drop(sessions);
    world.metric_is("pgpassport_cl_active", 0.0).await;
    assert_eq!(world.get("/livez").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_the_service_all_the_same() {
    let (mut world, failpoints) = fallible(World::builder().limits("shutdown_timeout = \"1h\"")).await;
    let mut client = session(&world).await;
    client.send(&query("begin")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    world.stopping.drain.cancel();
    let listening = async || tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.is_ok();
    until("the listener is closed", async || !listening().await).await;
    panics(&world, &failpoints, TaskKind::Shutdown).await;
    assert_eq!(world.get("/readyz").await.0, 503);
    answers(&mut client).await;
    client.send(&query("commit")).await;
    while client.message().await.is_some() {}
    drop(client);
    let serving = world.serving.take().unwrap();
    timeout(PATIENCE, serving).await.expect("the service does not end").unwrap().unwrap();
}

/// Every function that the code spawns for good has a name, and the pages have them all.
#[test]
fn the_page_for_operators_has_every_task() {
    let page = include_str!("../../../docs/operations.md");
    for kind in TaskKind::ALL {
        assert!(page.contains(&format!("| `{}` |", kind.word())), "{}", kind.word());
    }
    assert!(TaskKind::ALL.len() > 8);
}

/// A pause that a test can rely on to be over.
const SOON: Duration = Duration::from_millis(200);
