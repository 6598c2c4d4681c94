//! A server that is full because of idle connections: a login gets the place of the one that is idle for the longest time,
//! of any person, and the client does not notice.

use aws_emulator::Ca;
use futures_util::future::join_all;

use super::{IDLE, PoolGuest, closed, own_server, sql_at};
use crate::world::raw::startup;
use crate::world::scripted_server::{Script, ScriptedServer, error};
use crate::world::{ErrorFields, World, database};

/// Everybody is alice for the server, and somebody else for the proxy.
const ONE_USER: &str = "claim = \"login\"";

async fn person(world: &World, number: usize) -> PoolGuest {
    let token = world.mint(world.claims(&format!("person{number}")).set("login", "alice"));
    PoolGuest::come(world, &token, &[("user", "alice"), ("database", "app")]).await
}

async fn refusal(world: &World, user: &str, database: &str) -> Result<(), ErrorFields> {
    let mut client = world.raw().await;
    client.send(&startup(&[("user", user), ("database", database)])).await;
    client.finish_login(&world.token(user)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_idle_connection_of_anyone_makes_room_for_a_login() {
    // Three of the ten are the superuser's.
    let server = own_server(|options| options.max_connections = 10).await;
    let builder = World::builder().upstream(server.addr(), &database().ca);
    let world = builder.pool("").user(ONE_USER).start().await;
    let mut pids = Vec::new();
    for number in 0..7 {
        let mut guest = person(&world, number).await;
        pids.push(guest.pid().await);
        guest.leave_kept(&world).await;
    }
    world.metric_is(IDLE, 7.0).await;
    // A second person, and a third.
    let (_new, _newer) = (person(&world, 7).await, person(&world, 8).await);
    world.metric_is(&closed("room"), 2.0).await;
    world.metric_is(IDLE, 5.0).await;
    for (number, pid) in pids.iter().enumerate().skip(2) {
        assert_eq!(person(&world, number).await.pid().await, *pid, "not the longest idle one went");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_finds_room_at_once_and_the_first_that_finds_none_is_told_so() {
    let server = own_server(|options| options.max_connections = 13).await;
    let world =
        World::builder().upstream(server.addr(), &database().ca).pool("").user(ONE_USER).start().await;
    let first: Vec<_> = join_all((0..10).map(|number| person(&world, number))).await;
    for guest in first {
        guest.leave_kept(&world).await;
    }
    let _second: Vec<_> = join_all((10..20).map(|number| person(&world, number))).await;
    world.metric_is(&closed("room"), 10.0).await;
    let token = world.mint(world.claims("late").set("login", "alice"));
    let mut client = world.raw().await;
    client.send(&startup(&[("user", "alice"), ("database", "app")])).await;
    let refusal = client.finish_login(&token).await.err().expect("the server is full of people at work");
    assert_eq!(refusal.sqlstate(), "53300");
    assert!(refusal.message().contains("remaining connection slots are reserved"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_role_and_of_a_database_are_met_by_their_own_idle_connections() {
    let server = own_server(|options| options.iam_users.push("pool_single".to_owned())).await;
    let limited =
        ["alter role pool_single connection limit 1", "create database pool_small connection limit 1"];
    sql_at(&server, &limited).await;
    let world = World::builder().upstream(server.addr(), &database().ca).pool("").start().await;
    let come = async |user: &'static str, database: &'static str, style: &'static str| {
        let pairs = [("user", user), ("database", database), ("DateStyle", style)];
        PoolGuest::come(&world, &world.token(user), &pairs).await
    };
    // This one is idle for the longest time, and would not help.
    let mut other = PoolGuest::alice(&world).await;
    let other_pid = other.pid().await;
    other.leave_kept(&world).await;
    for (count, (user, first, second)) in (1_u8..).zip([
        ("pool_single", ("pool_single", "app"), ("pool_single", "postgres")),
        ("bob", ("alice", "pool_small"), ("bob", "pool_small")),
    ]) {
        come(first.0, first.1, "ISO").await.leave_kept(&world).await;
        let guest = come(second.0, second.1, "SQL").await;
        world.metric_is(&closed("room"), count.into()).await;
        // Nobody is idle where it would help any more.
        let told = refusal(&world, user, second.1).await.expect_err("the only place is taken");
        assert_eq!(told.sqlstate(), "53300", "{told:?}");
        assert!(told.message().starts_with("too many connections for "), "{told:?}");
        drop(guest);
    }
    assert_eq!(
        PoolGuest::alice(&world).await.pid().await,
        other_pid,
        "somebody else's connection was given up"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_asked_once_where_nothing_is_idle() {
    let ca = Ca::new().unwrap();
    let full = error("53300", "sorry, too many clients already");
    let server = ScriptedServer::start(&ca, Script::AfterStartup(full)).await;
    let builder = World::builder().upstream(server.addr, &ca);
    for (count, builder) in [(1, builder.clone()), (2, builder.pool(""))] {
        let world = builder.start().await;
        let told = refusal(&world, "alice", "app").await.unwrap_err();
        assert_eq!((told.sqlstate(), told.message()), ("53300", "sorry, too many clients already"));
        assert_eq!(server.count(), count);
    }
}
