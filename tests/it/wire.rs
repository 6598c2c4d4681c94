//! Hostile and clumsy peers on the socket of the running proxy.

use aws_emulator::names;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::admin::until;
use crate::world::raw::{PATIENCE, SSL_REQUEST, message, password, query, startup};
use crate::world::{ErrorFields, RawClient, World};

async fn tcp(world: &World) -> TcpStream {
    TcpStream::connect(("127.0.0.1", world.port)).await.unwrap()
}

/// Everything the proxy says to a peer that sends `bytes`, until it closes.
async fn answer(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = tcp(world).await;
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let reading = timeout(PATIENCE, tcp.read_to_end(&mut answer));
    let _ = reading.await.expect("it is not closed"); // a reset ends it too
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_pre_tls_bytes_are_refused() {
    let world = World::start().await;
    let injected = startup(&[("user", "attacker"), ("database", "app")]);
    let answer = answer(&world, &[&SSL_REQUEST[..], &injected, &password("x")].concat()).await;
    assert!(answer.is_empty(), "{answer:?}");
    world.log_line("pre_tls_bytes").await;
    for extra in [1, 8, 300, 9_000] {
        let mut stream = tcp(&world).await;
        stream.write_all(&[&SSL_REQUEST[..], &vec![0; extra]].concat()).await.unwrap();
        let client = stream.local_addr().unwrap().to_string();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{extra}: {answer:?}");
        assert_eq!(world.audit("client", &client).await["end"], "pre_tls_bytes", "{extra}");
    }
    let record = world.audit("outcome", "dropped").await;
    assert!(record["asked_user"].is_null(), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_login_in_clear_is_refused_before_any_question() {
    let world = World::start().await;
    let answer = answer(&world, &startup(&[("user", "alice"), ("database", "app")])).await;
    assert_eq!(answer[0], b'E', "no password question: {answer:?}");
    let error = ErrorFields::parse(&answer[5..]);
    assert_eq!((error.sqlstate(), error.message()), ("28000", "connection requires TLS"));
    assert!(error.hint().contains("sslmode=verify-full"), "{error:?}");
    assert!(error.detail().starts_with("Stage startup: "), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_psql_without_tls_never_sends_the_token() {
    let world = World::start().await;
    let psql =
        world.psql("user=alice dbname=app sslmode=disable", &world.token("alice"), &["-c", "select 1"]).await;
    assert!(!psql.ok && psql.stderr.contains("connection requires TLS"), "{psql:?}");
    // With the default mode psql may try again in clear after a refusal inside TLS; that is refused unasked.
    let world = World::start().await;
    let psql = world.psql("user=alice dbname=app sslmode=prefer", "not-a-token", &["-c", "select 1"]).await;
    assert!(!psql.ok && psql.stderr.contains("connection requires TLS"), "{psql:?}");
    let inside = world.audit("sqlstate", "28P01").await;
    let clear = world.audit("sqlstate", "28000").await;
    assert!(inside["tls"].is_string() && clear["tls"].is_null(), "{inside} {clear}");
    assert!(clear["subject"].is_null() && clear["stage"] == "startup", "{clear}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_loopback_may_be_plain_where_the_configuration_says_so() {
    let world = World::builder().listen("plaintext_from_loopback = true").start().await;
    let token = world.token("alice");
    let psql =
        world.psql("user=alice dbname=app sslmode=disable", &token, &["-c", "select current_user"]).await;
    assert_eq!(psql.stdout.trim(), "alice", "{psql:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_silent_peer_is_closed_without_an_error() {
    let limits = "client_login_timeout = \"1s\"\nserver_connect_timeout = \"1s\"";
    let world = World::builder().limits(limits).start().await;
    assert!(answer(&world, b"").await.is_empty());
    assert!(answer(&world, &SSL_REQUEST[..5]).await.is_empty());
    assert_eq!(answer(&world, &SSL_REQUEST).await, b"S", "stalled inside TLS");
    // One that has spoken and then keeps its token to itself is told.
    let mut client = world.raw().await;
    client.start("alice", Some(names::DATABASE)).await;
    assert_eq!(client.message().await.unwrap().0, b'R');
    let (tag, body) = client.message().await.unwrap();
    assert_eq!((tag, ErrorFields::parse(&body).sqlstate()), (b'E', "57014"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_peer_that_trickles_bytes_is_closed() {
    let limits = "client_login_timeout = \"1s\"\nserver_connect_timeout = \"1s\"";
    let world = World::builder().limits(limits).start().await;
    let mut stream = tcp(&world).await;
    // Every byte comes soon after the one before it; the limit is for all of them together.
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
    let mut sent = 0;
    for byte in startup(&[("user", &"u".repeat(400))]) {
        ticks.tick().await;
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 400, "it was listened to for {sent} bytes");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    let record = world.audit("outcome", "dropped").await;
    assert_eq!(record["reason"], "the peer said too little for too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_silent_peers_do_not_delay_others() {
    let world = World::start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = tcp(&world).await;
        stream.write_all(&SSL_REQUEST).await.unwrap();
        silent.push(stream);
    }
    let token = world.token("alice");
    timeout(PATIENCE, world.connect("alice", &token)).await.expect("kept waiting").unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_length_bombs_and_other_protocols_are_closed() {
    let world = World::start().await;
    for length in [0_u32, 3, 7, 10_005, 0x7fff_ffff, 0xffff_ffff] {
        let bytes = [&length.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
        assert!(answer(&world, &bytes).await.is_empty(), "{length}");
        // For its length, and not because nothing more came.
        world.audit("reason", &format!("the first packet has an impossible length of {length}")).await;
    }
    for other in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n"] {
        assert!(answer(&world, other).await.is_empty());
        let length = u32::from_be_bytes(*other.first_chunk().unwrap());
        world.audit("reason", &format!("the first packet has an impossible length of {length}")).await;
    }
    // Inside TLS and where the password belongs: as long as PostgreSQL takes, and one more.
    for (length, told) in [(65_536_u32 + 4, "longer than any token"), (u32::MAX, "longer than any token")] {
        let mut client = world.raw().await;
        client.start("alice", Some("app")).await;
        client.message().await.unwrap();
        client.send(&[&b"p"[..], &length.to_be_bytes()].concat()).await;
        let (_, body) = client.message().await.unwrap();
        assert!(ErrorFields::parse(&body).detail().contains(told));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_startup_packets_are_accepted_unchanged_or_refused() {
    let world = World::start().await;
    for (packet, sqlstate, text) in [
        (startup(&[("user", "alice"), ("user", "bob")]), "08P01", "given twice"),
        (startup(&[("database", "app")]), "08P01", "no PostgreSQL user name"),
        (startup(&[("user", "alice"), ("replication", "database")]), "0A000", "replication"),
        (b"\0\0\0\x13\0\x02\0\0user\0alice\0".to_vec(), "0A000", "unsupported frontend protocol 2.0"),
    ] {
        let mut client = world.raw().await;
        client.send(&packet).await;
        let (tag, body) = client.message().await.unwrap();
        let error = ErrorFields::parse(&body);
        assert_eq!((tag, error.sqlstate()), (b'E', sqlstate), "{text}");
        assert!(error.message().contains(text), "{error:?}");
        assert!(client.message().await.is_none(), "closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_old_tls_versions_are_refused() {
    let world = World::start().await;
    let mut config = crate::world::raw::trusting(world.listener_ca());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    assert!(connector.connect(name, tcp(&world).await).await.is_err(), "direct TLS for another protocol");
    // One ClientHello in two versions: 1.2 is answered by a handshake record, 1.1 by an alert.
    for (minor, record) in [(3, 0x16), (2, 0x15)] {
        let mut stream = tcp(&world).await;
        stream.write_all(&client_hello(minor)).await.unwrap();
        assert_eq!(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(), record, "TLS 3.{minor}");
    }
}

/// A `ClientHello` of TLS 1.0 (1), 1.1 (2) or 1.2 (3) for direct TLS, with what a server asks for (RFC 5246, 7.4.1).
fn client_hello(minor: u8) -> Vec<u8> {
    let extension = |kind: u8, body: &[u8]| [&[0, kind, 0, u8::try_from(body.len()).unwrap()], body].concat();
    let extensions = [
        extension(10, &[0, 4, 0, 23, 0, 29]),     // groups: P-256, X25519
        extension(11, &[1, 0]),                   // points: uncompressed
        extension(13, &[0, 6, 4, 3, 8, 4, 4, 1]), // signatures: ECDSA, RSA-PSS, RSA
        extension(16, b"\0\x0b\x0apostgresql"),   // ALPN
        extension(23, &[]),                       // extended master secret
    ]
    .concat();
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 8, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 1, 0]); // ECDHE with AES-GCM
    hello.extend([0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_direct_tls_with_the_protocols_name_works() {
    let world = World::start().await;
    let mut config = crate::world::raw::trusting(world.listener_ca());
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, tcp(&world).await).await.unwrap();
    let client = RawClient::of(stream);
    client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
}

/// The client asks for AES-256 first, as OpenSSL does.
#[tokio::test(flavor = "multi_thread")]
async fn the_listener_chooses_the_cipher_suite() {
    let world = World::start().await;
    let mut config = crate::world::raw::trusting(world.listener_ca());
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let suites = &config.crypto_provider().cipher_suites;
    assert_eq!(suites[0].suite(), rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, tcp(&world).await).await.unwrap();
    let chosen = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(chosen, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_behind_the_password_is_not_lost() {
    let world = World::start().await;
    let mut client = world.raw().await;
    client.start("alice", Some("app")).await;
    client.message().await.unwrap();
    client.send(&[password(&world.token("alice")), query("select 42")].concat()).await;
    let mut rows = Vec::new();
    let mut ready = 0;
    while ready < 2 {
        match client.message().await.unwrap() {
            (b'D', body) => rows.push(body),
            (b'Z', _) => ready += 1,
            _ => {}
        }
    }
    assert_eq!(rows, [b"\0\x01\0\0\0\x0242".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn u1_parameters_arrive_and_the_user_is_the_derived_one() {
    let world = World::start().await;
    let mut client = world.raw().await;
    let parameters = [
        ("options", "-c geqo=off -c search_path=a,\\ b"),
        ("user", "token"),
        ("application_name", "büro"),
        ("database", "app"),
        ("client_encoding", "LATIN1"),
        ("DateStyle", "German"),
    ];
    client.send(&startup(&parameters)).await;
    client.message().await.unwrap();
    client.send(&password(&world.token("alice"))).await;
    let mut status = std::collections::BTreeMap::new();
    loop {
        match client.message().await.unwrap() {
            (b'S', body) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                let mut parts = text.split('\0');
                status.insert(parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
            }
            (b'Z', _) => break,
            (b'E', body) => panic!("{:?}", ErrorFields::parse(&body)),
            _ => {}
        }
    }
    assert_eq!(status["client_encoding"], "LATIN1");
    assert!(status["DateStyle"].contains("German"), "{status:?}");
    assert_eq!(status["session_authorization"], "alice");
    client.send(&query("select current_setting('geqo') || current_setting('search_path')")).await;
    loop {
        if let (b'D', body) = client.message().await.unwrap() {
            assert_eq!(body[6..], *b"offa, b");
            break;
        }
    }
    client.send(&message(b'X', b"")).await;
    let record = world.audit("asked_user", "token").await;
    assert_eq!(record["options"], parameters[0].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_past_the_limit_gets_53300() {
    let world = World::builder().limits("max_client_conn = 2").start().await;
    let token = world.token("alice");
    let one = world.connect("alice", &token).await.unwrap();
    let _two = world.connect("bob", &world.token("bob")).await.unwrap();
    let mut client = world.raw().await;
    client.start("alice", Some("app")).await;
    let (tag, body) = client.message().await.unwrap();
    let error = ErrorFields::parse(&body);
    assert_eq!((tag, error.sqlstate()), (b'E', "53300"), "before any question");
    assert_eq!(error.message(), "too many connections for the proxy");
    assert!(error.detail().contains("the limit of connections is 2"), "{error:?}");
    let jti = one.query_one("select 1", &[]).await.unwrap();
    drop((one, jti));
    // Its seat is free once its session has ended, which is a moment after its record.
    world.audit("outcome", "session").await;
    until("a free seat", async || world.connect("alice", &token).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psqls_first_try_without_a_password_is_no_failed_login() {
    let world = World::start().await;
    let mut client = world.raw().await;
    client.start("alice", Some("app")).await;
    client.message().await.unwrap();
    drop(client);
    let record = world.audit("asked_user", "alice").await;
    assert_eq!(record["outcome"], "no_token");
    assert!(record["sqlstate"].is_null());
}
