//! Number and age of kept connections.

use super::{HITS, IDLE, KEPT, PoolGuest, closed};
use crate::world::World;
use crate::world::sessions::until_gone;

async fn come(world: &World, name: &str) -> PoolGuest {
    let pairs = [("user", "alice"), ("database", "app"), ("application_name", name)];
    PoolGuest::come(world, &world.token("alice"), &pairs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_kept_connections_have_a_limit_per_login_and_in_all() {
    let world = World::builder().pool("max_idle = 3\nmax_idle_per_login = 2").start().await;
    let bob = [("user", "bob"), ("database", "app")];
    let mut guests = Vec::new();
    for name in ["a", "b", "c"] {
        guests.push(come(&world, name).await);
    }
    guests.push(PoolGuest::alice(&world).await);
    guests.push(PoolGuest::come(&world, &world.token("bob"), &bob).await);
    let (mut pids, mut kept) = (Vec::new(), 0.0);
    for (number, mut guest) in guests.into_iter().enumerate() {
        pids.push(guest.pid().await);
        guest.leave().await;
        match number {
            2 => world.metric_is(&closed("full"), 1.0).await, // the third of one login
            _ => {
                kept += 1.0;
                world.metric_is(KEPT, kept).await;
            }
        }
    }
    // The fourth in all has the place of the one that was used least lately.
    world.metric_is(&closed("full"), 2.0).await;
    world.metric_is(IDLE, 3.0).await;
    until_gone(&pids[0]).await;
    until_gone(&pids[2]).await;
    assert_eq!(PoolGuest::come(&world, &world.token("bob"), &bob).await.pid().await, pids[4]);
    assert_eq!(PoolGuest::alice(&world).await.pid().await, pids[3]);
    assert_eq!(come(&world, "b").await.pid().await, pids[1]);
}

/// A late login finds a place: earlier logins do not keep them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_login_replaces_the_kept_connection_of_an_older_one() {
    let world = World::builder().pool("max_idle = 5").user("claim = \"login\"").start().await;
    let token = |number: usize| world.mint(world.claims(&format!("person{number}")).set("login", "alice"));
    let pairs = [("user", "alice"), ("database", "app")];
    let mut pids = Vec::new();
    for number in 0..15 {
        let mut guest = PoolGuest::come(&world, &token(number), &pairs).await;
        pids.push(guest.pid().await);
        guest.leave_kept(&world).await;
    }
    world.metric_is(&closed("full"), 10.0).await;
    for (number, pid) in pids.iter().enumerate().skip(10) {
        let mut guest = PoolGuest::come(&world, &token(number), &pairs).await;
        assert_eq!(guest.pid().await, *pid, "person{number} has no place");
    }
    world.metric_is(HITS, 5.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_expired_connections_are_closed_without_a_new_login() {
    for (key, reason) in [("server_idle_timeout", "idle"), ("server_lifetime", "lifetime")] {
        let world = World::builder().pool(&format!("{key} = \"2s\"")).start().await;
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
    let world = World::builder().pool("server_lifetime = \"1s\"").start().await;
    let mut guest = come(&world, "a").await;
    let pid = guest.pid().await;
    guest.ask("select pg_sleep(1.1)").await;
    guest.leave().await;
    world.metric_is(&closed("lifetime"), 1.0).await;
    until_gone(&pid).await;
    assert!(world.metric(KEPT).await < 0.5 && world.metric(HITS).await < 0.5);
}
