//! A refusal as bytes: the only writer of ErrorResponse, and of the one NoticeResponse.

use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use super::limits;
use super::message::put;
use crate::names::SessionId;
use crate::refusal::Refusal;

/// The ErrorResponse for `refusal`. Severity is FATAL; the session id stands in DETAIL, so that whoever runs
/// the proxy can find the log line of this connection.
pub fn encode(refusal: &Refusal, session: SessionId) -> BytesMut {
    let detail = match (refusal.verbatim, refusal.detail.is_empty()) {
        (true, true) => format!("Stage {}. Session {session}.", refusal.stage.word()),
        (true, false) => {
            format!("{} Stage {}. Session {session}.", refusal.detail, refusal.stage.word())
        }
        (false, _) => {
            format!("Stage {}: {}. Session {session}.", refusal.stage.word(), refusal.detail)
        }
    };
    let mut fields = vec![
        (b'S', "FATAL".to_owned()),
        (b'V', "FATAL".to_owned()),
        (b'C', refusal.sqlstate.clone()),
        (b'M', refusal.message.clone()),
        (b'D', detail),
    ];
    fields.extend(refusal.hint.clone().map(|hint| (b'H', hint)));
    fields.extend(refusal.other.iter().cloned());
    let mut out = BytesMut::new();
    // Texts are cut where they are made; were they not, a client is better served by silence than by bytes
    // it reads as another protocol.
    if put(&ErrorResponse::new(fields), &mut out).is_err() || out.len() > limits::MAX_ERROR_RESPONSE {
        out.clear();
    }
    out
}

/// The NoticeResponse that tells when the session's token expires. SQLSTATE 01000 is a plain warning
/// (PostgreSQL manual, appendix A).
pub fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut {
    let left = expires.duration_since(now).unwrap_or_default();
    let message = match left.as_secs() {
        0 => "the token of this session has expired".to_owned(),
        seconds => {
            let left = humantime::format_duration(Duration::from_secs(seconds));
            format!("the token of this session expires in {left}")
        }
    };
    let fields = vec![
        (b'S', "NOTICE".to_owned()),
        (b'V', "NOTICE".to_owned()),
        (b'C', "01000".to_owned()),
        (b'M', message),
        (b'D', format!("Session {session}.")),
        (b'H', "Get a fresh token from your identity provider for the next connection.".to_owned()),
    ];
    let mut out = BytesMut::new();
    if put(&NoticeResponse::new(fields), &mut out).is_err() {
        out.clear(); // texts of ours, so it is never
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Stage;

    #[test]
    fn l8_every_refusal_names_its_stage_and_session() {
        let session = SessionId::random();
        let bytes =
            encode(&Refusal::authentication("al", Stage::Token, "it expired").hint("get one"), session);
        let expected = format!(
            "SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"al\"\0\
             DStage token: it expired. Session {session}.\0Hget one\0\0"
        );
        assert_eq!(bytes[5..], *expected.as_bytes());
        assert_eq!(
            bytes[..5],
            [&b"E"[..], &crate::postgres::message::message_length(expected.len())].concat()
        );
    }

    #[test]
    fn the_servers_own_words_stay_as_they_are() {
        let session = SessionId::random();
        let refusal = Refusal::verbatim("3D000", "database \"x\" does not exist", "", None);
        let text = String::from_utf8(encode(&refusal, session).to_vec()).unwrap();
        assert!(text.contains("Mdatabase \"x\" does not exist\0"), "{text}");
        assert!(text.contains(&format!("DStage upstream_login. Session {session}.\0")), "{text}");
        let refusal = Refusal::verbatim("53300", "sorry", "its detail.", Some("its hint"));
        let text = String::from_utf8(encode(&refusal, session).to_vec()).unwrap();
        assert!(text.contains(&format!(
            "C53300\0Msorry\0Dits detail. Stage upstream_login. Session {session}.\0Hits hint\0\0"
        )));
    }

    #[test]
    fn other_fields_of_the_server_stand_behind_its_texts() {
        let session = SessionId::random();
        let other = [(b'W', "a trigger".to_owned()), (b'F', "postinit.c".to_owned())];
        let refusal = Refusal::verbatim("3D000", "no", "", Some("hint")).with_fields(&other);
        let text = String::from_utf8(encode(&refusal, session).to_vec()).unwrap();
        assert!(text.ends_with("Hhint\0Wa trigger\0Fpostinit.c\0\0"), "{text}");
        // Escapes can make every field ten times as long as its limit.
        let long = "x".repeat(10_000);
        let other: Vec<_> = b"PpqWstcdnFLR"
            .map(|code| (code, if b"qW".contains(&code) { &long[..] } else { &long[..1_280] }.to_owned()))
            .to_vec();
        let refusal = Refusal::verbatim("3D000", &long, &long, Some(&long)).with_fields(&other);
        assert!(!encode(&refusal, session).is_empty());
    }

    #[test]
    fn c11_what_libpq_would_not_read_is_not_written() {
        let session = SessionId::random();
        let with = |message: usize| {
            let refusal = Refusal { message: "m".repeat(message), ..Refusal::internal(Stage::Signing) };
            encode(&refusal, session).len()
        };
        let around = with(0);
        assert_eq!(with(limits::MAX_ERROR_RESPONSE - around), 30_000);
        assert_eq!(with(limits::MAX_ERROR_RESPONSE - around + 1), 0);
    }
}
