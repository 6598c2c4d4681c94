//! Calls to STS that end by a fault of our own.

use super::*;

/// The clock panics in the call that ten logins wait for: the one that makes it is told so, the others make one of their
/// own.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_is_an_error_and_nobody_waits_for_it() {
    let mut world = world().await;
    let panics = Arc::new(AtomicI64::new(0));
    let left = Arc::clone(&panics);
    let clock = Clock::from_fn(move || {
        assert!(left.fetch_sub(1, Ordering::Relaxed) <= 0, "as ordered");
        Clock::system().now()
    });
    let clusters = world.policies[0].clusters();
    world.endpoints = endpoints(clusters, &[], &clock);
    world.federation = Federation::new(clock, Handle::current());
    let hold = AnswerHold::new();
    world.cloud.sts.fail_times(1, HttpFault::Hold(hold.clone()));
    let token = world.token("alice", "alice", "");
    let world = Arc::new(world);
    let logins: Vec<_> = (0..10)
        .map(|_| {
            let (world, token) = (Arc::clone(&world), token.clone());
            tokio::spawn(async move { world.login(&token, "app").await.unwrap().map(drop) })
        })
        .collect();
    hold.arrived(1).await;
    panics.store(1, Ordering::Relaxed);
    hold.release();
    let (mut good, mut bad) = (0, 0);
    for login in logins {
        match login.await.unwrap() {
            Ok(()) => good += 1,
            Err(error) => {
                assert!(matches!(error, StsError::Unavailable(_)), "{error}");
                bad += 1;
            }
        }
    }
    assert_eq!((good, bad, world.cloud.sts.count()), (9, 1, 2));
    world.login(&token, "app").await.unwrap().unwrap();
}
