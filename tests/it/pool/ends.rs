//! Ends of a session: those that keep the connection, and those that close it.

use std::time::Duration;

use aws_emulator::Ca;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{HITS, IDLE, KEPT, PoolGuest, TERMINATE, closed};
use crate::world::World;
use crate::world::admin::until;
use crate::world::raw::{PATIENCE, message, password, query};
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::sessions::{sql, until_gone};

#[tokio::test(flavor = "multi_thread")]
async fn u4_the_connection_is_kept_after_terminate_and_after_a_plain_close() {
    let world = World::builder().pool("").start().await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    first.leave_kept(&world).await;
    // With TLS's own goodbye, and without.
    for (polite, kept) in [(true, 2.0), (false, 3.0)] {
        let mut next = PoolGuest::alice(&world).await;
        assert_eq!(next.pid().await, pid);
        if polite {
            next.client.stream.shutdown().await.unwrap();
        } else {
            next.client.stream.get_mut().0.shutdown().await.unwrap();
        }
        world.metric_is(KEPT, kept).await;
    }
    assert_eq!(PoolGuest::alice(&world).await.pid().await, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_connections_in_doubt_are_closed() {
    let world = World::builder().pool("").start().await;
    sql("create table if not exists pool_copied (line text); grant insert on pool_copied to alice").await;
    let half = query("select 1")[..7].to_vec();
    let parse = message(b'P', b"\0select 1\0\0\0");
    let copy_in = query("copy pool_copied from stdin");
    let copy_out = query("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout");
    let three = query("select 1").repeat(3);
    let cases: [(&str, &[&str], &[u8]); 8] = [
        ("an open transaction", &["begin"], b""),
        ("a failed one", &["begin", "select 1/0"], b""),
        ("COPY from the client", &[], &copy_in),
        ("COPY to the client", &[], &copy_out),
        ("half a message", &[], &half),
        ("no Sync", &[], &parse),
        ("answers that nobody waits for", &[], &three),
        ("a message of no kind", &[], &[&b"!"[..], &4_u32.to_be_bytes()].concat()),
    ];
    let mut lost = 0.0;
    for (what, statements, last) in cases {
        for goodbye in [TERMINATE, b""] {
            let mut guest = PoolGuest::alice(&world).await;
            let pid = guest.pid().await;
            for statement in statements {
                let _ = guest.try_ask(statement).await;
            }
            guest.client.send(&[last, goodbye].concat()).await;
            drop(guest);
            lost += 1.0;
            world.metric_is(&closed("session"), lost).await;
            until_gone(&pid).await;
            assert!(world.metric(KEPT).await < 0.5, "{what}: kept");
        }
    }
    world.metric_is("pgpassport_pool_misses_total", lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_session_that_was_ended_is_closed() {
    let world = World::builder().pool("").session("client_idle_timeout = \"1s\"").start().await;
    let mut by_rule = PoolGuest::alice(&world).await;
    let pid = by_rule.pid().await;
    while by_rule.client.message().await.is_some() {}
    world.metric_is(&closed("session"), 1.0).await;
    until_gone(&pid).await;
    let mut by_server = PoolGuest::alice(&world).await;
    let pid = by_server.pid().await;
    let _ = sql(format!("select pg_terminate_backend({pid})")).await;
    while by_server.client.message().await.is_some() {}
    world.metric_is(&closed("session"), 2.0).await;
    assert!(world.metric(KEPT).await < 0.5);
}

/// True if the kernel has a connection between these ports of this machine, from the side of `local`.
fn is_connected(local: u16, remote: u16) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let ends = format!("0100007F:{local:04X} 0100007F:{remote:04X} ");
    table.contains(&ends)
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_client_that_is_gone_before_the_welcome_leaves_no_connection() {
    let ca = Ca::new().unwrap();
    let (to, mut logins) = mpsc::unbounded_channel();
    let scripted = ScriptedServer::start(&ca, Script::ThenHand(Vec::new(), to)).await;
    let world = World::builder().pool("").upstream(scripted.addr, &ca).start().await;
    let mut client = world.raw().await;
    client.start("alice", Some("app")).await;
    assert_eq!(client.message().await.unwrap().0, b'R');
    client.send(&password(&world.token("alice"))).await;
    let mut server = timeout(PATIENCE, logins.recv()).await.expect("nobody logs in").unwrap();
    // The server has the password and has not answered: the client resets its connection now.
    let tcp = client.stream.get_ref().0;
    let port = tcp.local_addr().unwrap().port();
    assert!(is_connected(world.port, port));
    SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until("the reset arrives", async || !is_connected(world.port, port)).await;
    server.write_all(&welcome()).await.unwrap();
    server.flush().await.unwrap();
    let record = world.audit("outcome", "lost").await;
    let why = record["reason"].as_str().unwrap();
    assert!(why.starts_with("the client left at the welcome: "), "{record}");
    world.metric_is(&closed("session"), 1.0).await;
    assert!(world.metric(KEPT).await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_server_that_died_while_idle_is_not_noticed_by_the_next() {
    let world = World::builder().pool("").start().await;
    for round in 1..=5_u8 {
        let mut first = PoolGuest::alice(&world).await;
        let pid = first.pid().await;
        first.leave_kept(&world).await;
        let _ = sql(format!("select pg_terminate_backend({pid})")).await;
        until_gone(&pid).await;
        let mut next = PoolGuest::alice(&world).await;
        assert_ne!(next.pid().await, pid);
        world.metric_is(&closed("server"), round.into()).await;
        next.client.send(&query("begin")).await;
        drop(next);
    }
    assert!(world.metric(HITS).await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_drain_closes_what_is_idle_and_keeps_nothing_more() {
    let mut world = World::builder().pool("").start().await;
    let mut pids = Vec::new();
    for zone in ["UTC", "Asia/Tokyo"] {
        let pairs = [("user", "alice"), ("database", "app"), ("TimeZone", zone)];
        let mut guest = PoolGuest::come(&world, &world.token("alice"), &pairs).await;
        pids.push(guest.pid().await);
        guest.leave_kept(&world).await;
    }
    let mut late = PoolGuest::alice(&world).await;
    pids.push(late.pid().await);
    late.ask("begin").await;
    world.stopping.drain.cancel();
    world.metric_is(&closed("pool"), 2.0).await;
    world.metric_is(IDLE, 0.0).await;
    // One that leaves with nothing open during the drain is ended by it, or leaves for good.
    late.client.send(&[query("commit"), TERMINATE.to_vec()].concat()).await;
    drop(late);
    world.serving.take().unwrap().await.unwrap().unwrap();
    for pid in pids {
        until_gone(&pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_reload_closes_what_was_kept_under_other_rules() {
    let world = World::builder().pool("").start().await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    let old = PoolGuest::alice(&world).await;
    first.leave_kept(&world).await;
    assert!(world.reloaded().await);
    world.metric_is(&closed("pool"), 1.0).await;
    until_gone(&pid).await;
    // A session of the old rules leaves nothing for the new ones.
    old.leave().await;
    world.metric_is(&closed("pool"), 2.0).await;
    world.metric_is(IDLE, 0.0).await;
    let mut next = PoolGuest::alice(&world).await;
    let pid = next.pid().await;
    next.leave_kept(&world).await;
    let mut again = PoolGuest::alice(&world).await;
    assert_eq!(again.pid().await, pid, "the new ones have a pool of their own");
    again.leave_kept(&world).await;
    world.metric_is(KEPT, 3.0).await;
    world.edit("mode = \"session\"", "mode = \"off\"");
    assert!(world.reloaded().await);
    let mut last = PoolGuest::alice(&world).await;
    let pid = last.pid().await;
    last.leave().await;
    until_gone(&pid).await;
    world.metric_is(KEPT, 3.0).await;
}
