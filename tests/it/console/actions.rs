//! Actions on the console: end sessions, read the configuration again, stop the service.

use tokio::time::timeout;
use tokio_postgres::Client;

use super::{cell, failure, rows, with_console};
use crate::world::raw::{PATIENCE, query};
use crate::world::{ErrorFields, RawClient, World};

async fn session(world: &World, user: &str) -> RawClient {
    world.raw().await.login(user, Some("app"), &world.token(user)).await.unwrap().0
}

/// Id of the session of `user`.
async fn id(console: &Client, user: &str) -> String {
    let sessions = rows(console, "SHOW SESSIONS").await;
    let found = sessions.iter().find(|row| cell(row, "db_user") == user);
    cell(found.unwrap_or_else(|| panic!("no session of {user}: {sessions:?}")), "id").to_owned()
}

/// The last error of a session that ends.
async fn last_word(client: &mut RawClient) -> ErrorFields {
    let mut last = ErrorFields::default();
    while let Some((tag, body)) = client.message().await {
        if tag == b'E' {
            last = ErrorFields::parse(&body);
        }
    }
    last
}

/// A session ends between two messages, idle or not, and is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_session_is_told_and_recorded() {
    let world = with_console().start().await;
    let console = world.console("dba").await;
    for state in ["idle", "idle in transaction", "active"] {
        let mut alice = session(&world, "alice").await;
        match state {
            "idle in transaction" => {
                alice.send(&query("begin")).await;
                while alice.message().await.unwrap().0 != b'Z' {}
            }
            "active" => alice.send(&query("select pg_sleep(600)")).await,
            _ => {}
        }
        let shown = async || cell(&rows(&console, "SHOW SESSIONS").await[0], "state").to_owned();
        let reached = async { while shown().await != state {} };
        timeout(PATIENCE, reached).await.expect("the state is shown");
        let id = id(&console, "alice").await;
        console.simple_query(&format!("KILL {id}")).await.unwrap();
        let error = last_word(&mut alice).await;
        assert_eq!(error.sqlstate(), "57P01", "{state}: {error:?}");
        assert!(error.detail().contains("an operator of the proxy ended this session"), "{error:?}");
        let end = world.audit("session", &id).await;
        assert_eq!(end["end"], "killed", "{end}");
        assert_eq!(failure(&console, &format!("KILL {id}")).await, "42704");
    }
    world.metric_is("pgpassport_sessions_ended_total{reason=\"killed\"}", 3.0).await;
}

/// Inside a row, the order waits for the row's end. A client that does not take the rest in time is cut off, and never reads
/// the proxy's error in the place of data.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_puts_no_byte_into_a_row() {
    const ROW: usize = 12_000_000;
    let world = with_console().start().await;
    let console = world.console("dba").await;
    let mut alice = session(&world, "alice").await;
    // More than all buffers hold, so that the kill comes in the middle of the row.
    alice.send(&query(&format!("select repeat('x', {ROW})"))).await;
    assert_eq!(alice.message().await.unwrap().0, b'T');
    let id = id(&console, "alice").await;
    console.simple_query(&format!("KILL {id}")).await.unwrap();
    let mut last = None;
    while let Some((tag, body)) = alice.message().await {
        match tag {
            b'D' => assert!(body.len() == 6 + ROW && body[6..].iter().all(|byte| *byte == b'x')),
            b'E' => last = Some(ErrorFields::parse(&body)),
            _ => {}
        }
    }
    assert!(last.as_ref().is_none_or(|error| error.sqlstate() == "57P01"), "{last:?}");
    assert_eq!(world.audit("session", &id).await["end"], "killed");
}

/// All sessions of a person and of nobody else, on the console as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_killed_everywhere() {
    let world = with_console().start().await;
    let console = world.console("dba").await;
    let (mut first, mut second) = (session(&world, "alice").await, session(&world, "alice").await);
    let _bob = session(&world, "bob").await;
    let token = world.member("alice", &["oncall"]);
    let mut looking = world.raw().await.login("alice", Some("pgpassport"), &token).await.unwrap().0;
    console.simple_query("KILL SUBJECT 'alice' ISSUER 'elsewhere'").await.unwrap();
    assert_eq!(rows(&console, "SHOW SESSIONS").await.len(), 3);
    console.simple_query("KILL SUBJECT alice ISSUER idp").await.unwrap();
    for client in [&mut first, &mut second, &mut looking] {
        assert_eq!(last_word(client).await.sqlstate(), "57P01");
    }
    let only_bob = async { while rows(&console, "SHOW SESSIONS").await.len() > 1 {} };
    timeout(PATIENCE, only_bob).await.expect("the others are gone");
    assert_eq!(cell(&rows(&console, "SHOW SESSIONS").await[0], "subject"), "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_tells_its_result() {
    let world = with_console().start().await;
    let console = world.console("dba").await;
    world.edit("[limits]", "[limits]\nmax_client_conn = 77");
    console.simple_query("RELOAD").await.unwrap();
    assert_eq!(cell(&rows(&console, "SHOW LIMITS").await[0], "max"), "77");
    world.edit("max_client_conn = 77", "max_client_conn = 1");
    let error = console.simple_query("RELOAD").await.unwrap_err();
    let error = error.as_db_error().expect("an answer");
    assert_eq!(error.code().code(), "F0000");
    assert!(error.detail().unwrap().contains("limits.max_client_conn"), "{error:?}");
    assert_eq!(cell(&rows(&console, "SHOW LIMITS").await[0], "max"), "77");
    let failed = world.audit("outcome", "failed").await;
    assert_eq!(failed["command"], "RELOAD", "{failed}");
}

/// The answer comes before the end, also without a delay.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_is_the_graceful_one() {
    let mut world = with_console().start().await;
    let mut alice = session(&world, "alice").await;
    alice.send(&query("begin")).await;
    while alice.message().await.unwrap().0 != b'Z' {}
    let stopped = world.console_psql("dba", &["-c", "SHUTDOWN"]).await;
    assert!(stopped.ok && stopped.stderr.contains("the service stops"), "{stopped:?}");
    assert_eq!(world.get("/readyz").await, (503, "stopping\n".to_owned()));
    alice.send(&query("commit")).await;
    let error = last_word(&mut alice).await;
    assert!(error.sqlstate() == "57P01" && error.detail().contains("stopping"), "{error:?}");
    let serving = world.serving.take().unwrap();
    timeout(PATIENCE, serving).await.expect("the service ends").unwrap().unwrap();
}
