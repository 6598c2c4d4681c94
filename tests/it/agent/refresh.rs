//! The agent of a person who has signed in at the issuer: tokens that are renewed while tools connect.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error, NoTls};

use crate::sign_in::session::person_of;
use crate::sign_in::{Person, asked};
use crate::world::World;

/// The agent as a process, and its socket's folder.
pub(crate) async fn agent_of(person: &Person) -> (Child, PathBuf) {
    start(person, person.command(&["connect"])).await
}

pub(super) async fn start(person: &Person, mut command: Command) -> (Child, PathBuf) {
    let mut agent = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut welcome = BufReader::new(agent.stdout.take().unwrap()).lines();
    let line_of_client =
        |line: &str| ["psql -h", "mysql --no-defaults"].iter().any(|client| line.contains(client));
    while !line_of_client(&welcome.next_line().await.unwrap().expect("a welcome")) {}
    (agent, person.path(".cache/pgpassport/agent-test"))
}

pub(super) async fn connect(folder: PathBuf) -> Result<Client, Error> {
    let mut config = tokio_postgres::Config::new();
    let (client, connection) = config.host_path(folder).user("token").dbname("app").connect(NoTls).await?;
    tokio::spawn(connection);
    client.query_one("select 1", &[]).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connections_at_once_make_one_refresh() {
    let world = World::start().await;
    let issuer = &world.cloud.issuer;
    issuer.set_token_life(30); // so that the first connection renews it
    let person = person_of(&world, "").await;
    issuer.set_token_life(900);
    let before = asked(issuer);
    let (_agent, folder) = agent_of(&person).await;
    let mut tools = JoinSet::new();
    for _ in 0..50 {
        tools.spawn(connect(folder.clone()));
    }
    let clients = tools.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!((clients.len(), asked(issuer) - before), (50, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_refuses_new_connections_until_it_is_back() {
    let world = World::start().await;
    let issuer = &world.cloud.issuer;
    issuer.set_token_life(30);
    let person = person_of(&world, "").await;
    let (_agent, folder) = agent_of(&person).await;
    let open = connect(folder.clone()).await.unwrap();
    issuer.go_down();
    // The old token is still good, and too old for a connection.
    let error = connect(folder.clone()).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "57P03", "{error:?}");
    assert!(error.detail().unwrap().starts_with("No token: "), "{error:?}");
    open.query_one("select 1", &[]).await.unwrap();
    issuer.heal();
    connect(folder).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_sign_in_refuses_every_tool_until_the_person_signs_in_again() {
    let world = World::start().await;
    let issuer = &world.cloud.issuer;
    issuer.set_token_life(30);
    let person = person_of(&world, "").await;
    let (_agent, folder) = agent_of(&person).await;
    let open = connect(folder.clone()).await.unwrap(); // the agent has had a good token
    issuer.revoke_user("alice");
    let metrics = async || {
        let (_, page) = world.get("/metrics").await;
        page.lines()
            .filter(|line| line.starts_with("pgpassport_connections_total{"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let at_the_proxy = metrics().await;
    // The older token has seconds left, and the proxy would still take it.
    for (refreshes, told) in [(1, "has ended: invalid_grant"), (0, "is signed out")] {
        let before = asked(issuer);
        let error = connect(folder.clone()).await.expect_err("an older token was used");
        let error = error.as_db_error().expect("an answer to the tool");
        assert_eq!(error.code().code(), "28P01", "{error:?}");
        let detail = error.detail().unwrap();
        assert!(detail.starts_with("No token: ") && detail.contains(told), "{detail}");
        assert_eq!(error.hint(), Some("Run `pgpassport login --profile test` in a terminal."));
        assert_eq!(asked(issuer) - before, refreshes, "requests for a token");
    }
    assert_eq!(metrics().await, at_the_proxy, "the proxy was asked");
    assert!(!person.record().exists(), "a refused refresh token is kept");
    open.query_one("select 1", &[]).await.unwrap(); // a session goes on
    person.login("alice").await;
    connect(folder).await.unwrap();
}
