//! Statement timeouts of a hundred sessions that fire together, as they do when a database stalls: every cancel with a
//! right key ends its query, whatever else came from the same address.

use std::sync::Arc;

use aws_emulator::Postgres;
use futures_util::future::join_all;
use tokio::net::TcpStream;

use crate::world::admin::until;
use crate::world::raw::{query, trusting};
use crate::world::{RawClient, World, WorldBuilder, database, shared_secret};

const CROWD: usize = 100;

fn builder() -> WorldBuilder {
    World::builder().limits("max_user_client_connections = 200")
}

/// Sessions that speak 3.`minor`, with their keys.
async fn sessions(world: &World, minor: u8) -> Vec<(RawClient, Vec<u8>)> {
    let tls = Arc::new(trusting(world.listener_ca()));
    let token = world.token("alice");
    let login = async || {
        let tcp = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
        RawClient::with(tcp, Arc::clone(&tls)).await.login_for_key(minor, "alice", &token).await
    };
    join_all((0..CROWD).map(|_| login())).await
}

/// Sessions that all sleep for so long.
async fn asleep(world: &World, minor: u8, seconds: u32) -> Vec<(RawClient, Vec<u8>)> {
    let mut sessions = sessions(world, minor).await;
    for (client, _) in &mut sessions {
        client.send(&query(&format!("select pg_sleep({seconds})"))).await;
    }
    let sql = format!(
        "select count(*) from pg_stat_activity where query = 'select pg_sleep({seconds})' and state = 'active'"
    );
    let postgres: &Postgres = &database().postgres;
    until("all are asleep", async || {
        let (postgres, sql) = (postgres.clone(), sql.clone());
        tokio::task::spawn_blocking(move || postgres.sql(&sql)).await.unwrap() == CROWD.to_string()
    })
    .await;
    sessions
}

/// Cancels all of them at once at `world`.
async fn all_are_cancelled(world: &World, sessions: Vec<(RawClient, Vec<u8>)>) {
    let reasons = join_all(sessions.iter().map(|(_, key)| world.cancel(key))).await;
    let dropped: Vec<_> = reasons.iter().filter(|reason| !reason.starts_with("forwarded to ")).collect();
    assert!(dropped.is_empty(), "{} of {CROWD} were dropped: {dropped:?}", dropped.len());
    for (mut client, _) in sessions {
        client.expect_57014().await;
    }
}

/// Fifty keys that nobody has given out: those of the sessions with one bit changed.
async fn fifty_wrong(world: &World, sessions: &[(RawClient, Vec<u8>)]) -> Vec<String> {
    let mut reasons = Vec::new();
    for (_, key) in sessions.iter().take(50) {
        let mut wrong = key.clone();
        *wrong.last_mut().unwrap() ^= 1;
        reasons.push(world.cancel(&wrong).await);
    }
    reasons
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sessions_are_cancelled_at_once_behind_wrong_and_late_cancels() {
    let world = builder().start().await;
    for (minor, seconds) in [(0, 630), (2, 631)] {
        let ended = sessions(&world, minor).await;
        let late: Vec<_> = ended.into_iter().map(|(_, key)| key).collect();
        world.metric_is("pgpassport_cl_active", 0.0).await;
        for key in &late {
            let reason = world.cancel(key).await;
            let expected = if minor == 0 { "ignored: of a session that has ended" } else { "forwarded to " };
            assert!(reason.starts_with(expected), "{reason}");
        }
        let sessions = asleep(&world, minor, seconds).await;
        let wrong = fifty_wrong(&world, &sessions).await;
        let forged = wrong.iter().filter(|reason| reason.starts_with("ignored: forged")).count();
        let limited = wrong.iter().filter(|reason| reason.starts_with("ignored: rate limited")).count();
        assert_eq!(forged + limited, 50, "{wrong:?}");
        assert!(if minor == 0 { forged < 10 } else { forged == 50 }, "{wrong:?}");
        all_are_cancelled(&world, sessions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sessions_are_cancelled_at_once_through_another_replica() {
    let (_file, keys) = shared_secret();
    let (left, right) = (builder().cancel(&keys).start().await, builder().cancel(&keys).start().await);
    for (minor, seconds) in [(0, 632), (2, 633)] {
        let sessions = asleep(&left, minor, seconds).await;
        fifty_wrong(&right, &sessions).await;
        all_are_cancelled(&right, sessions).await;
    }
}

/// In the pool a key is for one session, and known to one replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sessions_with_the_pool_are_cancelled_at_once() {
    let world = builder().pool("").start().await;
    for (minor, seconds) in [(0, 634), (2, 635)] {
        let late: Vec<_> = sessions(&world, minor).await.into_iter().map(|(_, key)| key).collect();
        world.metric_is("pgpassport_cl_active", 0.0).await;
        for key in &late {
            assert_eq!(world.cancel(key).await, "ignored: of a session that has ended");
        }
        let sessions = asleep(&world, minor, seconds).await;
        fifty_wrong(&world, &sessions).await;
        all_are_cancelled(&world, sessions).await;
    }
}
