//! Servers that are hostile or broken before a session begins: the token goes only to one that asks for it in cleartext
//! over verified TLS, the client gets one refusal, and memory is bounded.

use aws_emulator::Ca;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::raw::{ASK_CLEAR, MysqlError, RawMysql, packet};
use super::scripted::{Heard, OK, Part, SERVER_FLAGS, ScriptedMysql, err, greeting};
use crate::world::World;
use crate::world::binary::ProxyProcess;

/// Limits that let a silent server fail within seconds.
const SHORT: &str = "login_timeout = \"3s\"\nclient_login_timeout = \"2s\"\nserver_connect_timeout = \"1s\"";

/// Limits that a test under load does not reach.
const LONG: &str =
    "login_timeout = \"60s\"\nclient_login_timeout = \"30s\"\nserver_connect_timeout = \"30s\"";

/// A proxy in front of a server with this part.
async fn stage(ca: &Ca, part: Part, limits: &str) -> (ScriptedMysql, World) {
    let server = ScriptedMysql::start(ca, part).await;
    let world = World::builder().mysql_at(server.addr, ca, "").limits(limits).start().await;
    (server, world)
}

/// The refusal of a login at such a server, and what the server was told.
async fn refused(ca: &Ca, part: Part) -> (MysqlError, Heard) {
    refused_within(ca, part, LONG).await
}

