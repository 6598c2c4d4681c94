//! Error messages of a tool without a session.

use aws_emulator::Ca;
use pgpassport::agent::{NoToken, PersonalLogin};
use pgpassport::secret::Jwt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::LocalAgent;
use crate::world::World;

const SELECT: [&str; 4] = ["-d", "app", "-c", "select 1"];

#[tokio::test(flavor = "multi_thread")]
async fn signed_out_is_a_refusal_that_names_the_remedy() {
    let world = World::start().await;
    let signed_out = || {
        Err(NoToken {
            reason: "profile \"acme\" is signed out".to_owned(),
            remedy: "Run `pgpassport login --profile acme` in a terminal.".to_owned(),
            is_transient: false,
        })
    };
    let agent = LocalAgent::start_with(&world, "localhost", signed_out).await;
    for place in agent.places() {
        let said = agent.says(&place, &SELECT).await.unwrap_err();
        assert!(said.contains("FATAL:  password authentication failed for user"), "{said}");
        assert!(said.contains("DETAIL:  No token: profile \"acme\" is signed out."), "{said}");
        assert!(said.contains("HINT:  Run `pgpassport login --profile acme` in a terminal."), "{said}");
    }
    let error = agent.refusal().await;
    assert_eq!(error.code().code(), "28P01");
    assert_eq!(error.hint(), Some("Run `pgpassport login --profile acme` in a terminal."));
    let (_, metrics) = world.get("/metrics").await;
    assert!(
        metrics.contains("pgpassport_connections_total{outcome=\"refused\"} 0"),
        "the proxy was not asked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_is_something_that_passes() {
    let world = World::start().await;
    let down = || {
        Err(NoToken {
            reason: "the issuer https://idp cannot be asked: no answer".to_owned(),
            remedy: "Check the network.".to_owned(),
            is_transient: true,
        })
    };
    let agent = LocalAgent::start_with(&world, "localhost", down).await;
    let error = agent.refusal().await;
    assert_eq!((error.code().code(), error.hint()), ("57P03", Some("Check the network.")));
    assert!(error.detail().unwrap().contains("cannot be asked"), "{error:?}");
}

/// The proxy's words, and those of the database, arrive whole.
#[tokio::test(flavor = "multi_thread")]
async fn detail_and_hint_of_the_proxy_are_passed_on() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("nobody")).await;
    for place in agent.places() {
        let said = agent.says(&place, &SELECT).await.unwrap_err();
        assert!(said.contains("DETAIL:") && said.contains("Stage ") && said.contains("Session "), "{said}");
        assert!(said.contains("HINT:"), "{said}");
    }
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let said = agent.says(&agent.places()[1], &["-d", "elsewhere", "-c", "select 1"]).await.unwrap_err();
    assert!(said.contains("elsewhere"), "{said}");
}

/// Another authority, another name, no TLS: nothing is sent that a stranger could use.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_be_verified_gets_no_token() {
    let world = World::start().await;
    let token = world.token("alice");
    let login = |token: String| {
        move || Ok(PersonalLogin { token: Jwt::new(token.clone().into_bytes()), user: "token".to_owned() })
    };
    let folder = tempfile::tempdir().unwrap();
    let other = Ca::new().unwrap().write(folder.path()).unwrap();
    let untrusted = LocalAgent::trusting(&world, "localhost", &other, login(token.clone())).await;
    let misnamed = LocalAgent::start_with(&world, "db.example.com", login(token)).await;
    for agent in [&untrusted, &misnamed] {
        for place in agent.places() {
            let said = agent.says(&place, &SELECT).await.unwrap_err();
            assert!(said.contains("is not trusted: invalid peer certificate"), "{said}");
            assert!(said.contains("HINT:  Check proxy and ca_file"), "{said}");
        }
        assert_eq!(agent.refusal().await.code().code(), "57P03");
    }
    let (_, metrics) = world.get("/metrics").await;
    assert!(metrics.contains("pgpassport_connections_total{outcome=\"session\"} 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_postgresql_gets_no_answer() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"]
    {
        let mut tcp = TcpStream::connect(agent.addr).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await; // a reset ends it too
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert_eq!(agent.asked(), 0);
}
