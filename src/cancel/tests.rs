//! Keys that come back to this process or to another one, and keys that nobody gave out.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

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

fn target(n: u8, pid: i32, secret: &[u8]) -> Target {
    let (cluster, addr) = at(n);
    Target { cluster, addr, key: CancelKey::new(pid, secret) }
}

fn at(n: u8) -> (ClusterId, SocketAddr) {
    (cluster("db.example:5432"), SocketAddr::from(([10, 0, 0, n], 5432)))
}

/// The key for servers of the usual cluster.
fn key_of(order: &Order) -> CancelKey {
    order.key_for(cluster("db.example"))
}

#[test]
fn a_long_key_leads_any_replica_to_the_one_server() {
    let (secret, now) = (shared(), Instant::now());
    let (mine, other) = (replica(&secret), replica(&secret));
    let issued = mine.issue(target(1, 7, &[9; 32]), Protocol::V3_2, Reach::AnyReplica).unwrap();
    for replica in [&mine, &other] {
        let order = replica.judge(&issued.key, CLIENT, now).unwrap();
        assert_eq!(order.server(), Some(at(1)));
        let key = key_of(&order);
        assert!(key.pid == 7 && key.has_secret(&[9; 32]));
    }
    let stranger = replica(&CancelSecret::random());
    assert_eq!(stranger.judge(&issued.key, CLIENT, now).unwrap_err(), Ignored::Forged);
}

#[test]
fn a_short_key_leads_its_replica_to_the_one_server_and_others_to_all() {
    let (secret, now) = (shared(), Instant::now());
    let (mine, other) = (replica(&secret), replica(&secret));
    let issued = mine.issue(target(1, 7, b"keys"), Protocol::V3_0, Reach::AnyReplica).unwrap();
    assert_eq!((issued.key.pid, issued.key.secret.len()), (7, 4));
    assert!(!issued.key.has_secret(b"keys"), "the server's secret is not the client's");
    let order = mine.judge(&issued.key, CLIENT, now).unwrap();
    assert_eq!(order.server(), Some(at(1)));
    let order = other.judge(&issued.key, CLIENT, now).unwrap();
    assert_eq!(order.server(), None);
    let key = key_of(&order);
    assert!(key.pid == 7 && key.has_secret(b"keys"));
    assert!(!order.key_for(cluster("other.example")).has_secret(b"keys"), "other clusters are not told it");
    // When the session has ended, its own replica knows no more than the others.
    let key = CancelKey::new(issued.key.pid, issued.key.secret.to_vec());
    drop(issued);
    assert_eq!(mine.judge(&key, CLIENT, now).unwrap().server(), None);
}

#[test]
fn without_a_shared_secret_only_keys_of_live_sessions_reach_anyone() {
    let (mine, now) = (replica(&CancelSecret::random()), Instant::now());
    let issued = mine.issue(target(1, 7, b"keys"), Protocol::V3_0, Reach::AnyReplica).unwrap();
    assert!(mine.judge(&issued.key, CLIENT, now).is_ok());
    let mut wrong = issued.key.secret.to_vec();
    wrong[3] ^= 1;
    assert_eq!(mine.judge(&CancelKey::new(7, wrong), CLIENT, now).unwrap_err(), Ignored::Forged);
    let stale = CancelKey::new(7, issued.key.secret.to_vec());
    drop(issued);
    assert_eq!(mine.judge(&stale, CLIENT, now).unwrap_err(), Ignored::Forged);
}

#[test]
fn a_server_whose_secret_does_not_fit_gives_the_client_no_key() {
    let keys = replica(&shared());
    assert!(keys.issue(target(1, 7, &[9; 212]), Protocol::V3_2, Reach::AnyReplica).is_some());
    assert!(keys.issue(target(1, 7, &[9; 213]), Protocol::V3_2, Reach::AnyReplica).is_none());
    assert!(keys.issue(target(1, 7, &[9; 5]), Protocol::V3_0, Reach::AnyReplica).is_none());
}

#[test]
fn u6_a_million_guesses_never_hit_and_are_cut_long_before() {
    // A guess every millisecond, none twice, by one source, against a victim whose process id is known.
    for (secret, most) in [(CancelSecret::random(), 0), (shared(), 1_020)] {
        let (keys, start) = (replica(&secret), Instant::now());
        let _victim =
            keys.issue(target(1, 7, &random_bytes::<4>()), Protocol::V3_0, Reach::AnyReplica).unwrap();
        let (mut asked, mut delivered) = (0, 0);
        for n in 0..1_000_000_u32 {
            let guess = CancelKey::new(7, n.to_be_bytes());
            match keys.judge(&guess, CLIENT, start + Duration::from_millis(n.into())) {
                Ok(order) => {
                    assert_eq!(order.server(), None, "guess {n} hit");
                    delivered += 1;
                }
                Err(Ignored::TooOften) => {}
                Err(Ignored::Forged) => asked += 1,
                Err(other) => panic!("{other}"),
            }
        }
        // A thousand seconds hold 5 wrong keys a minute, or 1 unknown a second, and the burst before.
        assert!(asked <= 88 && delivered <= most, "{asked} were looked at, {delivered} delivered");
    }
    let keys = replica(&shared());
    let issued = keys.issue(target(1, 7, &[9; 32]), Protocol::V3_2, Reach::AnyReplica).unwrap();
    let start = Instant::now();
    for n in 1..=1_000_000_u32 {
        // The tag of a good key, changed.
        let mut secret = issued.key.secret.to_vec();
        secret.iter_mut().rev().zip(n.to_be_bytes()).for_each(|(to, from)| *to ^= from);
        let at = start + Duration::from_millis(n.into());
        let verdict = keys.judge(&CancelKey::new(7, secret), CLIENT, at);
        assert!(matches!(verdict, Err(Ignored::Forged | Ignored::TooOften)), "guess {n} hit");
    }
}

