//! Every limit at its number and one past it.

use std::time::Duration;

use futures_util::FutureExt;

use std::net::IpAddr;

use super::*;

/// Nobody in particular.
fn anyone() -> Source {
    ip("192.0.2.99").into()
}

const OPEN: LimitSettings = LimitSettings {
    client_login_timeout: Duration::from_secs(15),
    login_timeout: Duration::from_mins(1),
    server_connect_timeout: Duration::from_secs(10),
    max_client_conn: 100,
    max_user_client_connections: None,
    max_logins: 100,
    max_logins_per_address: None,
    shutdown_delay: Duration::ZERO,
    shutdown_timeout: Duration::ZERO,
};
const NONE: SessionQuotas = SessionQuotas { per_user: None, per_cluster: None, group: None };

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Lets `count` connections in.
fn seats(counts: &PermitCounters, count: usize, limits: &LimitSettings) -> Vec<ConnectionAdmission> {
    let places: Vec<_> = (0..count).map(|_| counts.admit(limits, anyone()).0.unwrap()).collect();
    assert!(places.iter().all(|admission| matches!(admission, ConnectionAdmission::Login(_))), "{places:?}");
    places
}

fn refused(admission: Option<ConnectionAdmission>) -> LimitReached {
    match admission {
        Some(ConnectionAdmission::Refusal(RefusalPermit {
            why: AdmissionError::LimitReached(full), ..
        })) => full,
        other => panic!("{other:?}"),
    }
}

#[test]
fn c7_one_client_past_the_limit_is_refused_until_another_leaves() {
    let counts = PermitCounters::default();
    let limits = LimitSettings { max_client_conn: 3, ..OPEN };
    let mut places = seats(&counts, 3, &limits);
    let full = refused(counts.admit(&limits, anyone()).0);
    assert_eq!(full, LimitReached { scope: LimitScope::Clients, max: 3 });
    places.pop();
    assert_eq!(counts.clients(), 2);
    assert!(matches!(counts.admit(&limits, anyone()).0, Some(ConnectionAdmission::Login(_))));
}

#[test]
fn c7_one_login_past_the_limit_waits_for_a_good_token_or_an_end() {
    let counts = PermitCounters::default();
    let limits = LimitSettings { max_logins: 2, ..OPEN };
    let mut places = seats(&counts, 2, &limits);
    assert_eq!(
        refused(counts.admit(&limits, anyone()).0),
        LimitReached { scope: LimitScope::Logins, max: 2 }
    );
    places[0].verified().unwrap();
    let third = counts.admit(&limits, anyone()).0;
    assert!(matches!(third, Some(ConnectionAdmission::Login(_))));
    assert_eq!(refused(counts.admit(&limits, anyone()).0).scope, LimitScope::Logins);
    drop(places);
    assert_eq!(counts.clients(), 1, "what was refused holds no seat");
}

#[test]
fn c8_logins_of_one_address_are_limited_and_others_are_not() {
    let counts = PermitCounters::default();
    let admit = |from: &str| {
        let mut admission = counts.admit(&OPEN, anyone()).0?;
        counts.attach_source(&mut admission, ip(from).into(), Some(2)).ok().map(|()| admission)
    };
    for (first, second, third, other) in [
        ("192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::3", "2001:db8:0:2::1"),
    ] {
        let (one, _two) = (admit(first), admit(second));
        assert_eq!(refused(admit(third)), LimitReached { scope: LimitScope::Address, max: 2 });
        assert!(matches!(admit(other), Some(ConnectionAdmission::Login(_))), "{other}");
        drop(one);
        assert!(matches!(admit(third), Some(ConnectionAdmission::Login(_))), "{third}");
    }
    assert_eq!(counts.clients(), 0);
    assert!(counts.sources.lock().is_empty(), "nobody holds a place, and something is remembered");
}

