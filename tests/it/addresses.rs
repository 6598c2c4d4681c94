//! Several addresses of one endpoint, of which some are half dead: they take connections and no sessions.

use aws_emulator::{Ca, names};

use crate::world::World;
use crate::world::raw::message;
use crate::world::scripted_server::{Script, ScriptedServer, error, welcome};

/// A few seconds for all: an address that keeps silent has its part of them.
const LIMITS: &str = "login_timeout = \"6s\"\nclient_login_timeout = \"1s\"\nserver_connect_timeout = \"2s\"";

/// A world in front of a server that plays `part` and a good one.
async fn behind(ca: &Ca, part: Script) -> (World, ScriptedServer, ScriptedServer) {
    let bad = ScriptedServer::start(ca, part).await;
    let good = ScriptedServer::start(ca, Script::AfterPassword(welcome())).await;
    let world = World::builder().upstreams(&[bad.addr, good.addr], ca).limits(LIMITS).start().await;
    (world, bad, good)
}

fn half_dead() -> Vec<(&'static str, Script)> {
    let fork = b"Ecould not fork new process for connection: Resource temporarily unavailable\n\0";
    let authenticated = message(b'R', &[0, 0, 0, 0]);
    vec![
        ("closes at once", Script::InsteadClose(vec![])),
        ("resets", Script::Reset),
        ("answers the SSLRequest with an error", Script::InsteadClose(fork.to_vec())),
        ("closes behind the S", Script::InsteadClose(b"S".to_vec())),
        ("closes in the handshake", Script::InHandshake(Some(vec![]))),
        ("resets in the handshake", Script::InHandshake(None)),
        ("sends an alert", Script::InHandshake(Some(b"\x15\x03\x03\0\x02\x02\x50".to_vec()))),
        ("is silent", Script::Silence),
        ("is silent in the handshake", Script::Instead(b"S".to_vec())),
        ("closes behind the startup packet", Script::AfterStartupClose(vec![])),
        ("is starting up", Script::AfterStartupClose(error("57P03", "the database system is starting up"))),
        ("is shutting down", Script::AfterStartup(error("57P01", "terminating connection"))),
        ("asks for nothing", Script::AfterStartup(vec![])),
        ("closes behind the password", Script::ThenClose(vec![])),
        ("closes behind AuthenticationOk", Script::ThenClose(authenticated.clone())),
        ("is silent behind AuthenticationOk", Script::AfterPassword(authenticated)),
        (
            "recovers behind the password",
            Script::AfterPassword(error("57P03", "not yet accepting connections")),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_half_dead_gives_way_to_the_next_one_and_is_tried_last() {
    let ca = Ca::new().unwrap();
    for (what, part) in half_dead() {
        let (world, bad, good) = behind(&ca, part).await;
        let token = world.token("alice");
        for logins in 1..=3 {
            let (client, _) = world
                .raw()
                .await
                .login("alice", Some(names::DATABASE), &token)
                .await
                .unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
            drop(client);
            assert_eq!(good.count(), logins, "{what}");
        }
        // Once more where another version of the protocol might have been the reason.
        assert!((1..=2).contains(&bad.count()), "{what}: {} connections", bad.count());
        assert_eq!(world.cloud.sts.count(), 1, "one token, whatever the number of addresses");
        let line = world.log_line(&format!("\"addr\":\"{}\",\"error\"", bad.addr)).await;
        assert!(line.contains("database address failed"), "{what}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_half_dead_addresses_are_an_outage_and_not_a_failed_verification() {
    let ca = Ca::new().unwrap();
    for (what, part) in half_dead() {
        let servers =
            [ScriptedServer::start(&ca, part.clone()).await, ScriptedServer::start(&ca, part).await];
        let addresses = servers.each_ref().map(|server| server.addr);
        let world = World::builder().upstreams(&addresses, &ca).limits(LIMITS).start().await;
        let refusal = world.refusal("alice", &world.token("alice")).await;
        assert!(matches!(refusal.sqlstate(), "57P03" | "57P01"), "{what}: {refusal:?}");
        assert!(!refusal.message().contains("not trusted"), "{what}: {refusal:?}");
        assert!(servers.iter().all(|server| server.count() > 0), "{what}: all are tried");
    }
}

/// A server that is not the database, or that says of the person what another one would say too, is the answer.
#[tokio::test(flavor = "multi_thread")]
async fn distrust_and_the_servers_own_decision_are_not_hidden_by_the_next_address() {
    let ca = Ca::new().unwrap();
    let md5 = message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]);
    for (what, part, sqlstate) in [
        ("does not support TLS", Script::Instead(b"N".to_vec()), "57P03"),
        ("sends bytes in clear", Script::Instead(b"Sinjected".to_vec()), "57P03"),
        ("speaks HTTP", Script::InHandshake(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())), "57P03"),
        ("asks for MD5", Script::AfterStartup(md5), "28P01"),
        ("breaks the protocol", Script::AfterStartup(message(b'Z', b"I")), "57P03"),
        (
            "has no such database",
            Script::AfterPassword(error("3D000", "database \"x\" does not exist")),
            "3D000",
        ),
        ("is full", Script::AfterPassword(error("53300", "sorry, too many clients already")), "53300"),
        ("refuses the token", Script::AfterPassword(error("28000", "PAM authentication failed")), "28P01"),
    ] {
        let (world, bad, good) = behind(&ca, part).await;
        let refusal = world.refusal("alice", &world.token("alice")).await;
        assert_eq!(refusal.sqlstate(), sqlstate, "{what}: {refusal:?}");
        assert_eq!((bad.count(), good.count()), (1, 0), "{what}");
    }
    let good = ScriptedServer::start(&ca, Script::AfterPassword(welcome())).await;
    let other =
        ScriptedServer::with_cert(&ca.server(&["other.example"]).unwrap(), Script::AfterStartup(vec![]))
            .await;
    let world = World::builder().upstreams(&[other.addr, good.addr], &ca).start().await;
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.message(), "cannot connect now: database not trusted");
    assert_eq!(good.count(), 0);
}
