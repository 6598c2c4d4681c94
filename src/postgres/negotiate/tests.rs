//! The first packets, spoken by hostile and honest peers over an in-memory pipe.

use std::io;
use std::mem::discriminant;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;
use crate::net::test_tls::TestTls;
use crate::postgres::client::TokenError;
use crate::postgres::password::PasswordError;
use crate::postgres::token_method::TokenMethod;

const SSL: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0alice\0\0";

/// An acceptor with a fresh certificate, and the configuration of a client that trusts it.
fn tls_pair() -> (TlsAcceptor, ClientConfig) {
    let mut tls = TestTls::new("localhost");
    tls.server.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
    (tls.acceptor(), tls.client)
}

async fn handshake(
    stream: DuplexStream,
    mut config: ClientConfig,
    alpn: &[&[u8]],
) -> io::Result<tokio_rustls::client::TlsStream<DuplexStream>> {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// What a peer that sends `bytes` at once and no more turns out to be.
async fn peer(bytes: &[u8], plaintext: bool) -> Result<FirstPacket<DuplexStream>, NegotiationError> {
    let (ours, mut theirs) = duplex(16_384);
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let (acceptor, _) = tls_pair();
    let result = negotiate(ours, Some(&acceptor), plaintext, || {}).await;
    drop(theirs);
    result
}

async fn dropped(bytes: &[u8]) -> NegotiationError {
    match peer(bytes, true).await {
        Err(why) => why,
        Ok(first) => panic!("{first:?}"),
    }
}

#[tokio::test]
async fn c1_pre_tls_bytes_are_refused() {
    let injected = [&SSL[..], b"\0\0\0\x17\0\x03\0\0user\0attacker\0\0"].concat();
    assert!(matches!(dropped(&injected).await, NegotiationError::PreTlsBytes));
    for extra in [1, 8, 300, 9_000] {
        let bytes = [&SSL[..], &vec![b'x'; extra]].concat();
        assert!(matches!(dropped(&bytes).await, NegotiationError::PreTlsBytes), "{extra}");
    }
}

#[tokio::test]
async fn c1_bytes_that_arrive_after_the_answer_end_the_handshake() {
    let (ours, mut theirs) = duplex(4_096);
    let (acceptor, _) = tls_pair();
    let server = tokio::spawn(async move { negotiate(ours, Some(&acceptor), true, || {}).await });
    theirs.write_all(&SSL).await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'S');
    theirs.write_all(STARTUP).await.unwrap();
    assert!(matches!(server.await.unwrap(), Err(NegotiationError::Tls(_))));
}

#[tokio::test]
async fn c4_impossible_first_packets_are_closed_without_a_word() {
    for length in [0_u32, 3, 7, 10_005, 0x7fff_ffff, 0xffff_ffff] {
        let bytes = [&length.to_be_bytes()[..], &[0; 8]].concat();
        assert!(matches!(dropped(&bytes).await, NegotiationError::Length(l) if l == length), "{length}");
    }
    assert!(matches!(dropped(b"GET / HTTP/1.1\r\n\r\n").await, NegotiationError::Length(_)));
    assert!(matches!(dropped(b"\0\0\0\x55\xffSMBr\0\0\0").await, NegotiationError::Io(_)));
    for (code, length) in [(0x2f, 9), (0x30, 9), (0x2e, 15), (0x2e, 269)] {
        let mut bytes = vec![0, 0, 0, 0, 0x04, 0xd2, 0x16, code];
        bytes[..4].copy_from_slice(&u32::to_be_bytes(length));
        bytes.resize(400, 0);
        assert!(
            matches!(dropped(&bytes).await, NegotiationError::Length(l) if l == length),
            "{code} {length}"
        );
    }
}

#[tokio::test]
async fn c4_the_longest_startup_packet_passes() {
    let mut packet = b"\0\0\0\0\0\x03\0\0user\0alice\0options\0".to_vec();
    packet.resize(limits::MAX_STARTUP_LENGTH - 2, b'x');
    packet.extend(b"\0\0");
    let length = u32::try_from(packet.len()).unwrap();
    assert_eq!(length, 10_004);
    packet[..4].copy_from_slice(&length.to_be_bytes());
    assert!(matches!(peer(&packet, true).await, Ok(FirstPacket::Login(_))));
}