#[test]
fn c7_refusals_have_a_limit() {
    let counts = PermitCounters::default();
    let limits = LimitSettings { max_client_conn: 1, ..OPEN };
    let _seat = counts.admit(&limits, anyone()).0;
    let mut told: Vec<_> = (0..MAX_REFUSALS).map(|_| counts.admit(&limits, anyone()).0.unwrap()).collect();
    assert!(counts.admit(&limits, anyone()).0.is_none());
    assert!(counts.refuse(AdmissionError::Descriptors, anyone()).is_none());
    let mut crowded = ConnectionAdmission::Login(counts.login_permit(&OPEN, anyone()).unwrap().0);
    assert_eq!(counts.attach_source(&mut crowded, ip("192.0.2.99").into(), Some(0)), Err(ClosedSilently));
    told.pop();
    assert!(counts.refuse(AdmissionError::Descriptors, anyone()).is_some());
}

/// Whose turn it is, is up to the session; a connection that nobody has looked at yet waits for the proxy.
fn silent(places: &[ConnectionAdmission]) {
    for admission in places {
        admission.step(EvictionStep::Client);
    }
}

fn is_evicted(admission: &ConnectionAdmission) -> bool {
    admission.evicted().received().now_or_never().is_some()
}

#[test]
fn c7_a_silent_login_makes_room_and_a_verified_one_does_not() {
    let counts = PermitCounters::default();
    for limits in
        [LimitSettings { max_logins: 3, ..OPEN }, LimitSettings { max_client_conn: 4, max_logins: 3, ..OPEN }]
    {
        let mut places = seats(&counts, 1, &limits);
        places[0].verified().unwrap();
        places.extend(seats(&counts, 3, &limits));
        silent(&places);
        let clients = counts.clients();
        let (next, evicted) = counts.admit(&limits, ip("192.0.2.1").into());
        assert!(matches!(next, Some(ConnectionAdmission::Login(_))), "{next:?}");
        assert_eq!(evicted, Some(EvictedConnection { source: anyone(), left: 2 }));
        let gone: Vec<_> = places.iter().map(is_evicted).collect();
        assert_eq!(gone, [false, true, false, false]);
        assert_eq!(counts.clients(), clients, "its place is the next one's");
        let error = places[1].verified().unwrap_err();
        assert_eq!(
            error,
            AdmissionError::LimitReached(LimitReached { scope: LimitScope::Logins, max: 3 }),
            "it comes too late"
        );
        drop(places);
        assert_eq!(counts.clients(), 1);
        drop(next);
        assert_eq!(counts.clients(), 0);
    }
}

#[test]
fn c7_a_refused_client_that_stays_is_evicted_for_a_newer_refusal() {
    let counts = PermitCounters::default();
    let limits = LimitSettings { max_client_conn: 1, ..OPEN };
    let mut places = seats(&counts, 1, &limits);
    places.extend((0..=MAX_REFUSALS).map(|number| {
        let admission = counts.admit(&limits, anyone()).0.unwrap_or_else(|| panic!("no place for {number}"));
        admission.step(EvictionStep::Client);
        admission
    }));
    let gone: Vec<_> = (0..places.len()).filter(|admission| is_evicted(&places[*admission])).collect();
    assert_eq!(gone, [1]);
    // One that is found to be one too many of its address can be evicted as before.
    drop(places);
    let mut admission = ConnectionAdmission::Login(counts.login_permit(&OPEN, anyone()).unwrap().0);
    let signal = admission.evicted();
    counts.attach_source(&mut admission, ip("10.0.0.2").into(), Some(0)).unwrap();
    let others: Vec<_> = (0..MAX_REFUSALS)
        .map(|_| {
            let admission = counts.refuse(AdmissionError::Descriptors, ip("10.0.0.2").into()).unwrap();
            admission.step(EvictionStep::Client);
            admission
        })
        .collect();
    drop(others);
    assert!(signal.received().now_or_never().is_some());
}

