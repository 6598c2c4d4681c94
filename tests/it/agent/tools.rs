//! Tools that connect through the agent.

use std::sync::Arc;

use pgpassport::agent::sockets::SOCKET_NAME;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::LocalAgent;
use crate::world::admin::until;
use crate::world::raw::startup;
use crate::world::{World, database};

#[tokio::test(flavor = "multi_thread")]
async fn psql_is_the_person_on_either_socket() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let show =
        "select current_user || ' ' || current_database() || ' ' || current_setting('application_name')";
    for place in agent.places() {
        // Whatever user the tool has in its settings.
        for user in ["token", "alice", "root"] {
            let said = agent.says(&place, &["-U", user, "-d", "app", "-c", show]).await;
            assert_eq!(said.as_deref(), Ok("alice app psql"), "{place:?} {user}");
        }
        // Without a database it is the profile's first one.
        let said = agent.says(&place, &["-U", "somebody", "-c", "select current_database()"]).await;
        assert_eq!(said.as_deref(), Ok("app"));
    }
    assert_eq!(agent.asked(), 8, "a token for each connection");
}

/// More than every buffer on the way, in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn data_passes_unchanged_both_ways() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let client = agent.connect().await.unwrap();
    let sent: String = (0..400_000).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
    let row =
        client.query_one("select $1::text, md5($1::text) = md5(repeat('x', 3))", &[&sent]).await.unwrap();
    assert!(row.get::<_, String>(0) == sent && !row.get::<_, bool>(1));
    // Parameters that the server reports, and a changed one.
    client.batch_execute("set time zone 'Asia/Tokyo'").await.unwrap();
    let zone: String = client.query_one("show timezone", &[]).await.unwrap().get(0);
    assert_eq!(zone, "Asia/Tokyo");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_tools_at_once_are_served() {
    let world = World::start().await;
    let agent = Arc::new(LocalAgent::start(&world, &world.token("alice")).await);
    let mut tools = JoinSet::new();
    for _ in 0..50 {
        let agent = Arc::clone(&agent);
        tools.spawn(async move {
            let client = agent.connect().await.unwrap();
            client.query_one("select 1", &[]).await.unwrap();
            client
        });
    }
    let clients = tools.join_all().await;
    assert_eq!(clients.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_16_000_bytes_passes() {
    let world = World::start().await;
    let token = world.plant(world.cloud.issuer.mint_sized(world.claims("alice"), 16_000));
    assert!(token.len().abs_diff(16_000) <= 8, "{}", token.len());
    let agent = LocalAgent::start(&world, &token).await;
    for place in agent.places() {
        assert_eq!(
            agent.says(&place, &["-d", "app", "-c", "select current_user"]).await.as_deref(),
            Ok("alice")
        );
    }
}

/// A session outlives the token that opened it, as it does without the agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_session_ends_nothing() {
    let world = World::builder().one_clock().start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let client = agent.connect().await.unwrap();
    world.cloud.clock.advance(7_200);
    client.query_one("select 1", &[]).await.unwrap();
    let error = agent.connect().await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "28P01", "{error:?}");
    client.query_one("select 1", &[]).await.unwrap();
}

/// The end of either side is the end of the session.
#[tokio::test(flavor = "multi_thread")]
async fn both_ends_are_told_of_the_end() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let client = agent.connect().await.unwrap();
    world.metric_is("pgpassport_cl_active", 1.0).await;
    drop(client);
    world.metric_is("pgpassport_cl_active", 0.0).await;
    let client = agent.connect().await.unwrap();
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let sql = format!("select pg_terminate_backend({pid})");
    let postgres = database().postgres.clone();
    tokio::task::spawn_blocking(move || postgres.sql(&sql)).await.unwrap();
    let error = client.query_one("select 1", &[]).await.unwrap_err();
    let told = error.code().is_some_and(|code| code.code() == "57P01");
    assert!(told || error.is_closed(), "{error:?}");
    until("the connection is closed", async || client.is_closed()).await;
}

/// A proxy that asks by OAUTHBEARER gets the same token in that form.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_asks_by_oauthbearer_is_answered() {
    let world = World::builder().listen("auth = \"oauthbearer\"").start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    for place in agent.places() {
        assert_eq!(
            agent.says(&place, &["-d", "app", "-c", "select current_user"]).await.as_deref(),
            Ok("alice")
        );
    }
    let refused = LocalAgent::start(&world, "no.good.token").await;
    let error = refused.refusal().await;
    assert_eq!(error.code().code(), "28P01");
    assert!(error.detail().unwrap().contains("Stage token"), "{error:?}");
}

/// Protocol 3.2 has longer cancel keys; the tool gets the version that it asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_speaks_3_2_gets_the_longer_key() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    for minor in [0, 2] {
        let mut tool = UnixStream::connect(agent.socket().join(SOCKET_NAME)).await.unwrap();
        let mut packet = startup(&[("user", "token"), ("database", "app")]);
        packet[7] = minor;
        tool.write_all(&packet).await.unwrap();
        let mut tags = Vec::new();
        loop {
            let tag = tool.read_u8().await.unwrap();
            let mut body = vec![0; usize::try_from(tool.read_u32().await.unwrap()).unwrap() - 4];
            tool.read_exact(&mut body).await.unwrap();
            tags.push(tag);
            if tag == b'K' {
                assert_eq!(body.len() > 8, minor == 2, "3.{minor}: {} bytes", body.len());
            }
            if tag == b'Z' {
                break;
            }
        }
        assert!(tags[0] == b'R' && tags.contains(&b'K') && tags.contains(&b'S'), "{tags:?}");
    }
}