#[tokio::test]
async fn c2_a_startup_in_clear_is_unfit_before_any_question() {
    let first = peer(STARTUP, false).await;
    assert!(matches!(first, Ok(FirstPacket::Rejected(ClientStream::Plain(_), StartupError::TlsRequired))));
    // Not even parsed: a broken packet gets the same answer.
    let first = peer(b"\0\0\0\x08\0\x02\0\0", false).await;
    assert!(matches!(first, Ok(FirstPacket::Rejected(_, StartupError::TlsRequired))));
    let first = peer(STARTUP, true).await;
    let Ok(FirstPacket::Login(client)) = first else { panic!("not a login") };
    assert_eq!((client.startup().user(), client.stream().tls_version()), ("alice", None));
}

#[tokio::test]
async fn c5_encryption_is_asked_for_once_each() {
    assert!(matches!(dropped(&[GSS, GSS].concat()).await, NegotiationError::Repeated));
    let many = GSS.repeat(1_000);
    assert!(matches!(dropped(&many).await, NegotiationError::Repeated));
}

#[tokio::test]
async fn c6_gssenc_then_ssl_then_tls_works() {
    let (ours, mut theirs) = duplex(256);
    let (acceptor, config) = tls_pair();
    let server = tokio::spawn(async move { negotiate(ours, Some(&acceptor), false, || {}).await });
    theirs.write_all(&GSS).await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'N');
    theirs.write_all(&SSL).await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'S');
    let mut tls = handshake(theirs, config, &[]).await.unwrap();
    tls.write_all(STARTUP).await.unwrap();
    tls.flush().await.unwrap();
    let Ok(FirstPacket::Login(client)) = server.await.unwrap() else { panic!("not a login") };
    assert_eq!((client.startup().user(), client.stream().tls_version()), ("alice", Some("TLSv1.3")));
}

