//! Cancels through the agent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::{LocalAgent, outcome};
use crate::world::raw::cancel;
use crate::world::{World, database, until_asleep};

#[tokio::test(flavor = "multi_thread")]
async fn a_drivers_cancel_reaches_the_query() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let client = agent.connect().await.unwrap();
    let canceller = client.cancel_token();
    let (result, ()) = tokio::join!(client.query_one("select pg_sleep(7101)", &[]), async {
        until_asleep(&database().postgres, 7101).await;
        canceller.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(result.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    client.query_one("select 1", &[]).await.unwrap();
    let record = world.audit("outcome", "cancel").await;
    assert!(record["reason"].as_str().unwrap().starts_with("forwarded to "), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_psql_reaches_the_query() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let places = agent.places();
    let psql = LocalAgent::psql(&places[0], &["-d", "app", "-c", "select pg_sleep(7102)"]).spawn().unwrap();
    until_asleep(&database().postgres, 7102).await;
    let pid = nix::unistd::Pid::from_raw(psql.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let said = outcome(&psql.wait_with_output().await.unwrap()).unwrap_err();
    assert!(said.contains("57014") && said.contains("canceling statement"), "{said}");
}

/// The proxy counts wrong keys against the address that they come from, which is the person's.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_session_has_are_not_passed_on() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let client = agent.connect().await.unwrap();
    for guess in [&b"\0\0\0\x07what"[..], &[7; 36]] {
        let mut tcp = TcpStream::connect(agent.addr).await.unwrap();
        tcp.write_all(&cancel(guess)).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty(), "{answer:?}");
    }
    // A right one of a session that has ended is none any more either.
    let late = client.cancel_token();
    drop(client);
    world.metric_is("pgpassport_cl_active", 0.0).await;
    late.cancel_query(NoTls).await.unwrap();
    let (_, metrics) = world.get("/metrics").await;
    let cancels: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("pgpassport_cancels_total{") && !line.ends_with(" 0"))
        .collect();
    assert!(cancels.is_empty(), "{cancels:?}");
}
