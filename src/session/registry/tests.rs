//! The registry: withdrawal of access, and the list of live sessions.

use std::time::Duration;

use super::*;
use crate::names::client_addr::ClientAddr;

fn person(issuer: &str, subject: &str, token_id: Option<&str>) -> Person {
    let token_id = token_id.map(str::to_owned);
    Person { issuer: issuer.to_owned(), subject: subject.to_owned(), token_id }
}

fn denied(issuer: Option<&str>, subjects: &[&str], token_ids: &[&str]) -> DeniedSettings {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    DeniedSettings {
        issuer: issuer.map(str::to_owned),
        subjects: owned(subjects),
        token_ids: owned(token_ids),
    }
}

#[test]
fn j14_people_are_denied_by_subject_or_token_at_one_issuer_or_all() {
    let registry = SessionRegistry::default();
    let alice = person("okta", "alice", Some("t1"));
    assert_eq!(registry.admits(&alice), Ok(()));
    for (list, is_denied) in [
        (denied(None, &["alice"], &[]), true),
        (denied(Some("okta"), &["bob", "alice"], &[]), true),
        (denied(Some("entra"), &["alice"], &["t1"]), false),
        (denied(None, &["t1", "Alice", "alic", ""], &["alice", "t2", ""]), false),
        (denied(None, &[], &["t1"]), true),
        (denied(None, &[], &[]), false),
    ] {
        registry.deny(vec![denied(Some("other"), &["alice"], &[]), list.clone()]);
        assert_eq!(registry.admits(&alice).is_err(), is_denied, "{list:?}");
    }
    registry.deny(vec![denied(None, &[], &["", "t1"])]);
    assert_eq!(registry.admits(&person("okta", "alice", None)), Ok(()), "a token without an id");
}

#[test]
fn j14_live_and_late_sessions_are_told_of_a_denial() {
    let registry = Arc::new(SessionRegistry::default());
    let enter = |subject: &str| {
        let out = CancellationToken::new();
        (registry.register(facts(person("okta", subject, None)), out.clone()), out)
    };
    let ((_alice, alice_out), (_bob, bob_out), (gone, gone_out)) =
        (enter("alice"), enter("bob"), enter("alice"));
    drop(gone);
    assert_eq!(registry.deny(vec![denied(None, &["alice"], &[])]), 1);
    assert!(alice_out.is_cancelled() && !bob_out.is_cancelled() && !gone_out.is_cancelled());
    assert!(enter("alice").1.is_cancelled() && !enter("bob").1.is_cancelled());
    assert_eq!(registry.list().len(), 2, "a session that has ended is listed");
    registry.deny(Vec::new());
    assert!(!enter("alice").1.is_cancelled());
}

fn facts(person: Person) -> SessionFacts {
    SessionFacts {
        id: SessionId::random(),
        person,
        cluster: "app".to_owned(),
        database: "app".to_owned(),
        db_user: "alice".to_owned(),
        client: ClientAddr::Tcp(([192, 0, 2, 1], 50_000).into()),
        listener: "main".to_owned(),
        protocol: DatabaseProtocol::PostgreSql,
        server: None,
        tls: Some("TLSv1.3"),
        application: None,
        since: SystemTime::UNIX_EPOCH,
    }
}

#[test]
fn live_sessions_are_listed_found_and_ended_by_id() {
    let registry = Arc::new(SessionRegistry::default());
    let enter = |seconds| {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let facts = SessionFacts { since, ..facts(person("okta", "alice", None)) };
        let end = CancellationToken::new();
        (facts.clone(), registry.register(facts, end.clone()), end)
    };
    let (late, late_entry, late_end) = enter(9);
    let (early, _early_entry, early_end) = enter(3);
    let listed: Vec<_> = registry.list().into_iter().map(|session| session.facts.id).collect();
    assert_eq!(listed, [early.id, late.id], "the oldest first");
    let found = registry.find(late.id).unwrap();
    assert_eq!((*found.facts).clone(), late);
    assert_eq!((found.state_word(), found.work), ("active", SessionWork::default()));
    assert!(registry.end(late.id) && late_end.is_cancelled() && !early_end.is_cancelled());
    assert!(registry.find(late.id).is_some(), "it is there until it has ended");
    drop(late_entry);
    assert!(registry.find(late.id).is_none() && !registry.end(late.id));
    assert!(!registry.end(SessionId::random()));
}

#[test]
fn the_sessions_of_a_subject_are_ended_at_one_issuer_or_all() {
    let registry = Arc::new(SessionRegistry::default());
    let enter = |issuer, subject| {
        let end = CancellationToken::new();
        (registry.register(facts(person(issuer, subject, Some("t"))), end.clone()), end)
    };
    let sessions =
        [enter("okta", "alice"), enter("okta", "alice"), enter("entra", "alice"), enter("okta", "bob")];
    let ended = || sessions.iter().map(|(_, end)| end.is_cancelled()).collect::<Vec<_>>();
    assert_eq!(registry.end_subject(None, "alic"), 0);
    assert_eq!(registry.end_subject(Some("okta"), "alice"), 2);
    assert_eq!(ended(), [true, true, false, false]);
    assert_eq!(registry.end_subject(None, "alice"), 3);
    assert_eq!(ended(), [true, true, true, false]);
}
