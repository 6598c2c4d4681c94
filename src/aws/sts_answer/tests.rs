//! Answers that are not to what was asked, each differing from a good one in one thing.

use aws_sdk_sts::primitives::DateTime;

use super::*;
use crate::names::Subject;
use crate::secret::Jwt;

const NOW: i64 = 1_800_000_000;

fn assume() -> AssumeRoleRequest {
    AssumeRoleRequest {
        jwt: Jwt::new(b"x".to_vec()),
        issuer: Issuer::new("https://idp.example/"),
        subject: Subject::new("alice"),
        role: RoleArn::parse("arn:aws-cn:iam::123456789012:role/team/app").unwrap(),
        session_name: "alice-12345678".into(),
        policy: None,
        duration: Duration::from_mins(15),
    }
}

/// The parts of an answer, to be changed.
struct Parts {
    arn: String,
    id: String,
    key_id: String,
    secret: String,
    token: String,
    expires: i64,
}

fn good() -> Parts {
    Parts {
        arn: "arn:aws-cn:sts::123456789012:assumed-role/app/alice-12345678".into(),
        id: "AROAEXAMPLE:alice-12345678".into(),
        key_id: "ASIAEXAMPLEEXAMPLE12".into(),
        secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        token: "FwoGZXIvYXdzE+abc/def==".into(),
        expires: NOW + 900,
    }
}

fn fault(change: impl FnOnce(&mut Parts)) -> Option<&'static str> {
    let mut parts = good();
    change(&mut parts);
    let credentials = Credentials::builder()
        .access_key_id(parts.key_id)
        .secret_access_key(parts.secret)
        .session_token(parts.token)
        .expiration(DateTime::from_secs(parts.expires))
        .build()
        .unwrap();
    let user = AssumedRoleUser::builder().arn(parts.arn).assumed_role_id(parts.id).build().unwrap();
    judged(Output::builder().credentials(credentials).assumed_role_user(user).build())
}

fn judged(answer: Output) -> Option<&'static str> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.try_into().unwrap());
    match validate(answer, &assume(), now) {
        Ok(_) => None,
        Err(AttemptError::Finally(StsError::BadResponse(what)) | AttemptError::Unusable(what)) => Some(what),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_good_answer_is_believed() {
    assert_eq!(fault(|_| {}), None);
}

#[test]
fn p11_the_role_the_account_and_the_session_are_those_that_were_asked_for() {
    let other = Some("the credentials are for another role or session");
    for arn in [
        "",
        "arn:aws:sts::123456789012:assumed-role/app/alice-12345678",
        "arn:aws-cn:iam::123456789012:assumed-role/app/alice-12345678",
        "arn:aws-cn:sts::210987654321:assumed-role/app/alice-12345678",
        "arn:aws-cn:sts::123456789012:assumed-role/team/app/alice-12345678",
        "arn:aws-cn:sts::123456789012:assumed-role/App/alice-12345678",
        "arn:aws-cn:sts::123456789012:assumed-role/app/bob-12345678",
        "arn:aws-cn:sts::123456789012:assumed-role/app/alice-12345678x",
        "arn:aws-cn:sts::123456789012:federated-user/app/alice-12345678",
    ] {
        assert_eq!(fault(|parts| parts.arn = arn.into()), other, "{arn}");
    }
    for id in ["", "AROAEXAMPLE", "AROAEXAMPLE:bob-12345678", "alice-12345678"] {
        assert_eq!(fault(|parts| parts.id = id.into()), other, "{id}");
    }
    assert_eq!(judged(Output::builder().build()), Some("no AssumedRoleUser"));
    let user = AssumedRoleUser::builder().arn(good().arn).assumed_role_id(good().id).build().unwrap();
    assert_eq!(judged(Output::builder().assumed_role_user(user).build()), Some("no credentials"));
}

#[test]
fn p11_each_part_has_a_length_and_characters() {
    for (length, believed) in [(15, false), (16, true), (128, true), (129, false)] {
        assert_eq!(fault(|parts| parts.key_id = "A".repeat(length)).is_none(), believed, "{length}");
    }
    for id in [
        "",
        "ASIAEXAMPLE/EXAMPLE12",
        "ASIAEXAMPLE EXAMPLE12",
        "ASIAEXAMPLEEXAMPLE1\u{e9}",
        "ASIAEXAMPLE&DBUser=x",
    ] {
        assert_eq!(fault(|parts| parts.key_id = id.into()), Some("a malformed access key id"), "{id}");
    }
    for text in ["", "a b", "a\n", "\u{e9}", "\u{7f}"] {
        let (secret, token) =
            (fault(|parts| parts.secret = text.into()), fault(|parts| parts.token = text.into()));
        assert_eq!(secret, Some("a malformed secret access key"), "{text:?}");
        assert_eq!(token, Some("a malformed session token"), "{text:?}");
    }
    for (length, believed) in [(MAX_SESSION_TOKEN, true), (MAX_SESSION_TOKEN + 1, false)] {
        assert_eq!(fault(|parts| parts.token = "x".repeat(length)).is_none(), believed, "{length}");
    }
    for (length, believed) in [(MAX_SECRET, true), (MAX_SECRET + 1, false)] {
        assert_eq!(fault(|parts| parts.secret = "x".repeat(length)).is_none(), believed, "{length}");
    }
}

/// Five minutes more than asked for, for the clocks.
#[test]
fn p11_an_expiration_lies_between_now_and_what_was_asked_for() {
    for (seconds, believed) in [(-1, false), (0, true), (900, true), (900 + 300, true), (900 + 301, false)] {
        assert_eq!(fault(|parts| parts.expires = NOW + seconds).is_none(), believed, "{seconds} s");
    }
    assert!(fault(|parts| parts.expires = i64::MAX).is_some());
}
