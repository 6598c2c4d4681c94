//! Databases that cannot be reached, are not what they should be, or say no.

use aws_emulator::Ca;

use crate::world::raw::{message, startup};
use crate::world::scripted_server::{Script, ScriptedServer, error, welcome};
use crate::world::{ErrorFields, World, database};

async fn against(ca: &Ca, server: &ScriptedServer) -> ErrorFields {
    let world = World::builder().upstream(server.addr, ca).start().await;
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert!(server.heard().is_empty(), "the server was told something: {:?}", server.heard());
    refusal
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_database_that_refuses_connections() {
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::builder().upstream(addr, &database().ca).start().await;
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.sqlstate(), "57P03");
    assert_eq!(refusal.message(), "cannot connect now: database unreachable");
    assert!(refusal.detail().starts_with("Stage upstream_connect: "), "{refusal:?}");
    assert!(refusal.hint().contains("Try again"), "{refusal:?}");
    // However often it is tried again, STS is asked once for each token.
    let token = world.token("bob");
    for _ in 0..5 {
        assert_eq!(world.refusal("bob", &token).await.sqlstate(), "57P03");
    }
    assert!(world.cloud.sts.count() <= 2, "{} calls for two tokens", world.cloud.sts.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_database_that_resets_connections() {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::Reset).await;
    let refusal = against(&ca, &server).await;
    assert_eq!(refusal.sqlstate(), "57P03");
    assert_eq!(refusal.message(), "cannot connect now: database unreachable");
    assert!(refusal.detail().starts_with("Stage upstream_tls: "), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_database_that_says_nothing() {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::Silence).await;
    let world =
        World::builder().upstream(server.addr, &ca).limits("server_connect_timeout = \"1s\"").start().await;
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.sqlstate(), "57P03");
    assert!(refusal.detail().starts_with("Stage upstream_tls: "), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_login_that_takes_too_long_is_cut_off_and_says_where_it_hung() {
    let ca = Ca::new().unwrap();
    // One that asks for nothing, and one that takes the token and thinks about it for ever.
    for part in [Script::AfterStartup(vec![]), Script::AfterPassword(vec![])] {
        let server = ScriptedServer::start(&ca, part).await;
        let limits = "login_timeout = \"2s\"\nclient_login_timeout = \"1s\"\nserver_connect_timeout = \"1s\"";
        let world = World::builder().upstream(server.addr, &ca).limits(limits).start().await;
        let refusal = world.refusal("alice", &world.token("alice")).await;
        assert_eq!(refusal.sqlstate(), "57P03", "{refusal:?}");
        assert_eq!(refusal.message(), "cannot connect now: the login took too long");
        assert!(refusal.detail().starts_with("Stage upstream_login: "), "{refusal:?}");
    }
}

/// The login's deadline is not the session's: what is slow once it is in stays in.
#[tokio::test(flavor = "multi_thread")]
async fn r5_a_session_is_never_cut_for_slowness() {
    let limits = "login_timeout = \"1s\"\nclient_login_timeout = \"1s\"\nserver_connect_timeout = \"1s\"";
    let world = World::builder().limits(limits).start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    client.batch_execute("select pg_sleep(1.5)").await.unwrap();
    client.batch_execute("select 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_server_without_verified_tls_is_refused() {
    let ca = Ca::new().unwrap();
    let host = aws_emulator::names::ENDPOINT_HOST;
    let quiet = || Script::AfterStartup(vec![]);
    for (cert, what) in [
        (ca.server(&["other.example"]).unwrap(), "wrong name"),
        (ca.expired(&[host]).unwrap(), "expired"),
        (Ca::untrusted(&[host]).unwrap(), "unknown authority"),
    ] {
        let server = ScriptedServer::with_cert(&cert, quiet()).await;
        let refusal = against(&ca, &server).await;
        assert_eq!(refusal.sqlstate(), "57P03", "{what}");
        assert_eq!(refusal.message(), "cannot connect now: database not trusted", "{what}");
        assert!(refusal.detail().starts_with("Stage upstream_tls: "), "{what}: {refusal:?}");
    }
    // No TLS, an error instead of an answer, and bytes in clear behind the answer.
    for answer in [&b"N"[..], b"E\0\0\0\x05\0", b"Sinjected"] {
        let server = ScriptedServer::start(&ca, Script::Instead(answer.to_vec())).await;
        let refusal = against(&ca, &server).await;
        assert!(refusal.detail().starts_with("Stage upstream_tls: "), "{answer:?}: {refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_the_iam_token_is_for_a_cleartext_question_only() {
    let ca = Ca::new().unwrap();
    let scram = [&[0, 0, 0, 10], &b"SCRAM-SHA-256\0\0"[..]].concat();
    for question in [&[0, 0, 0, 5, 1, 2, 3, 4][..], &scram, &[0, 0, 0, 0], &[0, 0, 0, 7]] {
        let server = ScriptedServer::start(&ca, Script::AfterStartup(message(b'R', question))).await;
        let refusal = against(&ca, &server).await;
        assert_eq!(refusal.sqlstate(), "28P01", "{question:?}");
        assert!(refusal.detail().contains("not granted rds_iam"), "{refusal:?}");
        assert!(refusal.hint().contains("GRANT rds_iam TO \"alice\""), "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_hostile_server_costs_one_login() {
    let ca = Ca::new().unwrap();
    for bytes in [
        [&b"R"[..], &0x7fff_ffff_u32.to_be_bytes()].concat(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        message(b'E', b"SFATAL"),
        message(b'Z', b"I"),
        message(b'N', &vec![b'x'; 29_000]).repeat(40),
    ] {
        let server = ScriptedServer::start(&ca, Script::AfterStartup(bytes)).await;
        let refusal = against(&ca, &server).await;
        assert_eq!(refusal.sqlstate(), "57P03");
        assert!(refusal.detail().starts_with("Stage upstream_login: "), "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_a_server_that_dies_during_the_login() {
    let ca = Ca::new().unwrap();
    for says in [vec![], message(b'R', &[0, 0, 0, 0])] {
        let server = ScriptedServer::start(&ca, Script::ThenClose(says)).await;
        let refusal = against(&ca, &server).await;
        assert_eq!(refusal.sqlstate(), "57P03");
        assert_eq!(refusal.message(), "cannot connect now: database login failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_errors_arrive_as_it_sent_them_or_as_what_they_mean() {
    let ca = Ca::new().unwrap();
    for (sent, arrives, message) in [
        ("3D000", "3D000", "database \"x\" does not exist"),
        ("53300", "53300", "sorry, too many clients already"),
        ("57P03", "57P03", "the database system is starting up"),
        ("42704", "42704", "unrecognized configuration parameter \"x\""),
        ("28000", "28P01", "PAM authentication failed for user \"alice\""),
        ("28P01", "28P01", "password authentication failed for user \"alice\""),
        ("XX000", "57P03", "something broke"),
        ("58000", "57P03", "disk"),
        ("", "57P03", "no code at all"),
    ] {
        let server = ScriptedServer::start(&ca, Script::AfterPassword(error(sent, message))).await;
        let refusal = against(&ca, &server).await;
        assert_eq!(refusal.sqlstate(), arrives, "{sent}");
        if sent == arrives && sent != "28P01" {
            assert_eq!(refusal.message(), message);
        } else {
            assert!(!format!("{refusal:?}").contains(message) || arrives == "28P01", "{refusal:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_error_arrives_with_its_context_and_its_place_in_the_source() {
    let world = World::start().await;
    let token = world.token("alice");
    let login = world.raw().await.login("alice", Some("nowhere"), &token);
    let refusal = login.await.err().expect("there is no such database");
    assert_eq!((refusal.sqlstate(), refusal.0[&'F'].as_str()), ("3D000", "postinit.c"));
    assert!(refusal.0[&'L'].parse::<u32>().is_ok() && refusal.0.contains_key(&'R'), "{refusal:?}");
    let ca = Ca::new().unwrap();
    let fields =
        b"SFATAL\0VFATAL\0C42501\0Mno\0WPL/pgSQL function on_login()\nline 3 at RAISE\0Fpl_exec.c\0\0";
    let server = ScriptedServer::start(&ca, Script::AfterPassword(message(b'E', fields))).await;
    let refusal = against(&ca, &server).await;
    assert_eq!(refusal.0[&'W'], "PL/pgSQL function on_login() line 3 at RAISE");
    assert_eq!(refusal.0[&'F'], "pl_exec.c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rds_iam_and_a_role_that_does_not_exist() {
    let world = World::start().await;
    let missing = world.refusal("token", &world.token("nobody")).await;
    assert!(
        missing.hint().contains("CREATE USER \"nobody\""),
        "the derived user, not the asked: {missing:?}"
    );
    for user in ["carol", "nobody"] {
        let refusal = world.refusal(user, &world.token(user)).await;
        assert_eq!(refusal.sqlstate(), "28P01", "{user}");
        assert!(refusal.hint().contains(&format!("GRANT rds_iam TO \"{user}\"")), "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_iam_token_is_explained() {
    let world = World::start().await;
    let mut role =
        world.cloud.role(aws_emulator::PolicyTemplate::Trust, aws_emulator::PolicyTemplate::Permission);
    role.permission_policy = role.permission_policy.replace("rds-db:connect", "rds-db:nothing");
    world.cloud.sts.put_role(&role).unwrap();
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.sqlstate(), "28P01");
    assert!(refusal.detail().contains("the database refused the IAM token"), "{refusal:?}");
    assert!(refusal.hint().contains("rds-db:connect"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_database_is_the_servers_own_error() {
    let world = World::start().await;
    let error = world.raw().await.login("alice", Some("nowhere"), &world.token("alice")).await.err().unwrap();
    assert_eq!(error.sqlstate(), "3D000");
    assert_eq!(error.message(), "database \"nowhere\" does not exist");
}

/// An error that the server sends after it has the token keeps its text, with our stage and session.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_server_after_the_token_is_forwarded() {
    let world = World::start().await;
    let postgres = &database().postgres;
    for sql in [
        "create role nell nologin in role rds_iam",
        "create role full_up login connection limit 0 in role rds_iam",
        "create database closed",
        "revoke connect on database closed from public",
        "create database shut allow_connections false",
        "create database crowded connection limit 0",
    ] {
        postgres.sql(sql);
    }
    for (user, db, sqlstate, message, detail) in [
        ("nell", "app", "28P01", "role \"nell\" is not permitted to log in", ""),
        ("full_up", "app", "53300", "too many connections for role \"full_up\"", ""),
        (
            "alice",
            "closed",
            "42501",
            "permission denied for database \"closed\"",
            "User does not have CONNECT privilege. ",
        ),
        ("alice", "shut", "55000", "database \"shut\" is not currently accepting connections", ""),
        ("alice", "crowded", "53300", "too many connections for database \"crowded\"", ""),
        ("alice", "nowhere", "3D000", "database \"nowhere\" does not exist", ""),
    ] {
        let refusal = world.raw().await.login(user, Some(db), &world.token(user)).await.err().unwrap();
        assert_eq!((refusal.sqlstate(), refusal.message()), (sqlstate, message), "{refusal:?}");
        assert_eq!(refusal.detail(), format!("{detail}Stage upstream_login."), "{refusal:?}");
        let record = world.audit("session", &refusal.session()).await;
        assert!(record["reason"].as_str().unwrap().contains(message), "{record}");
    }
    // A setting that the server does not know, asked for by the client.
    let mut client = world.raw().await;
    client.send(&startup(&[("user", "alice"), ("database", "app"), ("no.such", "x"), ("nosuch", "y")])).await;
    let refusal = client.finish_login(&world.token("alice")).await.err().unwrap();
    assert_eq!(refusal.sqlstate(), "42704", "{refusal:?}");
}

/// Neither a client's terminal nor the log is at the mercy of a server's words.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_server_are_checked_before_they_are_forwarded() {
    let ca = Ca::new().unwrap();
    let long = "x".repeat(9_000);
    for (fields, sqlstate, words) in [
        (
            &b"VFATAL\0C3D000\0Mno\x1b]0;x\x07 way\nFATAL:  more\0\0"[..],
            "3D000",
            r"no\u{1b}]0;x\u{7} way FATAL:  more",
        ),
        (b"VFATAL\0C3D000\0M\xff\xfe\0\0", "3D000", "\u{fffd}\u{fffd}"),
        (b"VFATAL\0C3d000\0Mlower case\0\0", "57P03", "cannot connect now: database login failed"),
        (b"VFATAL\0C3D0000\0Mlong\0\0", "57P03", "cannot connect now: database login failed"),
        (b"VFATAL\0C00000\0Msuccess\0\0", "57P03", "cannot connect now: database login failed"),
        (b"VNOTICE\0C3D000\0Mno error\0\0", "57P03", "cannot connect now: database login failed"),
        (
            format!("VFATAL\0C3D000\0M{long}\0D{long}\0H{long}\0\0").as_bytes(),
            "3D000",
            &format!("{}…", &long[..1_000]),
        ),
    ] {
        let says = [message(b'R', &[0, 0, 0, 0]), message(b'E', fields)].concat();
        let server = ScriptedServer::start(&ca, Script::AfterPassword(says)).await;
        let world = World::builder().upstream(server.addr, &ca).start().await;
        let refusal = world.refusal("alice", &world.token("alice")).await;
        assert_eq!((refusal.sqlstate(), refusal.message()), (sqlstate, words), "{refusal:?}");
        assert!(refusal.0.values().all(|text| !text.chars().any(char::is_control)), "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_gives_no_key_gives_the_client_none() {
    let ca = Ca::new().unwrap();
    for (says, keys) in [(welcome(), 1), ([message(b'R', &[0, 0, 0, 0]), message(b'Z', b"I")].concat(), 0)] {
        let server = ScriptedServer::start(&ca, Script::AfterPassword(says)).await;
        let world = World::builder().upstream(server.addr, &ca).start().await;
        let (_, messages) =
            world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap();
        assert_eq!(messages.iter().filter(|(tag, _)| *tag == b'K').count(), keys);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_the_servers_secret_never_reaches_the_client() {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::AfterPassword(welcome())).await;
    let world = World::builder().upstream(server.addr, &ca).start().await;
    let (_, messages) = world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    let (_, key) = messages.iter().find(|(tag, _)| *tag == b'K').unwrap();
    assert_eq!(key[..4], [0, 0, 0x10, 1], "the process id is the server's");
    assert_ne!(&key[4..], b"keys", "the secret is not");
}
