//! Changes of a real server while its connection is idle, and the next client's view of them.

use std::process::Command;

use super::{HITS, PoolGuest, closed, own_server, sql_at};
use crate::world::raw::startup;
use crate::world::{World, database};

/// Sets this on the whole server, which tells its processes.
async fn alter_system(server: &aws_emulator::Postgres, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        sql_at(server, &[&format!("alter system set {name} = {value}")]).await;
    }
    sql_at(server, &["select pg_reload_conf()"]).await;
}

/// Waits until a new session of the server has this value.
async fn until_new_sessions_have(server: &aws_emulator::Postgres, name: &'static str, value: &str) {
    crate::world::admin::until("the server has read its configuration", async || {
        let server = server.clone();
        let shown = tokio::task::spawn_blocking(move || server.sql(&format!("show {name}"))).await.unwrap();
        shown == value
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_the_greeting_is_true_after_the_servers_configuration_has_changed() {
    let server = own_server(|_| {}).await;
    let world = World::builder().upstream(server.addr(), &database().ca).pool("").start().await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    first.leave_kept(&world).await;
    let settings = [
        ("datestyle", "'German, DMY'"),
        ("standard_conforming_strings", "off"),
        ("intervalstyle", "iso_8601"),
        ("timezone", "'Asia/Tokyo'"),
        ("default_transaction_read_only", "on"),
    ];
    alter_system(&server, &settings).await;
    until_new_sessions_have(&server, "default_transaction_read_only", "on").await;
    let mut next = PoolGuest::alice(&world).await;
    let told = next.parameters();
    for expected in [
        "DateStyle=German, DMY\0",
        "standard_conforming_strings=off\0",
        "IntervalStyle=iso_8601\0",
        "TimeZone=Asia/Tokyo\0",
        "default_transaction_read_only=on\0",
    ] {
        assert!(told.iter().any(|parameter| parameter == expected), "{expected} is not in {told:?}");
    }
    assert_eq!(next.pid().await, pid, "another connection proves nothing");
    assert_eq!(next.ask("select date '2026-02-01'").await, "01.02.2026");
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_server_that_turned_read_only_is_not_for_writers() {
    let server = own_server(|_| {}).await;
    let world = World::builder().upstream(server.addr(), &database().ca).pool("").start().await;
    let token = world.token("alice");
    let psql = async |attributes: &str| {
        let connection = format!("user=alice dbname=app target_session_attrs={attributes}");
        world.psql(&connection, &token, &["-c", "show default_transaction_read_only"]).await
    };
    let mut kept = 0.0;
    for value in ["off", "on", "off"] {
        alter_system(&server, &[("default_transaction_read_only", value)]).await;
        until_new_sessions_have(&server, "default_transaction_read_only", value).await;
        let writer = psql("read-write").await;
        assert_eq!(writer.ok, value == "off", "{value}: {writer:?}");
        let anybody = psql("any").await;
        assert_eq!(anybody.stdout.trim(), value, "{anybody:?}");
        kept += 1.0;
    }
    assert!(world.metric(HITS).await >= kept, "the pool was not asked");
}

/// Stopped by a signal, a process is as silent as a machine that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn u4_a_process_that_does_not_answer_is_not_handed_out() {
    let server = own_server(|_| {}).await;
    let world = World::builder().upstream(server.addr(), &database().ca).pool("").start().await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    first.leave_kept(&world).await;
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let mut next = PoolGuest::alice(&world).await;
    let new_pid = next.pid().await;
    signal("-CONT");
    assert_ne!(new_pid, pid);
    world.metric_is(&closed("check"), 1.0).await;
}

/// A kept connection goes on as it began, and is as old as `server_lifetime` at most: docs/pool.md says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_has_the_role_settings_of_its_login() {
    let server = own_server(|_| {}).await;
    let world = World::builder().upstream(server.addr(), &database().ca).pool("").start().await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    first.leave_kept(&world).await;
    let changes = [
        "alter role alice set work_mem = '7MB'",
        "alter database app set work_mem = '8MB'",
        "create role pool_helpers",
        "grant pool_helpers to alice",
    ];
    sql_at(&server, &changes).await;
    let mut next = PoolGuest::alice(&world).await;
    assert_eq!(next.pid().await, pid);
    assert_eq!(next.ask("show work_mem").await, "4MB", "a setting of the role holds for new logins");
    next.ask("set role pool_helpers").await; // rights are looked up each time
    // And for a new login.
    let mut newcomer = PoolGuest::alice(&world).await;
    assert_eq!(newcomer.ask("show work_mem").await, "7MB");
    let logged_in = [pid, newcomer.pid().await];
    newcomer.leave_kept(&world).await;
    next.ask("reset role").await;
    next.leave_kept(&world).await;
    sql_at(&server, &["alter role alice nologin"]).await;
    let mut late = PoolGuest::alice(&world).await;
    assert!(logged_in.contains(&late.pid().await));
    // Until it is closed, by a reload for one.
    late.leave_kept(&world).await;
    assert!(world.reloaded().await);
    let mut client = world.raw().await;
    client.send(&startup(&[("user", "alice"), ("database", "app")])).await;
    assert!(client.finish_login(&world.token("alice")).await.is_err());
}
