//! The login exchange against a scripted server.

use tokio::io::{AsyncReadExt, duplex};

use super::*;
use crate::protocol::{ServerLoginError, Shortage};

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &message_length(body.len())[..], body].concat()
}

fn startup() -> StartupParams {
    let pairs = b"user\0asked\0database\0asked\0options\0-c a=b\0application_name\0x\0\0";
    StartupParams::parse(&[b"\0\x03\0\0", &pairs[..]].concat()).unwrap()
}

/// Lets a server that says `before`, reads a password if one comes, then says `after`; gives what the login
/// made of it and the bytes the server read behind the startup packet.
async fn against(before: Vec<u8>, after: Vec<u8>) -> (Result<LoginReply, UpstreamLoginError>, Vec<u8>) {
    speaking(MinorVersion::V3_0, before, after).await
}

/// As [`against`], asking the server for `protocol`.
async fn speaking(
    protocol: MinorVersion,
    before: Vec<u8>,
    after: Vec<u8>,
) -> (Result<LoginReply, UpstreamLoginError>, Vec<u8>) {
    let (mut ours, mut theirs) = duplex(64);
    let server = tokio::spawn(async move {
        let length = theirs.read_i32().await.unwrap();
        let mut packet = vec![0; usize::try_from(length).unwrap() - 4];
        theirs.read_exact(&mut packet).await.unwrap();
        let _ = theirs.write_all(&before).await;
        let mut read = vec![];
        if before.ends_with(&cleartext()) {
            let mut header = [0; 5];
            if theirs.read_exact(&mut header).await.is_ok() {
                let mut rest = vec![0; usize::from(header[4]) - 4];
                theirs.read_exact(&mut rest).await.unwrap();
                read = [&header[..], &rest].concat();
                let _ = theirs.write_all(&after).await;
            }
        }
        let _ = theirs.shutdown().await;
        let _ = theirs.read_to_end(&mut read).await;
        read
    });
    let (user, database) = (DbUser::parse("alice").unwrap(), DbName::parse("app").unwrap());
    let startup = startup();
    let wanted = LoginParameters { user: &user, database: &database, startup: &startup, settings: &[] };
    let result = match ask(&mut ours, wanted, protocol).await {
        Ok(question) => answer(&mut ours, wanted, question, &IamToken::new("tok".into())).await,
        Err(error) => Err(error),
    };
    drop(ours);
    (result, server.await.unwrap())
}

fn cleartext() -> Vec<u8> {
    message(b'R', &[0, 0, 0, 3])
}

fn ok() -> Vec<u8> {
    message(b'R', &[0, 0, 0, 0])
}

#[test]
fn u1_the_packet_is_built_from_the_grant() {
    let (user, database) = (DbUser::parse("alice").unwrap(), DbName::parse("app").unwrap());
    let wanted = LoginParameters { user: &user, database: &database, startup: &startup(), settings: &[] };
    let packet = startup_packet(wanted, MinorVersion::V3_0);
    let body = b"\0\x03\0\0user\0alice\0database\0app\0options\0-c a=b\0application_name\0x\0\0";
    assert_eq!(packet[4..], body[..]);
    assert_eq!(packet[..4], message_length(body.len()));
    assert_eq!(startup_packet(wanted, MinorVersion::V3_2)[..8], [&packet[..4], b"\0\x03\0\x02"].concat());
}

#[test]
fn settings_of_ours_come_last_and_once() {
    let (user, database) = (DbUser::parse("alice").unwrap(), DbName::parse("app").unwrap());
    let packet = b"\0\x03\0\0user\0x\0options\0-c a=b\0Statement_Timeout\09\0TimeZone\0UTC\0\0";
    let startup = StartupParams::parse(packet).unwrap();
    let settings = [("statement_timeout", "5".to_owned())];
    let wanted = LoginParameters { user: &user, database: &database, startup: &startup, settings: &settings };
    let packet = startup_packet(wanted, MinorVersion::V3_0);
    let body =
        b"\0\x03\0\0user\0alice\0database\0app\0options\0-c a=b\0TimeZone\0UTC\0statement_timeout\x005\0\0";
    assert_eq!(packet[4..], body[..]);
}

