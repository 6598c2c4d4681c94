//! How many connections are kept, and for how long.

use super::ends::until_gone;
use super::{Guest, HITS, IDLE, KEPT, closed};
use crate::world::World;

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
