//! SASL OAUTHBEARER as clients of PostgreSQL 18 speak it, byte by byte.

use aws_emulator::names;

use crate::world::raw::{message, startup};
use crate::world::{ErrorFields, RawClient, World, WorldBuilder};

const OFFER: &[u8] = b"\0\0\0\x0aOAUTHBEARER\0\0";
const CONTINUE: &[u8] = &[0, 0, 0, 11];

fn builder(name: &str) -> WorldBuilder {
    World::builder()
        .listen(&format!("name = \"{name}\"\nauth = \"oauthbearer\"\noauth_scope = \"openid db\""))
}

fn response(auth: &str) -> Vec<u8> {
    let data = format!("n,,\u{1}auth={auth}\u{1}\u{1}");
    let length = i32::try_from(data.len()).unwrap().to_be_bytes();
    message(b'p', &[b"OAUTHBEARER\0", &length[..], data.as_bytes()].concat())
}

/// A client that has been offered the mechanism and has answered with `auth`.
async fn asked(world: &World, auth: &str) -> RawClient {
    let mut client = world.raw().await;
    client.start("alice", Some(names::DATABASE)).await;
    assert_eq!(client.message().await.unwrap(), (b'R', OFFER.to_vec()));
    client.send(&response(auth)).await;
    client
}

/// The challenge that says where tokens come from.
async fn challenge(client: &mut RawClient) -> serde_json::Value {
    let (tag, body) = client.message().await.unwrap();
    assert_eq!((tag, &body[..4]), (b'R', CONTINUE));
    serde_json::from_slice(&body[4..]).unwrap()
}

async fn refusal(world: &World, client: &mut RawClient) -> ErrorFields {
    let (tag, body) = client.message().await.unwrap();
    assert_eq!(tag, b'E');
    world.hear(&body);
    assert!(client.message().await.is_none(), "and nothing behind it");
    ErrorFields::parse(&body)
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_token_over_oauthbearer_opens_a_session() {
    let world = builder("bearer").start().await;
    let mut client = asked(&world, &format!("Bearer {}", world.token("alice"))).await;
    // No SASLFinal: libpq takes one for an error.
    assert_eq!(client.message().await.unwrap(), (b'R', vec![0; 4]));
    while client.message().await.unwrap().0 != b'Z' {}
    drop(client);
    let record = world.audit_of("bearer", "outcome", "session").await;
    assert_eq!((record["db_user"].as_str(), record["subject"].as_str()), (Some("alice"), Some("alice")));
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_discovery_is_answered_and_is_no_failed_login() {
    let world = builder("discovered").start().await;
    let mut client = asked(&world, "").await;
    let told = challenge(&mut client).await;
    let document = format!("{}/.well-known/openid-configuration", world.cloud.issuer.url());
    let expected = serde_json::json!({
        "status": "invalid_token", "openid-configuration": document, "scope": "openid db",
    });
    assert_eq!(told, expected);
    client.send(&message(b'p', b"\x01")).await;
    let error = refusal(&world, &mut client).await;
    assert_eq!(error.sqlstate(), "28P01");
    assert_eq!(error.message(), "OAuth bearer authentication failed for user \"alice\"");
    let record = world.audit_of("discovered", "outcome", "discovery").await;
    assert_eq!(record["level"], "DEBUG");
    assert!(record["sqlstate"].is_null() && record["stage"].is_null(), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_rejected_token_fails_the_exchange_and_then_gets_an_error() {
    let world = builder("rejected").start().await;
    let expired = world.mint(world.claims("alice").set("iat", 999_000).set("exp", 1_000_000));
    for (auth, told) in [
        (format!("Bearer {expired}"), "the token expired"),
        ("Bearer opaque".to_owned(), "the token is not a JWT"),
        ("Basic eDp5".to_owned(), "the scheme is another one"),
        (format!("Bearer {}", world.token("bob")), "the token is for \"bob\""),
    ] {
        let mut client = asked(&world, &auth).await;
        assert_eq!(challenge(&mut client).await["status"], "invalid_token", "{told}");
        client.send(&message(b'p', b"\x01")).await;
        let error = refusal(&world, &mut client).await;
        assert_eq!(error.sqlstate(), "28P01");
        assert_eq!(error.message(), "OAuth bearer authentication failed for user \"alice\"");
        assert!(error.detail().contains(told), "{error:?}");
    }
    let record = world.audit_of("rejected", "outcome", "refused").await;
    assert_eq!((record["stage"].as_str(), record["sqlstate"].as_str()), (Some("token"), Some("28P01")));
    assert_eq!(record["level"], "INFO");
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_fault_that_is_not_the_tokens_is_an_error_outside_the_exchange() {
    // Nobody listens there.
    let world = builder("troubled").upstream(([127, 0, 0, 1], 1).into(), &crate::world::database().ca);
    let world = world.start().await;
    let mut client = asked(&world, &format!("Bearer {}", world.token("alice"))).await;
    let error = refusal(&world, &mut client).await;
    assert_eq!(error.sqlstate(), "57P03");
    // So is what breaks the protocol.
    let mut client = asked(&world, "Bearer x\u{1}auth=Bearer y").await;
    let error = refusal(&world, &mut client).await;
    assert_eq!(
        (error.sqlstate(), error.message()),
        ("08P01", "malformed OAUTHBEARER message: there are several auth values")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_without_tls_nothing_is_asked() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = builder("clear").start().await;
    let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    tcp.write_all(&startup(&[("user", "alice")])).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], b'E');
    assert_eq!(ErrorFields::parse(&answer[5..]).sqlstate(), "28000");
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_client_that_knows_passwords_only_is_not_asked_for_one() {
    let world = builder("modern").start().await;
    let psql = world.psql("user=alice dbname=app", &world.token("alice"), &["-c", "select 1"]).await;
    assert!(!psql.ok && psql.stderr.contains("SASL"), "{psql:?}");
    let record = world.audit_of("modern", "outcome", "no_token").await;
    assert!(record["sqlstate"].is_null(), "{record}");
}