#[tokio::test]
async fn c6_direct_tls_needs_the_protocol_name() {
    for (alpn, welcome) in
        [(&[b"postgresql".as_slice()][..], true), (&[], false), (&[b"http/1.1".as_slice()], false)]
    {
        let (ours, theirs) = duplex(256);
        let (acceptor, config) = tls_pair();
        let server = tokio::spawn(async move { negotiate(ours, Some(&acceptor), false, || {}).await });
        let mut tls = handshake(theirs, config, alpn).await.ok();
        if let Some(tls) = &mut tls {
            let _ = tls.write_all(STARTUP).await; // a refused client may be cut off here
            let _ = tls.flush().await;
        }
        match server.await.unwrap() {
            Ok(FirstPacket::Login(_)) => assert!(welcome, "{alpn:?}"),
            Err(NegotiationError::NoAlpn(_) | NegotiationError::Tls(_)) => assert!(!welcome, "{alpn:?}"),
            other => panic!("{alpn:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn c6_encryption_inside_tls_is_an_unknown_protocol() {
    for (request, code) in [(SSL, 5679), (GSS, 5680)] {
        let (ours, mut theirs) = duplex(256);
        let (acceptor, config) = tls_pair();
        let server = tokio::spawn(async move { negotiate(ours, Some(&acceptor), false, || {}).await });
        theirs.write_all(&SSL).await.unwrap();
        theirs.read_u8().await.unwrap();
        let mut tls = handshake(theirs, config, &[]).await.unwrap();
        tls.write_all(&request).await.unwrap();
        tls.flush().await.unwrap();
        let first = server.await.unwrap();
        let Ok(FirstPacket::Rejected(ClientStream::Tls(_), StartupError::Protocol { major: 1234, minor })) =
            first
        else {
            panic!("{first:?}")
        };
        assert_eq!(minor, code);
    }
}

#[tokio::test(start_paused = true)]
async fn c3_a_handshake_has_ten_seconds() {
    for (pause, in_time) in [(9_999, true), (10_001, false)] {
        let (ours, mut theirs) = duplex(256);
        let (acceptor, config) = tls_pair();
        let server = tokio::spawn(async move { negotiate(ours, Some(&acceptor), false, || {}).await });
        theirs.write_all(&SSL).await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'S');
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        let mut tls = handshake(theirs, config, &[]).await.ok();
        if let Some(tls) = &mut tls {
            tls.write_all(STARTUP).await.unwrap();
            tls.flush().await.unwrap();
        }
        match server.await.unwrap() {
            Ok(FirstPacket::Login(_)) => assert!(in_time, "{pause} ms"),
            Err(NegotiationError::TlsTimeout) => assert!(!in_time, "{pause} ms"),
            other => panic!("{pause} ms: {other:?}"),
        }
    }
}

/// A peer that goes silent inside the handshake may be a client behind a broken network. One that is silent before it is
/// a scanner.
#[tokio::test(start_paused = true)]
async fn handshake_timeouts_are_counted_apart_from_scanners() {
    let (ours, mut theirs) = duplex(256);
    theirs.write_all(&SSL).await.unwrap();
    let (acceptor, _) = tls_pair();
    let handshake = negotiate(ours, Some(&acceptor), true, || {}).await.unwrap_err();
    drop(theirs);
    assert!(handshake.tells_an_operator_something());
    for scanner in [NegotiationError::Silent, NegotiationError::TimedOut] {
        assert!(!scanner.tells_an_operator_something());
        assert_ne!(discriminant(&handshake), discriminant(&scanner));
    }
}

#[tokio::test]
async fn a_cancel_is_recognised_with_short_and_long_keys() {
    for length in [4_usize, 32, 256] {
        let mut packet = u32::try_from(12 + length).unwrap().to_be_bytes().to_vec();
        packet.extend([0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 7]);
        packet.resize(12 + length, b'k');
        let first = peer(&packet, false).await;
        let Ok(FirstPacket::Cancel(_, key)) = first else { panic!("not a cancel") };
        assert_eq!((key.pid, key.secret.to_vec()), (7, vec![b'k'; length]));
    }
}

/// What a client of version 3.`minor` with these further pairs is asked.
async fn asked(minor: [u8; 2], pairs: &[u8]) -> Vec<u8> {
    let body = [&[0, 3][..], &minor, b"user\0alice\0", pairs, b"\0"].concat();
    let packet = [&crate::postgres::message::message_length(body.len())[..], &body].concat();
    let (ours, mut theirs) = duplex(4_096);
    theirs.write_all(&packet).await.unwrap();
    theirs.shutdown().await.unwrap();
    let (acceptor, _) = tls_pair();
    let Ok(FirstPacket::Login(mut client)) = negotiate(ours, Some(&acceptor), true, || {}).await else {
        panic!("not a login")
    };
    let answer = client.ask_token(&TokenMethod::Password).await;
    assert!(matches!(answer, Err(TokenError::Password(PasswordError::NoAnswer))));
    drop(client);
    let mut question = Vec::new();
    theirs.read_to_end(&mut question).await.unwrap();
    question
}

#[tokio::test]
async fn a_newer_protocol_is_told_of_ours_before_the_password_question() {
    const QUESTION: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    for (minor, pairs, told) in [
        ([0, 0], &b""[..], &b""[..]),
        ([0, 2], b"", b""),
        ([0, 1], b"", b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0"),
        ([0, 3], b"", b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"),
        ([0x27, 0x0f], b"_pq_.x\0y\0", b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0"),
        ([0, 2], b"_pq_.x\0y\0", b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0"),
        ([0, 0], b"_pq_.x\0y\0", b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0"),
    ] {
        assert_eq!(asked(minor, pairs).await, [told, QUESTION].concat(), "{minor:?} {pairs:?}");
    }
}

#[tokio::test]
async fn a_port_check_is_silent() {
    let (ours, theirs) = duplex(16);
    drop(theirs);
    let (acceptor, _) = tls_pair();
    assert!(matches!(negotiate(ours, Some(&acceptor), true, || {}).await, Err(NegotiationError::Silent)));
}
