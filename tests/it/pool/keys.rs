//! Cancel keys where connections are kept: a key is for one session and ends with it.

use super::{HITS, KEPT, PoolGuest, closed};
use crate::world::admin::until;
use crate::world::raw::{query, startup};
use crate::world::sessions::{sql, until_gone};
use crate::world::{World, shared_secret};

async fn come(world: &World, minor: u8) -> PoolGuest {
    let mut packet = startup(&[("user", "alice"), ("database", "app")]);
    packet[7] = minor;
    PoolGuest::come_by(world.raw().await, &world.token("alice"), &packet).await
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_an_old_key_does_nothing_to_a_later_session() {
    let (_file, shared) = shared_secret();
    for (minor, length, secret) in [(0, 8, ""), (2, 36, ""), (0, 8, shared.as_str()), (2, 36, &shared)] {
        let world = World::builder().pool("").cancel(secret).start().await;
        let other = World::builder().cancel(secret).start().await;
        let mut first = come(&world, minor).await;
        let (pid, old) = (first.pid().await, first.key());
        assert_eq!(old.len(), length);
        first.leave_kept(&world).await;
        let mut next = come(&world, minor).await;
        assert_eq!(next.pid().await, pid);
        assert_eq!(next.key()[..4], old[..4], "the process id is the server's");
        assert_ne!(next.key(), old);
        next.client.send(&query("select 'slept' from pg_sleep(1)")).await;
        world.cancel(&old).await;
        other.cancel(&old).await;
        let answers = next.answers().await;
        assert!(answers.iter().any(|(tag, _)| *tag == b'D'), "3.{minor}: cancelled: {answers:?}");
        // And the new one works.
        next.client.send(&query("select pg_sleep(660)")).await;
        let asked = format!("select wait_event from pg_stat_activity where pid = {pid}");
        until("it sleeps", async || sql(&asked).await == "PgSleep").await;
        let reason = world.cancel(&next.key()).await;
        assert!(reason.starts_with("forwarded to "), "{reason}");
        next.client.expect_57014().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_session_that_was_sent_a_cancel_leaves_no_connection() {
    let world = World::builder().pool("").start().await;
    for (minor, count) in [(0, 1.0), (2, 2.0)] {
        let mut guest = come(&world, minor).await;
        let pid = guest.pid().await;
        world.cancel(&guest.key()).await; // it finds nothing to cancel, this time
        let _ = guest.try_ask("select 1").await; // or this, if it comes late
        guest.leave().await;
        world.metric_is(&closed("cancelled"), count).await;
        until_gone(&pid).await;
    }
    assert!(world.metric(KEPT).await < 0.5 && world.metric(HITS).await < 0.5);
}
