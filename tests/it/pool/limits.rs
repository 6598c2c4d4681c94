//! How many connections are kept, and for how long.

use super::ends::until_gone;
use super::visible::sql;
use super::{Guest, HITS, IDLE, KEPT, closed};
use crate::world::World;
use crate::world::admin::until;
use crate::world::raw::startup;

async fn come(world: &World, name: &str) -> Guest {
    let pairs = [("user", "alice"), ("database", "app"), ("application_name", name)];
    Guest::come(world, &world.token("alice"), &pairs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_as_many_are_kept_of_one_login_and_in_all_as_there_may_be() {
    let world = World::wishes().pool("max_idle = 3\nmax_idle_per_login = 2").start().await;
    let mut guests = Vec::new();
    for name in ["a", "a", "a", "b", "c"] {
        guests.push((name, come(&world, name).await));
    }
    let (mut kept, mut full) = (0.0, 0.0);
    for (number, (name, mut guest)) in guests.into_iter().enumerate() {
        let pid = guest.pid().await;
        guest.leave().await;
        if matches!(number, 2 | 4) {
            full += 1.0;
            world.metric_is(&closed("full"), full).await;
            until_gone(&pid).await;
        } else {
            kept += 1.0;
            world.metric_is(KEPT, kept).await;
        }
        assert!((world.metric(KEPT).await - kept).abs() < 0.5, "{number}: {name}");
    }
    world.metric_is(IDLE, 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_those_whose_time_is_over_are_closed_though_nobody_comes() {
    for (key, reason) in [("server_idle_timeout", "idle"), ("server_lifetime", "lifetime")] {
        let world = World::wishes().pool(&format!("{key} = \"2s\"")).start().await;
        let mut guest = come(&world, "a").await;
        let pid = guest.pid().await;
        guest.leave_kept(&world).await;
        world.metric_is(&closed(reason), 1.0).await;
        until_gone(&pid).await;
        world.metric_is(IDLE, 0.0).await;
    }
}

/// What is kept for a person takes no place from that person for longer than one try.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_for_a_login_that_the_server_has_none_for() {
    sql("create role pool_single login connection limit 2 in role rds_iam").await;
    let world = World::wishes().pool("").start().await;
    let pairs = |name| [("user", "pool_single"), ("database", "app"), ("application_name", name)];
    let token = world.token("pool_single");
    Guest::come(&world, &token, &pairs("a")).await.leave_kept(&world).await;
    Guest::come(&world, &token, &pairs("b")).await.leave_kept(&world).await;
    let mut other = come(&world, "a").await;
    let pid = other.pid().await;
    other.leave_kept(&world).await;
    let again = async || {
        let mut client = world.raw().await;
        client.send(&startup(&pairs("c"))).await;
        client.finish_login(&token).await
    };
    assert_eq!(again().await.err().expect("the server has no room").sqlstate(), "53300");
    world.metric_is(&closed("room"), 2.0).await;
    until("the server's processes end", async || again().await.is_ok()).await;
    assert_eq!(come(&world, "a").await.pid().await, pid, "somebody else's connection was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_one_that_is_too_old_when_its_client_leaves_is_not_kept() {
    let world = World::wishes().pool("server_lifetime = \"1s\"").start().await;
    let mut guest = come(&world, "a").await;
    let pid = guest.pid().await;
    guest.ask("select pg_sleep(1.1)").await;
    guest.leave().await;
    world.metric_is(&closed("lifetime"), 1.0).await;
    until_gone(&pid).await;
    assert!(world.metric(KEPT).await < 0.5 && world.metric(HITS).await < 0.5);
}
