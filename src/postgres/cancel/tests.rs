//! Keys that come back to this process or to another one, and keys that nobody gave out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{advance, timeout};

use super::*;
use crate::names::Endpoint;
use crate::postgres::limits::CANCEL_TIMEOUT;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn cluster(endpoint: &str) -> ClusterId {
    ClusterId::of(&Endpoint::parse(endpoint).unwrap())
}

fn replica(secret: &CancelSecret) -> CancelKeys {
    CancelKeys::new(secret).unwrap()
}

/// A secret as replicas share it.
fn shared() -> CancelSecret {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, (0..32).collect::<Vec<u8>>());
    std::fs::write(file.path(), text).unwrap();
    CancelSecret::read(file.path()).unwrap()
}

fn target(n: u8, pid: i32, secret: &[u8]) -> CancelTarget {
    let (cluster, addr) = at(n);
    CancelTarget { cluster, addr, key: CancelKey::new(pid, secret) }
}

fn at(n: u8) -> (ClusterId, SocketAddr) {
    (cluster("db.example:5432"), SocketAddr::from(([10, 0, 0, n], 5432)))
}

/// The key for servers of the usual cluster.
fn key_of(order: &CancelOrder) -> CancelKey {
    order.key_for(cluster("db.example"))
}

/// What becomes of `key` from this source at this moment.
async fn judge(keys: &CancelKeys, key: &CancelKey, source: IpAddr) -> Result<CancelOrder, CancelIgnored> {
    keys.judge(key, source.into(), Instant::now() + CANCEL_TIMEOUT).await
}

/// As [`judge`], of a key that has to wait for nothing.
async fn judge_now(keys: &CancelKeys, key: &CancelKey, source: IpAddr) -> Result<CancelOrder, CancelIgnored> {
    timeout(Duration::ZERO, judge(keys, key, source)).await.expect("it waits for nothing")
}

fn short(keys: &CancelKeys, secret: [u8; 4]) -> ClientKey {
    keys.issue(target(1, 7, &secret), MinorVersion::V3_0, KeyScope::AnyReplica).unwrap()
}

