//! Clients as they are and as they must not be.

use proptest::prelude::*;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::mysql::capabilities::Capabilities;
use crate::mysql::packet::packet;
use crate::mysql::response::tests::response;
use crate::mysql::server_error::{LoginStep, ServerError};
use crate::net::test_tls::TestTls;
use crate::refusal::Stage;

/// A listener's TLS and a client that trusts it.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let tls = TestTls::new("db.example");
    (tls.acceptor(), tls.connector())
}

/// A connection id.
const ID: u32 = 0x4000_0001;

/// Meets a client that answers the greeting with `bytes` in clear, and then closes its side.
async fn met(bytes: &[u8]) -> Result<Met<DuplexStream>, NegotiationError> {
    let (ours, mut theirs) = duplex(1 << 20);
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    meet(ours, Some(&tls().0), &ServerIdentity::default(), ID, || {}).await
}

/// The client's side of the first packets: reads the greeting, asks for TLS, and completes the handshake.
async fn encrypted(mut theirs: DuplexStream, connector: &TlsConnector) -> TlsStream<DuplexStream> {
    let mut greeting = [0; HEADER];
    theirs.read_exact(&mut greeting).await.unwrap();
    let (length, number) = split_header(greeting);
    assert_eq!(number, 0);
    theirs.read_exact(&mut vec![0; length]).await.unwrap();
    let request = packet(1, &response(Capabilities::COMMON, &[])[..SSL_REQUEST_LENGTH]);
    theirs.write_all(&request).await.unwrap(); // the ClientHello follows at once
    connector.connect(ServerName::try_from("db.example").unwrap(), theirs).await.unwrap()
}

/// A client within TLS that sends `first`, and what became of it.
async fn logged(first: &[u8]) -> (Met<DuplexStream>, TlsStream<DuplexStream>) {
    let (acceptor, connector) = tls();
    let (ours, theirs) = duplex(1 << 20);
    let first = first.to_vec();
    let client = tokio::spawn(async move {
        let mut stream = encrypted(theirs, &connector).await;
        stream.write_all(&first).await.unwrap();
        stream.flush().await.unwrap();
        stream
    });
    let met = meet(ours, Some(&acceptor), &ServerIdentity::default(), ID, || {}).await.unwrap();
    (met, client.await.unwrap())
}

async fn error_of(stream: &mut (impl AsyncRead + Unpin), number: u8) -> ServerError {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes[3], number, "{bytes:?}");
    ServerError::parse(&bytes[HEADER..], LoginStep::Startup).unwrap()
}

#[tokio::test]
async fn c2_a_login_in_clear_is_refused_before_any_question() {
    let (ours, mut theirs) = duplex(1 << 20);
    let login =
        response(Capabilities::COMMON, &[b"alice\0", b"\x05token", b"\0", b"mysql_clear_password\0", b"\0"]);
    theirs.write_all(&packet(1, &login)).await.unwrap();
    let Ok(Met::Rejected(rejected, StartupError::TlsRequired)) =
        meet(ours, Some(&tls().0), &ServerIdentity::default(), ID, || {}).await
    else {
        panic!("a login in clear");
    };
    let refusing = tokio::spawn(async move {
        rejected.refuse(&Refusal::tls_required(), TokenMethod::Password, SessionId::random()).await;
    });
    let mut greeting = [0; HEADER];
    theirs.read_exact(&mut greeting).await.unwrap();
    theirs.read_exact(&mut vec![0; split_header(greeting).0]).await.unwrap();
    let error = error_of(&mut theirs, 2).await;
    assert_eq!(error.errno, 3159, "{error}");
    drop(theirs);
    refusing.await.unwrap();
}

#[tokio::test]
async fn what_is_not_the_protocol_gets_no_answer() {
    assert!(matches!(met(b"").await, Err(NegotiationError::Silent)));
    assert!(matches!(met(b"PROXY TCP4 ").await, Err(NegotiationError::UnexpectedHeader(_))));
    assert!(matches!(met(b"\r\n\r\n\0\r\nQUIT\n").await, Err(NegotiationError::UnexpectedHeader(_))));
    assert!(matches!(met(b"GET / HTTP/1.1\r\n").await, Err(NegotiationError::Length(_))));
    assert!(
        matches!(met(b"\x16\x03\x01\x02\0\x01\0\x01").await, Err(NegotiationError::Length(_))),
        "direct TLS"
    );
    for (length, number) in
        [(31, 1), (SSL_REQUEST_LENGTH, 0), (SSL_REQUEST_LENGTH, 2), (limits::MAX_RESPONSE + 1, 1)]
    {
        let bytes = packet(number, &vec![0; length]);
        assert!(matches!(met(&bytes).await, Err(NegotiationError::Length(_))), "{length}, {number}");
    }
    assert!(matches!(met(b"\x20\0").await, Err(NegotiationError::Io(_))));
    assert!(matches!(met(&packet(1, &[0; 32])).await, Err(NegotiationError::Tls(_))));
}

#[tokio::test]
async fn a_client_is_asked_and_welcomed_in_order() {
    let login = response(
        Capabilities::COMMON,
        &[b"alice\0", b"\x20", &[7; 32], b"app\0", b"caching_sha2_password\0", b"\0"],
    );
    let (met, mut client) = logged(&packet(2, &login)).await;
    let Met::Login(mut pending, startup) = met else { panic!("{met:?}") };
    assert_eq!((startup.user(), startup.database()), ("alice", Some("app")));
    let client = tokio::spawn(async move {
        let mut question = [0; 26];
        client.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"\x16\0\0\x03\xfemysql_clear_password\0");
        client.write_all(&packet(4, b"a.b.c\0")).await.unwrap();
        let mut ok = [0; 11];
        client.read_exact(&mut ok).await.unwrap();
        ok
    });
    let jwt = pending.ask_token(TokenMethod::Password).await.unwrap();
    assert_eq!(jwt.expose(), b"a.b.c");
    let stream = pending.welcome(b"\0\0\0\x02\0\0\0").await.unwrap();
    assert!(stream.tls_version().is_some());
    assert_eq!(&client.await.unwrap(), b"\x07\0\0\x05\0\0\0\x02\0\0\0");
}

