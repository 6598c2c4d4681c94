//! Every limit at its number and one past it.

use super::*;

const OPEN: DoorLimits = DoorLimits { clients: 100, logins: 100 };
const NONE: SessionCeilings = SessionCeilings { per_user: None, per_cluster: None, group: None };

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Lets `count` connections in.
fn seats(counts: &Counts, count: usize, limits: &DoorLimits) -> Vec<Place> {
    let places: Vec<_> = (0..count).map(|_| counts.admit(limits).unwrap()).collect();
    assert!(places.iter().all(|place| matches!(place, Place::Seat(_))), "{places:?}");
    places
}

fn refused(place: Option<Place>) -> Full {
    match place {
        Some(Place::Standing(Standing { why: NoPlace::Full(full), .. })) => full,
        other => panic!("{other:?}"),
    }
}

fn full(result: Result<SessionPlace, NoPlace>) -> Full {
    match result {
        Err(NoPlace::Full(full)) => full,
        other => panic!("{other:?}"),
    }
}

#[test]
fn c7_one_client_past_the_limit_has_no_seat_until_another_leaves() {
    let counts = Counts::default();
    let limits = DoorLimits { clients: 3, ..OPEN };
    let mut places = seats(&counts, 3, &limits);
    let full = refused(counts.admit(&limits));
    assert_eq!(full, Full { of: Whose::Clients, max: 3 });
    places.pop();
    assert_eq!(counts.clients(), 2);
    assert!(matches!(counts.admit(&limits), Some(Place::Seat(_))));
}

#[test]
fn c7_one_login_past_the_limit_waits_for_a_good_token_or_an_end() {
    let counts = Counts::default();
    let limits = DoorLimits { logins: 2, ..OPEN };
    let mut places = seats(&counts, 2, &limits);
    assert_eq!(refused(counts.admit(&limits)), Full { of: Whose::Logins, max: 2 });
    let Place::Seat(seat) = &mut places[0] else { unreachable!() };
    seat.verified();
    let third = counts.admit(&limits);
    assert!(matches!(third, Some(Place::Seat(_))));
    assert_eq!(refused(counts.admit(&limits)).of, Whose::Logins);
    drop(places);
    assert_eq!(counts.clients(), 1, "what was refused holds no seat");
}

#[test]
fn c8_logins_of_one_address_are_limited_and_others_are_not() {
    let counts = Counts::default();
    let admit = |from: &str| {
        let mut place = counts.admit(&OPEN)?;
        counts.locate(&mut place, ip(from), Some(2)).ok().map(|()| place)
    };
    for (first, second, third, other) in [
        ("192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::3", "2001:db8:0:2::1"),
    ] {
        let (one, _two) = (admit(first), admit(second));
        assert_eq!(refused(admit(third)), Full { of: Whose::Address, max: 2 });
        assert!(matches!(admit(other), Some(Place::Seat(_))), "{other}");
        drop(one);
        assert!(matches!(admit(third), Some(Place::Seat(_))), "{third}");
    }
    assert_eq!(counts.clients(), 0);
    assert!(counts.sources.lock().is_empty(), "nobody holds a place, and something is remembered");
}

#[test]
fn c7_even_saying_no_has_a_limit() {
    let counts = Counts::default();
    let limits = DoorLimits { clients: 1, ..OPEN };
    let _seat = counts.admit(&limits);
    let mut told: Vec<_> = (0..MAX_REFUSALS).map(|_| counts.admit(&limits).unwrap()).collect();
    assert!(counts.admit(&limits).is_none());
    assert!(counts.refuse(NoPlace::Stopping).is_none());
    let mut crowded = Place::Seat(counts.seat(&OPEN).unwrap());
    assert_eq!(counts.locate(&mut crowded, ip("10.0.0.2"), Some(0)), Err(Unheard));
    told.pop();
    assert!(counts.refuse(NoPlace::Stopping).is_some());
}

fn users() -> [DbUser; 2] {
    ["alice", "bob"].map(|user| DbUser::parse(user).unwrap())
}

#[test]
fn u7_sessions_of_one_person_are_limited_in_all_clusters_together() {
    let counts = Counts::default();
    let limits = SessionCeilings { per_user: Some(2), ..NONE };
    let [alice, bob] = users();
    let one = counts.session("app", ("idp", "1"), &alice, &limits).unwrap();
    let two = counts.session("other", ("idp", "1"), &bob, &limits).unwrap();
    let full = full(counts.session("app", ("idp", "1"), &alice, &limits));
    assert_eq!(full, Full { of: Whose::User(alice.clone()), max: 2 });
    // Other people with the same database user, and those with the same subject of another issuer.
    counts.session("app", ("idp", "2"), &alice, &limits).unwrap();
    counts.session("app", ("other", "1"), &alice, &limits).unwrap();
    drop(one);
    let again = counts.session("app", ("idp", "1"), &alice, &limits).unwrap();
    drop((again, two));
    assert!(counts.people.lock().is_empty() && counts.clusters.lock().is_empty());
}

#[test]
fn u7_sessions_of_one_cluster_are_limited_whoever_has_them() {
    let counts = Counts::default();
    let limits = SessionCeilings { per_cluster: Some(1), ..NONE };
    let [alice, bob] = users();
    let _one = counts.session("app", ("idp", "1"), &alice, &limits).unwrap();
    let full = full(counts.session("app", ("idp", "2"), &bob, &limits));
    assert_eq!(full, Full { of: Whose::Cluster("app".into()), max: 1 });
    counts.session("other", ("idp", "2"), &bob, &limits).unwrap();
}

/// A ceiling that a reload lowers below what is taken lets nobody new in and throws nobody out.
#[test]
fn a_lowered_limit_waits_until_enough_have_left() {
    let counts = Counts::default();
    let mut places = seats(&counts, 3, &OPEN);
    let lowered = DoorLimits { clients: 2, ..OPEN };
    for _ in 0..2 {
        refused(counts.admit(&lowered));
        places.pop();
    }
    assert!(matches!(counts.admit(&lowered), Some(Place::Seat(_))));
}