fn wrong(n: u32) -> CancelKey {
    CancelKey::new(8, n.to_be_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_long_key_leads_any_replica_to_the_one_server() {
    let secret = shared();
    let (mine, other) = (replica(&secret), replica(&secret));
    let issued = mine.issue(target(1, 7, &[9; 32]), MinorVersion::V3_2, KeyScope::AnyReplica).unwrap();
    for replica in [&mine, &other] {
        let order = judge_now(replica, &issued.key, CLIENT).await.unwrap();
        assert_eq!(order.server(), Some(at(1)));
        let key = key_of(&order);
        assert!(key.pid == 7 && key.has_secret(&[9; 32]));
    }
    let stranger = replica(&CancelSecret::random());
    assert_eq!(judge_now(&stranger, &issued.key, CLIENT).await.unwrap_err(), CancelIgnored::Forged);
}

#[tokio::test(start_paused = true)]
async fn a_short_key_leads_its_replica_to_the_one_server_and_others_to_all() {
    let secret = shared();
    let (mine, other) = (replica(&secret), replica(&secret));
    let issued = short(&mine, *b"keys");
    assert_eq!((issued.key.pid, issued.key.secret.len()), (7, 4));
    assert!(!issued.key.has_secret(b"keys"), "the server's secret is not the client's");
    let order = judge_now(&mine, &issued.key, CLIENT).await.unwrap();
    assert_eq!(order.server(), Some(at(1)));
    let order = judge_now(&other, &issued.key, CLIENT).await.unwrap();
    assert_eq!(order.server(), None);
    let key = key_of(&order);
    assert!(key.pid == 7 && key.has_secret(b"keys"));
    assert!(!order.key_for(cluster("other.example")).has_secret(b"keys"), "other clusters are not told it");
    // When the session has ended, its own replica knows that too.
    let key = CancelKey::new(issued.key.pid, issued.key.secret.to_vec());
    drop(issued);
    assert_eq!(judge_now(&mine, &key, CLIENT).await.unwrap_err(), CancelIgnored::Ended);
}

#[tokio::test(start_paused = true)]
async fn without_a_shared_secret_only_keys_of_live_sessions_reach_anyone() {
    let mine = replica(&CancelSecret::random());
    let issued = short(&mine, *b"keys");
    assert!(judge_now(&mine, &issued.key, CLIENT).await.is_ok());
    let mut wrong = issued.key.secret.to_vec();
    wrong[3] ^= 1;
    let wrong = CancelKey::new(7, wrong);
    assert_eq!(judge_now(&mine, &wrong, CLIENT).await.unwrap_err(), CancelIgnored::Forged);
    let stale = CancelKey::new(7, issued.key.secret.to_vec());
    drop(issued);
    assert_eq!(judge_now(&mine, &stale, CLIENT).await.unwrap_err(), CancelIgnored::Ended);
}

#[test]
fn a_server_whose_secret_does_not_fit_gives_the_client_no_key() {
    let keys = replica(&shared());
    assert!(keys.issue(target(1, 7, &[9; 212]), MinorVersion::V3_2, KeyScope::AnyReplica).is_some());
    assert!(keys.issue(target(1, 7, &[9; 213]), MinorVersion::V3_2, KeyScope::AnyReplica).is_none());
    assert!(keys.issue(target(1, 7, &[9; 5]), MinorVersion::V3_0, KeyScope::AnyReplica).is_none());
}

/// Guesses come as fast as they can, by many connections: a hundred a second are looked at, and none hits.
#[tokio::test(start_paused = true)]
async fn u6_guesses_are_rate_limited_and_never_match() {
    for (secret, free) in [(CancelSecret::random(), 5), (shared(), 200)] {
        let keys = replica(&secret);
        let _victim = short(&keys, random_bytes::<4>());
        let begun = Instant::now();
        let (mut looked_at, mut at_once) = (0, 0);
        for round in 0..20_u32 {
            let guesses = (0..1_000_u32).map(|n| {
                let (keys, guess) = (&keys, CancelKey::new(7, (round * 1_000 + n).to_be_bytes()));
                async move { judge(keys, &guess, CLIENT).await.map(|order| order.server()) }
            });
            for verdict in join_all(guesses).await {
                match verdict {
                    Err(CancelIgnored::LookUpBudget) => {}
                    Ok(None)
                    | Err(
                        CancelIgnored::Forged | CancelIgnored::WrongBudget | CancelIgnored::UnknownBudget,
                    ) => {
                        looked_at += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            at_once = at_once.max(looked_at - 100 * begun.elapsed().as_secs());
        }
        assert!(at_once <= free + 100, "{at_once} more than a hundred a second");
    }
    let keys = replica(&shared());
    let issued = keys.issue(target(1, 7, &[9; 32]), MinorVersion::V3_2, KeyScope::AnyReplica).unwrap();
    for n in 1..=100_000_u32 {
        // The tag of a good key, changed.
        let mut secret = issued.key.secret.to_vec();
        secret.iter_mut().rev().zip(n.to_be_bytes()).for_each(|(to, from)| *to ^= from);
        let verdict = keys.judge_long(&CancelKey::new(7, secret));
        assert!(matches!(verdict, Err(CancelIgnored::Forged)), "guess {n} hit");
    }
}

#[tokio::test(start_paused = true)]
async fn u6_a_key_reaches_no_other_session_when_process_ids_come_again() {
    let (secret, mut covers) = (shared(), BTreeSet::new());
    let (keys, other) = (replica(&secret), replica(&secret));
    for n in 0..10_000_u32 {
        advance(Duration::from_secs(1)).await;
        let old_secret = n.to_be_bytes();
        let old = short(&keys, old_secret);
        assert!(covers.insert(old.key.secret.to_vec()), "two secrets with one cover");
        let stale = CancelKey::new(7, old.key.secret.to_vec());
        drop(old);
        let next = keys
            .issue(target(2, 7, &(n + 1).to_be_bytes()), MinorVersion::V3_0, KeyScope::AnyReplica)
            .unwrap();
        assert_eq!(judge_now(&keys, &stale, CLIENT).await.unwrap_err(), CancelIgnored::Ended);
        let order = judge_now(&other, &stale, CLIENT).await.unwrap();
        assert!(key_of(&order).has_secret(&old_secret), "the next session's secret came out of the old key");
        assert_eq!(order.server(), None, "it is nobody's that is known here");
        let issued_keys = judge_now(&keys, &next.key, CLIENT).await.unwrap();
        assert_eq!(issued_keys.server(), Some(at(2)));
    }
}

/// Whatever strangers send from the same address, a right key is carried out.
#[tokio::test(start_paused = true)]
async fn u6_a_right_key_is_carried_out_after_any_number_of_wrong_ones() {
    for secret in [CancelSecret::random(), shared()] {
        let keys = replica(&secret);
        let issued = short(&keys, *b"keys");
        let long = keys.issue(target(1, 7, &[9; 32]), MinorVersion::V3_2, KeyScope::AnyReplica).unwrap();
        let strangers = (0..300).map(|n| {
            let keys = &keys;
            async move { judge(keys, &wrong(n), CLIENT).await.map(|order| order.server()) }
        });
        let forged = CancelKey::new(7, [7; 32]);
        let late = async {
            for _ in 0..1_000 {
                assert_eq!(judge_now(&keys, &forged, CLIENT).await.unwrap_err(), CancelIgnored::Forged);
            }
            let begun = Instant::now();
            assert!(judge_now(&keys, &long.key, CLIENT).await.is_ok(), "a sealed key is no guess");
            let elsewhere = "192.0.2.66".parse().unwrap();
            assert!(
                judge_now(&keys, &issued.key, elsewhere).await.is_ok(),
                "another source has its own budget"
            );
            assert!(judge(&keys, &issued.key, CLIENT).await.is_ok(), "it is only late");
            assert!(begun.elapsed() <= Duration::from_secs(3));
        };
        let (_, ()) = tokio::join!(join_all(strangers), late);
        advance(Duration::from_mins(1)).await;
        assert!(judge_now(&keys, &issued.key, CLIENT).await.is_ok(), "and the budget comes back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_live_or_an_ended_session_costs_its_source_nothing() {
    let secret = shared();
    for keys in [replica(&CancelSecret::random()), replica(&secret)] {
        for n in 0..1_000_u32 {
            let issued = short(&keys, n.to_be_bytes());
            assert!(judge_now(&keys, &issued.key, CLIENT).await.is_ok());
            let late = CancelKey::new(7, issued.key.secret.to_vec());
            drop(issued);
            assert_eq!(judge_now(&keys, &late, CLIENT).await.unwrap_err(), CancelIgnored::Ended);
        }
        for n in 0..5 {
            drop(judge_now(&keys, &wrong(n), CLIENT).await);
        }
    }
    // At another replica 200 pass at once and ten a second, as long as a cancel can wait.
    let keys = replica(&secret);
    let at_once = (0..400).map(|n| {
        let keys = &keys;
        async move { judge(keys, &wrong(n), CLIENT).await.map(drop) }
    });
    let verdicts = join_all(at_once).await;
    let passed = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
    assert!((235..=245).contains(&passed), "{passed}");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Ok(()) | Err(CancelIgnored::UnknownBudget))));
}

#[tokio::test(start_paused = true)]
async fn u4_a_key_of_one_session_ends_with_it_everywhere() {
    let secret = shared();
    let (mine, other) = (replica(&secret), replica(&secret));
    for (protocol, servers, length) in [
        (MinorVersion::V3_0, &b"keys"[..], 4),
        (MinorVersion::V3_2, &[9; 32], 32),
        (MinorVersion::V3_2, b"keys", 32),
    ] {
        let issue = || mine.issue(target(1, 7, servers), protocol, KeyScope::ThisSession).unwrap();
        let issued = issue();
        assert_eq!((issued.key.pid, issued.key.secret.len()), (7, length));
        let old = CancelKey::new(7, issued.key.secret.to_vec());
        let order = judge_now(&mine, &old, CLIENT).await.unwrap();
        assert!(order.server() == Some(at(1)) && key_of(&order).has_secret(servers));
        assert!(issued.retire().is_err(), "its server may still be told to cancel");
        let next = issue();
        assert_eq!(judge_now(&mine, &old, CLIENT).await.unwrap_err(), CancelIgnored::Ended);
        // Without a long secret another replica cannot know better than to ask everywhere, with a secret that is no server's.
        if let Ok(order) = judge_now(&other, &old, CLIENT).await {
            assert!(order.server().is_none() && !key_of(&order).has_secret(servers));
        }
        let target = next.retire().expect("nobody has used this key");
        assert!(target.addr == at(1).1 && target.key.has_secret(servers));
    }
}