#[tokio::test]
async fn u5_a_login_sends_the_token_and_nothing_else() {
    let after = [
        ok(),
        message(b'N', b"SNOTICE\0\0"),
        message(b'S', b"a\0b\0"),
        message(b'K', b"\0\0\0\x07secr"),
        message(b'Z', b"I"),
    ];
    let (reply, read) = against(cleartext(), after.concat()).await;
    let reply = reply.unwrap();
    assert_eq!(
        reply.greeting.messages[..],
        [message(b'N', b"SNOTICE\0\0"), message(b'S', b"a\0b\0")].concat()
    );
    let key = reply.key.unwrap();
    assert!(key.pid == 7 && key.has_secret(b"secr"));
    assert_eq!(read, message(b'p', b"tok\0"));
}

#[tokio::test]
async fn p2_the_token_is_sent_to_a_cleartext_request_only() {
    let sasl = [&[0, 0, 0, 10], &b"SCRAM-SHA-256\0\0"[..]].concat();
    for (body, what) in [
        (&[0, 0, 0, 5, 1, 2, 3, 4][..], "an MD5 password"),
        (&sasl, "a SCRAM password"),
        (&[0, 0, 0, 0], "nothing (trust)"),
        (&[0, 0, 0, 7], "GSSAPI or SSPI"),
        (&[0, 0, 0, 2], "Kerberos"),
    ] {
        let (result, read) = against(message(b'R', body), vec![]).await;
        let error = result.err().unwrap();
        assert!(matches!(error, UpstreamLoginError::NotIam { asked, .. } if asked == what), "{error}");
        assert!(read.is_empty(), "{what}: {read:?}");
    }
    let (again, _) = against(cleartext(), cleartext()).await;
    assert!(matches!(again.err().unwrap(), UpstreamLoginError::NotIam { asked: "another method", .. }));
}

