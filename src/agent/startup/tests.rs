//! The first packets of tools.

use tokio::io::{AsyncReadExt, duplex};

use super::*;

/// The request in `bytes`, and what was answered.
async fn request(bytes: &[u8]) -> (Result<ToolRequest, StartupFault>, Vec<u8>) {
    let (mut ours, mut theirs) = duplex(32_768);
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let request = read_request(&mut ours).await;
    drop(ours);
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).await.unwrap();
    (request, answer)
}

fn packet(minor: u8, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, minor];
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    [&length(body.len())[..], &body].concat()
}

async fn session(bytes: &[u8]) -> ToolStartup {
    match request(bytes).await.0.unwrap() {
        ToolRequest::Session(startup) => startup,
        ToolRequest::Cancel(_) => panic!("a cancel"),
    }
}

const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSS: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

#[tokio::test]
async fn encryption_is_declined_and_the_session_goes_on() {
    let startup = packet(0, &[("user", "alice")]);
    for (asked, answered) in [(&[][..], &b""[..]), (&[SSL], b"N"), (&[GSS, SSL], b"NN")] {
        let (found, answer) = request(&[&asked.concat()[..], &startup].concat()).await;
        assert!(matches!(found, Ok(ToolRequest::Session(found)) if found.user == "alice"));
        assert_eq!(answer, answered);
    }
    assert!(request(&[SSL, GSS, SSL, &startup].concat()).await.0.is_err(), "asked for ever");
}

#[tokio::test]
async fn a_cancel_has_the_key_of_either_protocol() {
    for key in [8, 36, 260] {
        let body = [&CANCEL_REQUEST[..], &vec![7; key]].concat();
        let (found, _) = request(&[&length(body.len())[..], &body].concat()).await;
        assert_eq!(found.unwrap(), ToolRequest::Cancel(vec![7; key]));
    }
    for key in [0, 7, 261] {
        let body = [&CANCEL_REQUEST[..], &vec![7; key]].concat();
        assert!(request(&[&length(body.len())[..], &body].concat()).await.0.is_err(), "{key}");
    }
}

#[tokio::test]
async fn what_is_not_postgresql_is_refused() {
    for bad in [
        &b""[..],
        b"GET / HTTP/1.1\r\nHost: localhost:15432\r\n\r\n", // a browser
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",        // direct TLS
        b"\0\0\0\x04",
        b"\0\0\0\x08\0\x02\0\0",
        b"\0\0\0\x09\0\x03\0\0x",
        b"\0\0\0\x0a\0\x03\0\0x\0",
        b"\0\0\0\x0b\0\x03\0\0\0\0\0",
        b"\0\0\x27\x15\0\x03\0\0", // 10,001 bytes
    ] {
        assert!(request(bad).await.0.is_err(), "{bad:?}");
    }
    assert_eq!(session(b"\0\0\0\x09\0\x03\0\0\0").await.user, "", "the proxy refuses it");
}

#[tokio::test]
async fn the_proxy_gets_the_persons_user_and_everything_else_as_it_was() {
    let databases = ["app".to_owned(), "mallory".to_owned()];
    let sent = async |pairs: &[(&str, &str)], databases: &[String]| {
        session(&packet(0, pairs)).await.packet_for("token", databases)
    };
    let rest = [("application_name", "DBeaver"), ("options", "-c x=1")];
    let with = |first: &[(&'static str, &'static str)]| [first, &rest].concat();
    for (asked, databases, expected) in [
        (&[("user", "mallory"), ("database", "other")][..], &databases[..], &[("database", "other")][..]),
        (&[("user", "mallory")], &databases, &[("database", "app")]),
        (&[("user", "mallory")], &[], &[]),
        // libpq's default.
        (&[("user", "os"), ("database", "os")], &databases, &[("database", "app")]),
        (&[("user", "os"), ("database", "os")], &[], &[("database", "os")]),
        (&[("user", "mallory"), ("database", "mallory")], &databases, &[("database", "mallory")]),
    ] {
        let expected = packet(0, &with(&[&[("user", "token")], expected].concat()));
        assert_eq!(sent(&with(asked), databases).await, expected, "{asked:?}");
    }
}

#[tokio::test]
async fn newer_protocols_and_unknown_options_are_negotiated() {
    for (minor, spoken) in [(0, 0), (2, 2)] {
        let startup = session(&packet(minor, &[("user", "a")])).await;
        assert_eq!(startup.negotiation(), None);
        assert_eq!(startup.packet_for("a", &[]), packet(spoken, &[("user", "a")]));
    }
    for (minor, spoken) in [(1, 0), (3, 2), (99, 2)] {
        let startup = session(&packet(minor, &[("user", "a")])).await;
        let expected = [b"v\0\0\0\x0c\0\x03\0", &[spoken][..], b"\0\0\0\0"].concat();
        assert_eq!(startup.negotiation(), Some(expected), "{minor}");
        assert_eq!(startup.packet_for("a", &[]), packet(spoken, &[("user", "a")]));
    }
    let startup = session(&packet(0, &[("user", "a"), ("_pq_.x", "1")])).await;
    assert_eq!(startup.negotiation().unwrap(), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0");
    assert_eq!(startup.packet_for("a", &[]), packet(0, &[("user", "a")]));
}