#[tokio::test]
async fn a_token_in_the_first_packet_needs_no_question() {
    let token = vec![b't'; 20_000];
    let mut data = Vec::new();
    crate::mysql::packet::put_with_length(&token, &mut data);
    let login = response(Capabilities::COMMON, &[b"alice\0", &data, b"\0", b"mysql_clear_password\0", b"\0"]);
    let (met, mut client) = logged(&packet(2, &login)).await;
    let Met::Login(mut pending, startup) = met else { panic!("{met:?}") };
    assert!(!format!("{pending:?}").contains("116"), "the token as decimals");
    assert_eq!(pending.ask_token(TokenMethod::OpenId).await.unwrap().expose(), token);
    let refusing = tokio::spawn(async move {
        let refusal = Refusal::authentication(Stage::Token, "x");
        let login = RefusedLogin { user: startup.user(), token_method: TokenMethod::Password };
        pending.refuse(&refusal, login, SessionId::random()).await;
    });
    let error = error_of(&mut client, 3).await;
    assert!(error.errno == 1045 && error.message.starts_with("Access denied for user 'alice'"), "{error}");
    drop(client);
    refusing.await.unwrap();
}

#[tokio::test]
async fn a_refused_response_is_told_why() {
    let old = Capabilities::from_bits(Capabilities::COMMON.bits() & !Capabilities::PLUGIN_AUTH.bits());
    for (first, number, too_old) in [
        (packet(2, &response(old, &[b"alice\0", b"\0"])), 3, true),
        (packet(2, &response(Capabilities::COMMON, &[b"alice"])), 3, false),
        (packet(7, &response(Capabilities::COMMON, &[b"alice\0", b"\0", b"\0", b"p\0"])), 3, false),
    ] {
        let (met, mut client) = logged(&first).await;
        let Met::Rejected(rejected, why) = met else { panic!("{met:?}") };
        assert_eq!(why == StartupError::TooOld, too_old, "{why}");
        let refusing = tokio::spawn(async move {
            rejected.refuse(&Refusal::malformed("x"), TokenMethod::Password, SessionId::random()).await;
        });
        assert_eq!(error_of(&mut client, number).await.errno, 1043);
        drop(client);
        refusing.await.unwrap();
    }
}

/// At a Unix socket: no TLS is offered, and the token follows in clear.
#[tokio::test]
async fn without_tls_the_greeting_offers_none_and_the_client_is_asked() {
    let (ours, mut theirs) = duplex(1 << 20);
    let clear = Capabilities::COMMON.offered_in_clear();
    let login =
        response(clear, &[b"alice\0", b"\x20", &[7; 32], b"app\0", b"caching_sha2_password\0", b"\0"]);
    let client = tokio::spawn(async move {
        let mut header = [0; HEADER];
        theirs.read_exact(&mut header).await.unwrap();
        let mut greeting = vec![0; split_header(header).0];
        theirs.read_exact(&mut greeting).await.unwrap();
        theirs.write_all(&packet(1, &login)).await.unwrap();
        let mut question = [0; 26];
        theirs.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"\x16\0\0\x02\xfemysql_clear_password\0");
        theirs.write_all(&packet(3, b"a.b.c\0")).await.unwrap();
        greeting
    });
    let met = meet(ours, None, &ServerIdentity::default(), ID, || {}).await.unwrap();
    let Met::Login(mut pending, startup) = met else { panic!("{met:?}") };
    assert_eq!((startup.user(), startup.database()), ("alice", Some("app")));
    assert_eq!(pending.ask_token(TokenMethod::Password).await.unwrap().expose(), b"a.b.c");
    assert_eq!(pending.stream().tls_version(), None);
    let greeting = client.await.unwrap();
    let version = greeting.iter().skip(1).position(|byte| *byte == 0).unwrap() + 2;
    let low = u16::from_le_bytes(greeting[version + 13..version + 15].try_into().unwrap());
    assert_eq!(u32::from(low) & Capabilities::SSL.bits(), 0, "TLS is offered");
}

#[tokio::test]
async fn a_client_that_is_refused_unheard_reads_an_error_in_place_of_the_greeting() {
    let (ours, mut theirs) = duplex(1 << 20);
    let refusing = tokio::spawn(async move {
        let refusal = Refusal::peer_not_allowed(4711);
        RejectedClient::unheard(ours).refuse(&refusal, TokenMethod::Password, SessionId::random()).await;
    });
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).await.unwrap();
    let (length, number) = split_header(bytes[..HEADER].try_into().unwrap());
    assert_eq!((length, number), (bytes.len() - HEADER, 0));
    assert_eq!(bytes[HEADER..HEADER + 3], [0xff, 0x15, 0x04], "1045");
    let text = String::from_utf8(bytes[HEADER + 3..].to_vec()).unwrap();
    assert!(
        text.starts_with("Access denied for this user of the machine") && text.contains("4711"),
        "{text}"
    );
    drop(theirs);
    refusing.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_of_a_stranger_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _ = runtime.block_on(met(&bytes));
        let _ = runtime.block_on(met(&[&b"\x20\0\0\x01"[..], &bytes].concat()));
    }
}
