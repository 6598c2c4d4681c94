//! Several addresses of one endpoint, of which some are half dead: they take connections and no sessions.

use aws_emulator::{Ca, names};

use crate::world::World;
use crate::world::raw::message;
use crate::world::scripted_server::{FakeServer, Part, error, welcome};

/// A few seconds for all: an address that keeps silent has its part of them.
const LIMITS: &str = "login_timeout = \"6s\"\nclient_login_timeout = \"1s\"\nserver_connect_timeout = \"2s\"";

/// A world in front of a server that plays `part` and a good one.
async fn behind(ca: &Ca, part: Part) -> (World, FakeServer, FakeServer) {
    let bad = FakeServer::start(ca, part).await;
    let good = FakeServer::start(ca, Part::AfterPassword(welcome())).await;
    let world = World::wishes().upstreams(&[bad.addr, good.addr], ca).limits(LIMITS).start().await;
    (world, bad, good)
}

fn half_dead() -> Vec<(&'static str, Part)> {
    let fork = b"Ecould not fork new process for connection: Resource temporarily unavailable\n\0";
    let authenticated = message(b'R', &[0, 0, 0, 0]);
    vec![
        ("closes at once", Part::InsteadClose(vec![])),
        ("resets", Part::Reset),
        ("answers the SSLRequest with an error", Part::InsteadClose(fork.to_vec())),
        ("closes behind the S", Part::InsteadClose(b"S".to_vec())),
        ("closes in the handshake", Part::InHandshake(Some(vec![]))),
        ("resets in the handshake", Part::InHandshake(None)),
        ("sends an alert", Part::InHandshake(Some(b"\x15\x03\x03\0\x02\x02\x50".to_vec()))),
        ("is silent", Part::Silence),
        ("is silent in the handshake", Part::Instead(b"S".to_vec())),
        ("closes behind the startup packet", Part::AfterStartupClose(vec![])),
        ("is starting up", Part::AfterStartupClose(error("57P03", "the database system is starting up"))),
        ("is shutting down", Part::AfterStartup(error("57P01", "terminating connection"))),
        ("asks for nothing", Part::AfterStartup(vec![])),
        ("closes behind the password", Part::ThenClose(vec![])),
        ("closes behind AuthenticationOk", Part::ThenClose(authenticated.clone())),
        ("is silent behind AuthenticationOk", Part::AfterPassword(authenticated)),
        (
            "recovers behind the password",
            Part::AfterPassword(error("57P03", "not yet accepting connections")),
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
        assert!(line.contains("an address of the database fails"), "{what}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_dead_addresses_alone_are_no_matter_of_trust() {
    let ca = Ca::new().unwrap();
    for (what, part) in half_dead() {
        let servers = [FakeServer::start(&ca, part.clone()).await, FakeServer::start(&ca, part).await];
        let addresses = servers.each_ref().map(|server| server.addr);
        let world = World::wishes().upstreams(&addresses, &ca).limits(LIMITS).start().await;
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
        ("has no TLS", Part::Instead(b"N".to_vec()), "57P03"),
        ("sends bytes in clear", Part::Instead(b"Sinjected".to_vec()), "57P03"),
        ("speaks HTTP", Part::InHandshake(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())), "57P03"),
        ("asks for MD5", Part::AfterStartup(md5), "28P01"),
        ("breaks the protocol", Part::AfterStartup(message(b'Z', b"I")), "57P03"),
        (
            "has no such database",
            Part::AfterPassword(error("3D000", "database \"x\" does not exist")),
            "3D000",
        ),
        ("is full", Part::AfterPassword(error("53300", "sorry, too many clients already")), "53300"),
        ("refuses the token", Part::AfterPassword(error("28000", "PAM authentication failed")), "28P01"),
    ] {
        let (world, bad, good) = behind(&ca, part).await;
        let refusal = world.refusal("alice", &world.token("alice")).await;
        assert_eq!(refusal.sqlstate(), sqlstate, "{what}: {refusal:?}");
        assert_eq!((bad.count(), good.count()), (1, 0), "{what}");
    }
    let good = FakeServer::start(&ca, Part::AfterPassword(welcome())).await;
    let other =
        FakeServer::with_cert(&ca.server(&["other.example"]).unwrap(), Part::AfterStartup(vec![])).await;
    let world = World::wishes().upstreams(&[other.addr, good.addr], &ca).start().await;
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.message(), "cannot connect now: database not trusted");
    assert_eq!(good.count(), 0);
}
