//! When a connection's time is over. What needs connections is tested with a whole world around it.

use std::time::UNIX_EPOCH;

use tokio::runtime::Handle;

use super::*;
use crate::postgres::Postgres;
use crate::supervisor::TaskRules;

const NOON: SystemTime = UNIX_EPOCH;

fn pool() -> Arc<Pool<Postgres>> {
    let settings = PoolSettings {
        max_idle: 9,
        max_idle_per_login: 9,
        server_idle_timeout: Duration::from_mins(1),
        server_lifetime: Duration::from_mins(10),
    };
    let begun = Instant::now();
    let clock = Clock::from_fn(move || NOON + begun.elapsed());
    let supervisor = TaskSupervisor::new(Handle::current(), TaskRules::default());
    Pool::start(settings, Arc::default(), clock, &supervisor)
}

fn opened(credentials_last: Duration) -> ConnectionOrigin {
    ConnectionOrigin {
        at: Instant::now(),
        credentials_expire_at: NOON + credentials_last,
        role_session_name: String::new(),
        access_key_id: String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn u4_a_connection_is_as_old_as_it_may_be_and_not_a_millisecond_older() {
    let pool = pool();
    let (tick, hour) = (Duration::from_millis(1), Duration::from_hours(1));
    let all_but_a_tick = async |minutes: u64| {
        tokio::time::advance(Duration::from_millis(minutes * 60_000 - 1)).await;
    };
    let by_age = opened(hour);
    let by_credentials = opened(Duration::from_mins(5));
    let since = Instant::now();
    all_but_a_tick(1).await;
    assert_eq!(pool.expired(&by_age, since), None);
    tokio::time::advance(tick).await;
    assert_eq!(pool.expired(&by_age, since), Some(CloseReason::Idle));
    assert_eq!(pool.expired(&by_age, Instant::now()), None);
    all_but_a_tick(4).await;
    assert_eq!(pool.expired(&by_credentials, Instant::now()), None);
    tokio::time::advance(tick).await;
    assert_eq!(pool.expired(&by_credentials, Instant::now()), Some(CloseReason::Credentials));
    all_but_a_tick(5).await;
    assert_eq!(pool.expired(&by_age, Instant::now()), None);
    tokio::time::advance(tick).await;
    assert_eq!(pool.expired(&by_age, Instant::now()), Some(CloseReason::Lifetime));
}

#[test]
fn every_reason_has_a_word_and_a_count_of_its_own() {
    let stats = PoolStats::default();
    for (times, why) in CloseReason::ALL.into_iter().enumerate() {
        (0..times).for_each(|_| stats.closed(why));
    }
    let counts: Vec<_> = stats.all_closed().collect();
    let expected: Vec<_> = CloseReason::ALL.iter().zip(0..).map(|(why, count)| (why.word(), count)).collect();
    assert_eq!(counts, expected);
    let words: std::collections::BTreeSet<_> = expected.iter().map(|(word, _)| word).collect();
    assert_eq!(words.len(), CloseReason::ALL.len());
}
