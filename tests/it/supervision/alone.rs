//! Tests of signals and of the service manager's socket, which a process has but once: each runs in a process of its
//! own, this very program with nothing else to do.

use std::path::PathBuf;
use std::process::Command;

use pgpassport::lifecycle::ServiceSignals;
use pgpassport::supervisor::{Failpoints, TaskKind};
use tokio::time::timeout;

use super::{answers, fallible, panics, session};
use crate::world::World;
use crate::world::binary::NotifySocket;
use crate::world::raw::PATIENCE;

/// Set in the process that runs one test.
const ALONE: &str = "PGPASSPORT_TEST_ALONE";

/// Runs the test of this name in a process of its own; says whether that is where we are already.
fn is_alone(test: &str, manager: bool) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("supervision::alone::{test}"), "--nocapture"]).env(ALONE, "1");
    if manager {
        command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "200000");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

fn signal(name: &str) {
    let id = std::process::id().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_driver_a_hangup_reloads_and_a_sigterm_stops_afterwards() {
    if !tokio::task::block_in_place(|| {
        is_alone("signal_driver_a_hangup_reloads_and_a_sigterm_stops_afterwards", false)
    }) {
        return;
    }
    let failpoints = Failpoints::enabled();
    let ordered = failpoints.clone();
    let builder = World::builder().limits("shutdown_timeout = \"1h\"\nshutdown_delay = \"1h\"");
    let builder = builder.service_with(move |service| {
        service.outside.tasks.failpoints = ordered.clone();
        service.signals = Some(ServiceSignals::listen().unwrap());
    });
    let mut world = builder.start().await;
    let applied = "pgpassport_reloads_total{outcome=\"applied\"}";
    for round in 1..=2 {
        panics(&world, &failpoints, TaskKind::SignalDriver).await;
        signal("HUP");
        world.metric_is(applied, f64::from(round)).await;
    }
    let mut client = session(&world).await;
    signal("TERM");
    crate::world::admin::until("it is stopping", async || world.get("/readyz").await.1 == "stopping\n").await;
    // Once more, between the first signal and the second.
    panics(&world, &failpoints, TaskKind::SignalDriver).await;
    signal("HUP");
    answers(&mut client).await;
    signal("TERM");
    let serving = world.serving.take().unwrap();
    timeout(PATIENCE, serving).await.expect("the service does not end").unwrap().unwrap();
    let (tag, _) = client.message().await.expect("a last word");
    assert_eq!(tag, b'E');
}

#[tokio::test(flavor = "multi_thread")]
async fn health_monitor_feeds_the_watchdog_afterwards_and_not_for_a_task_that_keeps_failing() {
    if !tokio::task::block_in_place(|| {
        is_alone("health_monitor_feeds_the_watchdog_afterwards_and_not_for_a_task_that_keeps_failing", true)
    }) {
        return;
    }
    let notified = NotifySocket::at(&PathBuf::from(std::env::var_os("NOTIFY_SOCKET").unwrap()));
    let (sender, mut said) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || while sender.send(notified.next()).is_ok() {});
    let (world, failpoints) = fallible(World::builder()).await;
    panics(&world, &failpoints, TaskKind::HealthMonitor).await;
    while said.try_recv().is_ok() {}
    for _ in 0..5 {
        let beat = timeout(PATIENCE, said.recv()).await.expect("a beat").unwrap();
        assert!(beat.contains("WATCHDOG=1"), "{beat}");
    }
    // Five failures take a second and a half.
    failpoints.order(TaskKind::PoolKeeper, u32::MAX); // there is none, which is well
    failpoints.order(TaskKind::Reloader, u32::MAX);
    crate::world::admin::until("it is not alive", async || world.get("/livez").await.0 == 503).await;
    // From then on it is silent: the answer after this one is not a beat of before.
    world.log_line("task is not working").await;
    while said.try_recv().is_ok() {}
    let beat = timeout(super::SOON * 5, said.recv()).await;
    assert!(beat.is_err(), "{beat:?}");
}
