//! How much is remembered, and what makes it forgotten before its time.

use super::tests::world;
use super::*;
use crate::config::test_fixture::cluster;

/// A crowd that meets credentials the server has refused makes one call, and not one each.
#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_replaced_by_one_call_for_all() {
    let world = Arc::new(world().await);
    let token = world.token("alice", "alice", "");
    let first = world.login(&token, "app").await.unwrap().unwrap();
    first.were_accepted();
    world.federation.refused(&first);
    world.federation.refused(&first);
    assert_eq!(world.federation.memory().forgotten, 1);
    let logins: Vec<_> = (0..100)
        .map(|_| {
            let (world, token) = (Arc::clone(&world), token.clone());
            tokio::spawn(async move { world.login(&token, "app").await.unwrap().unwrap() })
        })
        .collect();
    for login in logins {
        let credentials = login.await.unwrap();
        assert_ne!(credentials.expose().0, first.expose().0);
    }
    assert_eq!(world.cloud.sts.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_never_worked_are_spent_by_a_refusal_after_five_seconds() {
    let new = || {
        let expires = SystemTime::UNIX_EPOCH;
        RoleCredentials::new("a".into(), "s".into(), None, expires, "n".into())
    };
    let (worked, never) = (new(), new());
    worked.were_accepted();
    for credentials in [&worked, &never] {
        assert!(!credentials.are_spent());
        credentials.were_refused();
    }
    assert!(worked.are_spent() && !never.are_spent());
    tokio::time::advance(Duration::from_millis(4_999)).await;
    never.were_refused();
    assert!(!never.are_spent());
    tokio::time::advance(Duration::from_millis(1)).await;
    never.were_refused();
    assert!(never.are_spent());
}

/// Session tokens may have any length; all that is remembered has one limit.
#[tokio::test]
async fn the_cache_holds_sixty_four_million_bytes() {
    let federation = Federation::new(Clock::system(), Handle::current());
    let cluster = Arc::new(cluster("http://127.0.0.1:1"));
    let long = 16 * 1024;
    let entry = || {
        let token = Some("x".repeat(long));
        let expires = SystemTime::UNIX_EPOCH;
        let credentials = RoleCredentials::new("a".into(), "s".into(), token, expires, "n".into());
        CacheEntry { answer: Ok(Arc::new(credentials)), life: Duration::from_hours(1) }
    };
    for n in 0..3_000_u64 {
        federation.cache.insert(key(&cluster, n), entry()).await;
    }
    federation.cache.run_pending_tasks().await;
    // The session token, and once more in the IAM token.
    let (most, least) = (64_000_000 / (2 * long as u64), 64_000_000 / (2 * long as u64 + 4_096));
    let held = federation.cache.entry_count();
    assert!((least..=most).contains(&held), "{held}, and not {least} to {most}");
}

fn key(cluster: &Arc<ClusterSettings>, number: u64) -> CacheKey {
    CacheKey {
        token: Jwt::new(number.to_be_bytes().to_vec()).digest(),
        issuer: Issuer::new("https://idp.example"),
        cluster: SameSettings(Arc::clone(cluster)),
        role: RoleArn::parse("arn:aws:iam::123456789012:role/app").unwrap(),
        user: DbUser::parse("alice").unwrap(),
    }
}

#[tokio::test]
async fn the_cache_holds_ten_thousand_answers() {
    let federation = Federation::new(Clock::system(), Handle::current());
    let cluster = Arc::new(cluster("http://127.0.0.1:1"));
    let entry = || CacheEntry {
        answer: Err(StsError::Refused { code: "AccessDenied".into(), message: String::new() }),
        life: REMEMBER_REFUSAL * 100,
    };
    for n in 1..=10_001_u64 {
        federation.cache.insert(key(&cluster, n), entry()).await;
        if n >= 10_000 {
            federation.cache.run_pending_tasks().await;
            assert_eq!(federation.cache.entry_count(), 10_000, "after {n}");
        }
    }
}
