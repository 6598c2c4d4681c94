//! Refusals as bytes: fields, names, limits.

use super::*;
use crate::refusal::{ServerWords, Stage};

const BY_PASSWORD: &TokenMethod = &TokenMethod::Password;

fn of(user: &str) -> RefusedLogin<'_> {
    RefusedLogin { user, token_method: BY_PASSWORD }
}

fn verbatim(code: &str, message: &str, detail: &str, hint: Option<&str>) -> Refusal {
    let words = ServerWords { message: message.to_owned(), other: Vec::new() };
    Refusal::verbatim(Condition::ServerCode(code.to_owned()), words, detail, hint)
}

fn text(refusal: &Refusal, session: SessionId) -> String {
    String::from_utf8(encode(refusal, of("al"), session)[5..].to_vec()).unwrap()
}

#[test]
fn l8_every_refusal_names_its_stage_and_session() {
    let session = SessionId::random();
    let refusal = Refusal::authentication(Stage::Token, "it expired").hint("get one");
    let expected = format!(
        "SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"al\"\0\
         DStage token: it expired. Session {session}.\0Hget one\0\0"
    );
    let bytes = encode(&refusal, of("al"), session);
    assert_eq!(bytes[5..], *expected.as_bytes());
    assert_eq!(bytes[..5], [&b"E"[..], &crate::postgres::message::message_length(expected.len())].concat());
    assert!(
        text(&refusal.clone().note("our clock is wrong"), session).contains("Hget one our clock is wrong\0")
    );
}

#[test]
fn c11_only_the_asked_name_is_echoed_escaped_and_cut() {
    let said = message(&Condition::AuthenticationFailed, of("x\u{1b}[31m\"y"));
    assert_eq!(said, r#"password authentication failed for user "x\u{1b}[31m\"y""#);
    let long = message(&Condition::AuthenticationFailed, of(&"u".repeat(200)));
    assert_eq!(long.matches('u').count(), 63 + "authentication".matches('u').count() + 1);
}

#[test]
fn the_servers_own_words_stay_as_they_are() {
    let session = SessionId::random();
    let said = text(&verbatim("3D000", "database \"x\" does not exist", "", None), session);
    assert!(said.contains("C3D000\0Mdatabase \"x\" does not exist\0"), "{said}");
    assert!(said.contains(&format!("DStage upstream_login. Session {session}.\0")), "{said}");
    let said = text(&verbatim("53300", "sorry", "its detail.", Some("its hint")), session);
    assert!(said.contains(&format!(
        "C53300\0Msorry\0Dits detail. Stage upstream_login. Session {session}.\0Hits hint\0\0"
    )));
}

#[test]
fn other_fields_of_the_server_stand_behind_its_texts() {
    let session = SessionId::random();
    let with = |message: &str, other: Vec<(u8, String)>| {
        let words = ServerWords { message: message.to_owned(), other };
        Refusal::verbatim(Condition::ServerCode("3D000".into()), words, message, Some(message))
    };
    let other = vec![(b'W', "a trigger".to_owned()), (b'F', "postinit.c".to_owned())];
    let said = text(&with("no", other), session);
    assert!(said.ends_with("Hno\0Wa trigger\0Fpostinit.c\0\0"), "{said}");
    // Escapes can make every field ten times as long as its limit.
    let long = "x".repeat(10_000);
    let other = b"PpqWstcdnFLR"
        .map(|code| (code, if b"qW".contains(&code) { &long[..] } else { &long[..1_280] }.to_owned()))
        .to_vec();
    assert!(!text(&with(&long, other), session).is_empty());
}

#[test]
fn c11_what_libpq_would_not_read_is_not_written() {
    let session = SessionId::random();
    let with = |message: usize| {
        let condition = Condition::Unsupported("m".repeat(message));
        encode(&Refusal { condition, ..Refusal::internal(Stage::Signing) }, of(""), session).len()
    };
    let around = with(0);
    assert_eq!(with(limits::MAX_ERROR_RESPONSE - around), 30_000);
    assert_eq!(with(limits::MAX_ERROR_RESPONSE - around + 1), 0);
}