/// Nobody comes in for another above a ceiling that was lowered.
#[test]
fn c7_above_a_lowered_limit_no_client_is_evicted() {
    let counts = PermitCounters::default();
    let places = seats(&counts, 3, &OPEN);
    silent(&places);
    let lowered = LimitSettings { max_client_conn: 2, ..OPEN };
    assert_eq!(refused(counts.admit(&lowered, ip("192.0.2.1").into()).0).scope, LimitScope::Clients);
    assert!(!places.iter().any(is_evicted));
}

fn users() -> [DbUser; 2] {
    ["alice", "bob"].map(|user| DbUser::parse(user).unwrap())
}

#[test]
fn u7_sessions_of_one_person_are_limited_in_all_clusters_together() {
    let counts = PermitCounters::default();
    let limits = SessionQuotas { per_user: Some(2), ..NONE };
    let (app, other) = (counts.cluster("app"), counts.cluster("other"));
    let [alice, bob] = users();
    let one = counts.session(&app, ("idp", "1"), &alice, &limits).unwrap();
    let two = counts.session(&other, ("idp", "1"), &bob, &limits).unwrap();
    let full = counts.session(&app, ("idp", "1"), &alice, &limits).unwrap_err();
    assert_eq!(full, LimitReached { scope: LimitScope::User(alice.clone()), max: 2 });
    // Other people with the same database user, and those with the same subject of another issuer.
    counts.session(&app, ("idp", "2"), &alice, &limits).unwrap();
    counts.session(&app, ("other", "1"), &alice, &limits).unwrap();
    drop(one);
    let again = counts.session(&app, ("idp", "1"), &alice, &limits).unwrap();
    drop((again, two));
    assert!(counts.people.lock().is_empty());
    assert_eq!((app.sessions.now(), other.sessions.now()), (0, 0));
}

#[test]
fn u7_sessions_of_one_cluster_are_limited_over_all_people() {
    let counts = PermitCounters::default();
    let limits = SessionQuotas { per_cluster: Some(1), ..NONE };
    let (app, other) = (counts.cluster("app"), counts.cluster("other"));
    let [alice, bob] = users();
    let _one = counts.session(&app, ("idp", "1"), &alice, &limits).unwrap();
    let full = counts.session(&app, ("idp", "2"), &bob, &limits).unwrap_err();
    assert_eq!(full, LimitReached { scope: LimitScope::Cluster("app".into()), max: 1 });
    counts.session(&other, ("idp", "2"), &bob, &limits).unwrap();
}

/// A reload that takes a cluster away and one that brings it back do not forget the sessions between them.
#[test]
fn the_sessions_of_a_cluster_are_counted_until_the_last_has_left() {
    let counts = PermitCounters::default();
    let limits = SessionQuotas { group: Some(("team".into(), 1)), per_cluster: Some(2), ..NONE };
    let [alice, bob] = users();
    let login = |subject| counts.session(&counts.cluster("app"), ("idp", subject), &alice, &limits);
    let one = login("1").unwrap();
    assert_eq!(login("2").unwrap_err().scope, LimitScope::Group("team".into()));
    let other = counts.session(&counts.cluster("other"), ("idp", "2"), &bob, &limits);
    assert!(other.is_ok(), "a group is one cluster's");
    assert_eq!(counts.cluster("app").sessions.now(), 1);
    drop(one);
    login("2").unwrap();
    drop(other);
    counts.cluster("third");
    assert_eq!(counts.clusters.lock().unwrap().len(), 1, "a cluster without sessions is remembered");
}

/// A ceiling that a reload lowers below what is taken lets nobody new in and throws nobody out.
#[test]
fn a_lowered_limit_waits_until_enough_have_left() {
    let counts = PermitCounters::default();
    let mut places = seats(&counts, 3, &OPEN);
    let lowered = LimitSettings { max_client_conn: 2, ..OPEN };
    for _ in 0..2 {
        refused(counts.admit(&lowered, anyone()).0);
        places.pop();
    }
    assert!(matches!(counts.admit(&lowered, anyone()).0, Some(ConnectionAdmission::Login(_))));
}