#[test]
fn u6_a_key_reaches_no_other_session_when_process_ids_come_again() {
    let keys = replica(&shared());
    let mut now = Instant::now();
    let mut covers = BTreeSet::new();
    for n in 0..10_000_u32 {
        now += Duration::from_secs(1);
        let old_secret = n.to_be_bytes();
        let old = keys.issue(target(1, 7, &old_secret), Protocol::V3_0, Reach::AnyReplica).unwrap();
        assert!(covers.insert(old.key.secret.to_vec()), "two secrets with one cover");
        let stale = CancelKey::new(7, old.key.secret.to_vec());
        drop(old);
        let next =
            keys.issue(target(2, 7, &(n + 1).to_be_bytes()), Protocol::V3_0, Reach::AnyReplica).unwrap();
        let order = keys.judge(&stale, CLIENT, now).unwrap();
        assert!(key_of(&order).has_secret(&old_secret), "the next session's secret came out of the old key");
        assert_eq!(order.server(), None, "it is nobody's that is known here");
        let live = keys.judge(&next.key, CLIENT, now).unwrap();
        assert_eq!(live.server(), Some(at(2)));
    }
}

#[test]
fn one_source_cannot_use_up_what_others_need() {
    let (keys, now) = (replica(&shared()), Instant::now());
    let issued = keys.issue(target(1, 7, b"keys"), Protocol::V3_0, Reach::AnyReplica).unwrap();
    let long = keys.issue(target(1, 7, &[9; 32]), Protocol::V3_2, Reach::AnyReplica).unwrap();
    let hostile: IpAddr = "192.0.2.66".parse().unwrap();
    for n in 0..20 {
        let forged = CancelKey::new(7, [n; 32]);
        assert_eq!(keys.judge(&forged, hostile, now).unwrap_err(), Ignored::Forged);
    }
    assert_eq!(keys.judge(&long.key, hostile, now).unwrap_err(), Ignored::TooOften, "the 21st in a second");
    let later = now + Duration::from_millis(100);
    assert_eq!(
        keys.judge(&issued.key, hostile, later).unwrap_err(),
        Ignored::TooOften,
        "it was wrong too often"
    );
    assert!(keys.judge(&long.key, hostile, later).is_ok(), "a sealed key is no guess");
    assert!(keys.judge(&issued.key, CLIENT, now).is_ok(), "another source has its own budget");
    let patience = now + Duration::from_secs(12);
    assert!(keys.judge(&issued.key, hostile, patience).is_ok(), "and the first one's comes back");
}

#[test]
fn cancels_under_way_are_limited_by_kind() {
    let (keys, now) = (replica(&shared()), Instant::now());
    let issued = keys.issue(target(1, 7, b"keys"), Protocol::V3_0, Reach::AnyReplica).unwrap();
    let from = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
    let unknown = CancelKey::new(8, *b"????");
    let mut strangers: Vec<_> =
        (0..MAX_UNPROVEN).map(|n| keys.judge(&unknown, from(n), now).unwrap()).collect();
    assert_eq!(keys.judge(&unknown, from(99), now).unwrap_err(), Ignored::TooMany);
    let owners: Vec<_> = (0..MAX_PROVEN).map(|n| keys.judge(&issued.key, from(n), now).unwrap()).collect();
    assert_eq!(keys.judge(&issued.key, from(99), now).unwrap_err(), Ignored::TooMany);
    strangers.pop();
    drop(owners);
    assert!(keys.judge(&unknown, from(99), now).is_ok() && keys.judge(&issued.key, from(99), now).is_ok());
}

/// With connections that serve one session after the other, an old key is no key.
#[test]
fn u4_a_key_of_one_session_ends_with_it_everywhere() {
    let (secret, now) = (shared(), Instant::now());
    let (mine, other) = (replica(&secret), replica(&secret));
    for (protocol, servers, length) in
        [(Protocol::V3_0, &b"keys"[..], 4), (Protocol::V3_2, &[9; 32], 32), (Protocol::V3_2, b"keys", 32)]
    {
        let issue = || mine.issue(target(1, 7, servers), protocol, Reach::ThisSession).unwrap();
        let issued = issue();
        assert_eq!((issued.key.pid, issued.key.secret.len()), (7, length));
        let old = CancelKey::new(7, issued.key.secret.to_vec());
        let order = mine.judge(&old, CLIENT, now).unwrap();
        assert!(order.server() == Some(at(1)) && key_of(&order).has_secret(servers));
        assert!(issued.retire().is_err(), "its server may still be told to cancel");
        let next = issue();
        for replica in [&mine, &other] {
            // Without a long secret nobody can know better than to ask everywhere, with a secret that is no server's.
            if let Ok(order) = replica.judge(&old, CLIENT, now) {
                assert!(order.server().is_none() && !key_of(&order).has_secret(servers));
            }
        }
        let target = next.retire().expect("nobody has used this key");
        assert!(target.addr == at(1).1 && target.key.has_secret(servers));
    }
}