/// As [`refused`], with these limits.
async fn refused_within(ca: &Ca, part: Part, limits: &str) -> (MysqlError, Heard) {
    let (server, world) = stage(ca, part, limits).await;
    let refusal = RawMysql::log_in(&world, "alice", &world.token("alice")).await.err().expect("a refusal");
    world.hear(refusal.text.as_bytes());
    assert!(refusal.text.contains(" Session ") && refusal.text.len() <= 511, "{refusal:?}");
    let heard = server.heard_to_the_end().await;
    let clear = String::from_utf8_lossy(&heard.clear);
    assert!(!clear.contains("alice") && !clear.contains("X-Amz"), "in clear: {clear}");
    (refusal, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_the_token_is_for_the_cleartext_plugin_of_mysql_only() {
    let ca = Ca::new().unwrap();
    let question = |plugin: &[u8], data: &[u8]| packet(3, &[b"\xfe", plugin, b"\0", data].concat());
    let salt = b"abcdefghijklmnopqrst\0";
    for (says, asked) in [
        (question(b"mysql_native_password", salt), "mysql_native_password"),
        (question(b"caching_sha2_password", salt), "caching_sha2_password"),
        (question(b"sha256_password", salt), "sha256_password"),
        (question(b"dialog", b"\x04Password: "), "dialog"),
        (question(b"authentication_openid_connect_client", b""), "authentication_openid_connect_client"),
        (question(b"authentication_webauthn_client", b""), "authentication_webauthn_client"),
        (question(b"MYSQL_CLEAR_PASSWORD", b""), "MYSQL_CLEAR_PASSWORD"),
        (question(b"mysql_clear_password2", b""), "mysql_clear_password2"),
        (question(b"mysql_clear", b""), "mysql_clear"),
        (question(b"\xff\xfe", b""), "\u{fffd}"),
        (question(b"", b""), "mysql_old_password"),
        (packet(3, b"\xfe"), "mysql_old_password"),
        (packet(3, OK), "nothing"),
    ] {
        let (refusal, heard) = refused(&ca, Part::AfterResponse(says)).await;
        assert_eq!((refusal.errno, refusal.sqlstate.as_str()), (1045, "28000"), "{asked}: {refusal:?}");
        assert!(refusal.text.contains("no IAM user of the exact name 'alice'"), "{asked}: {refusal:?}");
        assert_eq!((heard.responses.len(), &heard.secret[..]), (1, &b""[..]), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_hostile_mysql_server_costs_one_login_and_gets_no_token() {
    let ca = Ca::new().unwrap();
    let huge = [&[0xff, 0xff, 0xff, 3][..], &vec![0xfe; 0xff_ffff]].concat();
    for (says, what) in [
        (huge, "a packet of 16 MiB"),
        ([&[1, 0, 1, 3][..], &vec![0xfe; 65_537]].concat(), "a packet of 64 KiB and a byte"),
        (packet(3, b""), "an empty packet"),
        (packet(2, ASK_CLEAR), "the number of the client's packet"),
        (packet(0, ASK_CLEAR), "the number of a command"),
        (packet(255, ASK_CLEAR), "a far number"),
        (packet(3, b"\xfb/etc/passwd"), "a request for a file"),
        (packet(3, b"\x01\x04"), "data of a plugin"),
        (packet(3, b"\x02mysql_clear_password\0"), "a second factor"),
        (packet(3, b"\xff"), "half an error"),
        (packet(3, &greeting("8.0.39", SERVER_FLAGS)), "a second greeting"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "another protocol"),
        (packet(3, &err(1105, "\x1b]0;x\x07 no")).repeat(10_000), "a flood of errors"),
    ] {
        let (refusal, heard) = refused(&ca, Part::AfterResponse(says)).await;
        assert_eq!(refusal.errno, 3168, "{what}: {refusal:?}");
        assert!(refusal.text.contains("stage upstream_login"), "{what}: {refusal:?}");
        assert!(!refusal.text.chars().any(char::is_control), "{what}: {refusal:?}");
        assert_eq!((heard.responses.len(), &heard.secret[..]), (1, &b""[..]), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_mysql_server_is_told_the_token_once() {
    let ca = Ca::new().unwrap();
    for (says, errno) in [
        (packet(5, ASK_CLEAR), 1045),
        (packet(5, b"\xfesha256_password\0"), 1045),
        (packet(5, b"\x02mysql_clear_password\0"), 3168),
        (packet(5, b"\x01\x03"), 3168),
        (packet(5, b"\xfb/etc/passwd"), 3168),
        (packet(5, b"\0"), 3168),
        (packet(5, b"\0\xfb\0\x02\0"), 3168),
        (packet(5, b"\0\0\0\x02"), 3168),
        (packet(5, b"\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 3168),
        (packet(4, OK), 3168),
        (packet(0, OK), 3168),
        ([&[0xff, 0xff, 0xff, 5][..], OK].concat(), 3168),
        ([ASK_CLEAR, OK].concat(), 3168),
    ] {
        let (refusal, heard) = refused(&ca, Part::AfterToken(says.clone())).await;
        assert_eq!(refusal.errno, errno, "{says:02x?}: {refusal:?}");
        let token = String::from_utf8(heard.secret).unwrap();
        assert_eq!(token.matches("X-Amz-Signature=").count(), 1, "{says:02x?}");
        assert_eq!((token.matches('\0').count(), token.ends_with('\0')), (1, true), "{says:02x?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_only_verified_tls_of_a_mysql_server_is_tls() {
    let ca = Ca::new().unwrap();
    let no_tls = SERVER_FLAGS & !(1 << 11);
    let no_plugins = SERVER_FLAGS & !(1 << 19);
    let good = greeting("8.0.39", SERVER_FLAGS);
    let long = greeting(&"8".repeat(1_024 + 1 - (good.len() - 6)), SERVER_FLAGS);
    assert_eq!(long.len(), 1_025);
    for (says, stays_silent, what) in [
        (packet(0, &greeting("8.0.39", no_tls)), true, "no TLS"),
        (packet(0, &greeting("5.1.73", no_plugins)), true, "no plugins"),
        (packet(0, &greeting("8.0.39\n", SERVER_FLAGS)), true, "a version with a line feed"),
        (packet(0, &greeting("", SERVER_FLAGS)), true, "no version"),
        (packet(0, &long), true, "a greeting of 1,025 bytes"),
        (packet(0, &good[..20]), true, "half a greeting"),
        (packet(0, b"\x095.0.0\0\x01\0\0\0abcdefgh\0"), true, "protocol 9"),
        (packet(1, &good), true, "a greeting with another number"),
        (packet(0, b""), true, "an empty greeting"),
        ([&[0xff, 0xff, 0xff, 0][..], &vec![10; 0xff_ffff]].concat(), true, "a greeting of 16 MiB"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), true, "another protocol"),
        // The proxy asks for TLS. Bytes in clear behind the greeting are none, and none of them reaches the login.
        ([packet(0, &good), packet(2, ASK_CLEAR)].concat(), false, "a question in clear"),
        ([packet(0, &good), packet(2, OK)].concat(), false, "an OK in clear"),
    ] {
        let (refusal, heard) = refused(&ca, Part::Instead(says)).await;
        assert_eq!(refusal.errno, 3168, "{what}: {refusal:?}");
        assert!(refusal.text.contains("stage upstream_tls"), "{what}: {refusal:?}");
        assert_eq!(heard.clear.is_empty(), stays_silent, "{what}");
    }
}

/// An error in place of the greeting is not protected by TLS: its words are for the log.
#[tokio::test(flavor = "multi_thread")]
async fn p1_words_of_a_mysql_server_in_clear_reach_no_client() {
    let ca = Ca::new().unwrap();
    let says = packet(0, b"\xff\x10\x04call 555-0100 to unlock");
    let (refusal, heard) = refused(&ca, Part::Instead(says)).await;
    assert_eq!((refusal.errno, heard.clear.is_empty()), (3168, true));
    assert!(!refusal.text.contains("555"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_mysql_server_that_stops_in_a_packet_is_cut_off() {
    let ca = Ca::new().unwrap();
    let half = packet(3, ASK_CLEAR)[..9].to_vec();
    for (part, stage, secret) in [
        (Part::Instead(packet(0, &greeting("8.0.39", SERVER_FLAGS))[..30].to_vec()), "upstream_tls", false),
        (Part::Instead(vec![]), "upstream_tls", false),
        (Part::AfterResponse(vec![]), "upstream_login", false),
        (Part::AfterResponse(half), "upstream_login", false),
        (Part::AfterToken(packet(5, OK)[..6].to_vec()), "upstream_login", true),
    ] {
        let (refusal, heard) = refused_within(&ca, part, SHORT).await;
        assert_eq!(refusal.errno, 3168, "{refusal:?}");
        assert!(refusal.text.contains(&format!("stage {stage}")), "{stage}: {refusal:?}");
        assert_eq!(heard.secret.is_empty(), !secret, "{stage}");
    }
}

/// An OK may say much: it is bounded, and reaches the client as it is.
#[tokio::test(flavor = "multi_thread")]
async fn p3_an_odd_ok_of_a_mysql_server_is_passed_on_or_refused() {
    let ca = Ca::new().unwrap();
    let long =
        [&b"\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff\0\xff\xff\xff\xff"[..], &vec![b'x'; 60_000]].concat();
    let (server, world) = stage(&ca, Part::AfterToken(packet(5, &long)), LONG).await;
    let login = RawMysql::log_in(&world, "alice", &world.token("alice")).await;
    assert!(login.is_ok(), "{:?}", login.err());
    drop(server);
    let (refusal, _) = refused(&ca, Part::AfterToken(packet(5, &[&long[..], &[b'x'; 6_000]].concat()))).await;
    assert_eq!(refusal.errno, 3168, "one past the limit: {refusal:?}");
}

/// Many servers that say much cost the proxy nothing that lasts.
#[tokio::test(flavor = "multi_thread")]
async fn c7_a_flood_of_a_mysql_server_leaves_no_memory_behind() {
    let ca = Ca::new().unwrap();
    let flood = vec![0xff; 4 << 20];
    for part in [Part::Instead(flood.clone()), Part::AfterResponse(flood.clone()), Part::AfterToken(flood)] {
        let (_server, world) = stage(&ca, part, LONG).await;
        let binary = ProxyProcess::start(&world);
        let token = world.token("alice");
        let login = async || {
            let client = RawMysql::connect_to(&world, binary.port).await;
            assert!(client.finish("alice", &token).await.is_err());
        };
        for _ in 0..3 {
            login().await;
        }
        let before = binary.resident();
        for _ in 0..20 {
            login().await;
        }
        let grown = binary.resident().saturating_sub(before);
        assert!(grown < 2_048, "{grown} KiB after 20 floods of 4 MiB");
    }
}

/// A server that accepts and never greets, many times over, keeps nobody from another one.
#[tokio::test(flavor = "multi_thread")]
async fn r2_a_silent_mysql_server_ends_with_the_connect_timeout() {
    let ca = Ca::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = "server_connect_timeout = \"1s\"";
    let world =
        World::builder().mysql_at(listener.local_addr().unwrap(), &ca, "").limits(limits).start().await;
    let silent = tokio::spawn(async move {
        let mut heard = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut heard).await.unwrap();
        heard
    });
    let refusal = RawMysql::log_in(&world, "alice", &world.token("alice")).await.err().expect("a refusal");
    assert_eq!(refusal.errno, 3168, "{refusal:?}");
    assert_eq!(silent.await.unwrap(), b"", "the server speaks first");
}
