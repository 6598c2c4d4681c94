//! How long answers of STS are kept, and how many.

use super::*;
use crate::aws::test_cluster::cluster;

#[test]
fn j13_credentials_serve_until_their_last_minute_and_never_past_the_token() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for (credentials, token, now, expected) in [
        (900, 3_600, 0, 840),
        (900, 3_600, 839, 1),
        (900, 3_600, 840, 0),
        (900, 3_600, 901, 0),
        (900, 300, 0, 300),
        (900, 300, 299, 1),
        (900, 300, 300, 0),
    ] {
        let life = life(at(credentials), at(token), at(now));
        assert_eq!(life, Duration::from_secs(expected), "{credentials} {token} {now}");
    }
}

#[tokio::test]
async fn the_cache_holds_ten_thousand_answers() {
    let clusters = [Arc::new(cluster("http://127.0.0.1:1"))];
    let federation =
        Federation::new(&clusters, StsTimes::default(), Clock::system(), Handle::current()).unwrap();
    let entry = || Entry {
        answer: Err(StsError::Refused { code: "AccessDenied".into(), message: String::new() }),
        life: REMEMBER_REFUSAL * 100,
    };
    for n in 1..=10_001_u64 {
        let key = Key {
            token: Jwt::new(n.to_be_bytes().to_vec()).digest(),
            issuer: Issuer::new("https://idp.example"),
            cluster: "app".into(),
            since: 0,
            role: RoleArn::parse("arn:aws:iam::123456789012:role/app").unwrap(),
            user: DbUser::parse("alice").unwrap(),
        };
        federation.cache.insert(key, entry()).await;
        if n >= 10_000 {
            federation.cache.run_pending_tasks().await;
            assert_eq!(federation.cache.entry_count(), 10_000, "after {n}");
        }
    }
}