#[tokio::test]
async fn p3_a_hostile_server_gets_an_error_and_no_memory() {
    let huge = [&b"S"[..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    let many = [ok(), message(b'S', b"a\0b\0").repeat(1_000)].concat();
    let long = [ok(), message(b'N', &vec![b'x'; 29_000]).repeat(40)].concat();
    for (after, expected) in [
        (huge, "impossible length"),
        (many, "more than a login holds"),
        (long, "more than a login holds"),
        (message(b'E', b"SFATAL"), "malformed ErrorResponse"),
        (message(b'E', b""), "malformed ErrorResponse"),
        (message(b'R', &[0]), "malformed Authentication"),
        ([ok(), message(b'K', b"1")].concat(), "malformed BackendKeyData"),
        ([ok(), message(b'Z', b"")].concat(), "malformed ReadyForQuery"),
        ([ok(), message(b'Z', b"?")].concat(), "malformed ReadyForQuery"),
        ([ok(), message(b'D', b"")].concat(), "unexpected message 'D'"),
        (message(b'Z', b"I"), "unexpected message 'Z'"),
        ([ok(), ok()].concat(), "unexpected message 'R'"),
    ] {
        let error = against(cleartext(), after).await.0.err().unwrap().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn p3_limits_of_a_login_at_the_limit_and_past_it() {
    let with = |parameters: usize| {
        let after = [ok(), message(b'S', b"a\0b\0").repeat(parameters), message(b'Z', b"I")].concat();
        async move { against(cleartext(), after).await.0.is_ok() }
    };
    // The password question, AuthenticationOk and ReadyForQuery count too.
    assert!(with(limits::MAX_LOGIN_MESSAGES - 3).await);
    assert!(!with(limits::MAX_LOGIN_MESSAGES - 2).await);
    let notice = |body: usize| async move {
        let after = [ok(), message(b'N', &vec![b'x'; body]), message(b'Z', b"I")].concat();
        against(cleartext(), after).await.0.is_ok()
    };
    assert!(notice(limits::MAX_LOGIN_MESSAGE).await);
    assert!(!notice(limits::MAX_LOGIN_MESSAGE + 1).await);
    // 1 MiB in all, of which the other three messages are 24 bytes.
    let many = message(b'N', &vec![b'x'; 29_000]).repeat(36);
    let last = limits::MAX_LOGIN_BYTES - 24 - many.len() - 5;
    for (more, fits) in [(0, true), (1, false)] {
        let notices = [ok(), many.clone(), message(b'N', &vec![b'x'; last + more]), message(b'Z', b"I")];
        let result = against(cleartext(), notices.concat()).await.0;
        assert_eq!(result.is_ok(), fits);
        assert!(fits || matches!(result.err(), Some(UpstreamLoginError::TooMuch)));
    }
}

#[tokio::test]
async fn a_refusal_without_a_sqlstate_is_still_a_refusal() {
    let (result, _) = against(cleartext(), message(b'E', b"SFATAL\0Mno\0\0")).await;
    let UpstreamLoginError::Refused(error) = result.err().unwrap() else { panic!("not a refusal") };
    assert_eq!((error.sqlstate.as_str(), error.message.as_str(), error.step), ("", "no", LoginStep::Token));
}

/// The key's length after a login in `protocol` to a server that first says `negotiation`, then a key of `length`
/// bytes; `None` when the login fails.
async fn key_length(protocol: MinorVersion, negotiation: &[u8], length: usize) -> Option<usize> {
    let key = message(b'K', &[&b"\0\0\0\x07"[..], &vec![b'k'; length]].concat());
    let after = [ok(), key, message(b'Z', b"I")].concat();
    let before = [negotiation, &cleartext()].concat();
    let reply = speaking(protocol, before, after).await.0.ok()?;
    reply.key.map(|key| key.secret.len())
}

#[tokio::test]
async fn keys_are_as_long_as_the_protocol_allows() {
    for (protocol, length, passes) in [
        (MinorVersion::V3_0, 3, false),
        (MinorVersion::V3_0, 4, true),
        (MinorVersion::V3_0, 5, false),
        (MinorVersion::V3_2, 3, false),
        (MinorVersion::V3_2, 4, true),
        (MinorVersion::V3_2, 32, true),
        (MinorVersion::V3_2, 256, true),
        (MinorVersion::V3_2, 257, false),
    ] {
        let got = key_length(protocol, b"", length).await;
        assert_eq!(got, passes.then_some(length), "{protocol} {length}");
    }
}

#[tokio::test]
async fn a_server_may_name_an_older_protocol_and_nothing_else() {
    let negotiate = |body: &[u8]| message(b'v', body);
    for (body, passes) in [
        (&b"\0\x03\0\0\0\0\0\0"[..], true),       // as PostgreSQL says it
        (b"\0\0\0\0\0\0\0\0", true),              // as its manual says it
        (b"\0\x03\0\x01\0\0\0\0", true),          // as old PgBouncers would
        (b"\0\x03\0\x02\0\0\0\0", false),         // no change
        (b"\0\x03\0\x03\0\0\0\0", false),         // newer
        (b"\0\x02\0\0\0\0\0\0", false),           // another major version
        (b"\0\x03\0\0\0\0\0\x01_pq_.x\0", false), // an option that was not asked for
        (b"\0\x03\0\0\0\0\0", false),
        (b"\0\x03\0\0\0\0\0\0\0", false),
        (b"", false),
    ] {
        assert_eq!(
            key_length(MinorVersion::V3_2, &negotiate(body), 4).await,
            passes.then_some(4),
            "{body:?}"
        );
        assert_eq!(key_length(MinorVersion::V3_2, &negotiate(body), 32).await, None, "{body:?}");
        assert_eq!(key_length(MinorVersion::V3_0, &negotiate(body), 4).await, None, "nothing to negotiate");
    }
    let late = [ok(), negotiate(b"\0\x03\0\0\0\0\0\0"), message(b'Z', b"I")].concat();
    let error = speaking(MinorVersion::V3_2, cleartext(), late).await.0.err().unwrap();
    assert!(error.to_string().contains("unexpected message 'v'"), "{error}");
}

#[test]
fn a_shortage_is_that_of_the_server_unless_it_says_otherwise() {
    let refused = |sqlstate: &str, message: &str| {
        let (sqlstate, message) = (sqlstate.to_owned(), message.to_owned());
        let (detail, step) = (String::new(), LoginStep::Authenticated);
        UpstreamLoginError::Refused(Box::new(ServerError {
            sqlstate,
            message,
            detail,
            hint: None,
            other: Vec::new(),
            step,
        }))
        .shortage()
    };
    for (words, shortage) in [
        ("sorry, too many clients already", Shortage::Server),
        ("remaining connection slots are reserved for roles with the SUPERUSER attribute", Shortage::Server),
        (
            "remaining connection slots are reserved for non-replication superuser connections",
            Shortage::Server,
        ),
        ("zu viele Verbindungen für Rolle »alice«", Shortage::Server),
        ("too many connections for role \"alice\"", Shortage::Role),
        ("too many connections for database \"app\"", Shortage::Database),
    ] {
        assert_eq!(refused("53300", words), Some(shortage), "{words}");
    }
    assert_eq!(refused("53400", "too many connections for role \"alice\""), None);
}
