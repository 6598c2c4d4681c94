//! PAUSE, DRAIN, and RESUME of a cluster: what becomes of its sessions and of new logins.

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::{RULES, cell, failure, rows, with_console};
use crate::mysql;
use crate::world::admin::until;
use crate::world::raw::{PATIENCE, query};
use crate::world::{ErrorFields, RawClient, World};

async fn session(world: &World, user: &str) -> RawClient {
    world.raw().await.login(user, Some("app"), &world.token(user)).await.unwrap().0
}

/// A login that may have to wait.
async fn arriving(world: &World, user: &'static str) -> JoinHandle<Result<RawClient, ErrorFields>> {
    let (client, token) = (world.raw().await, world.token(user));
    tokio::spawn(async move { Ok(client.login(user, Some("app"), &token).await?.0) })
}

/// Has a statement executed; the session goes on.
async fn execute(client: &mut RawClient, statement: &str) {
    client.send(&query(statement)).await;
    loop {
        let (tag, body) =
            client.message().await.unwrap_or_else(|| panic!("{statement}: the session is over"));
        assert_ne!(tag, b'E', "{statement}: {:?}", ErrorFields::parse(&body));
        if tag == b'Z' {
            return;
        }
    }
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

/// State of the cluster, and the logins that wait.
async fn state(console: &Client) -> (String, String) {
    let clusters = rows(console, "SHOW CLUSTERS").await;
    (cell(&clusters[0], "state").to_owned(), cell(&clusters[0], "waiting_logins").to_owned())
}

fn is(state: &str, waiting: &str) -> (String, String) {
    (state.to_owned(), waiting.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_logins_back_until_resume_and_cuts_nothing() {
    let world = with_console().start().await;
    let (pausing, console) = (world.console("dba").await, world.console("dba").await);
    let mut alice = session(&world, "alice").await;
    execute(&mut alice, "begin").await;
    let pause = tokio::spawn(async move { pausing.simple_query("PAUSE app").await.map(drop) });
    until("the pause", async || state(&console).await == is("paused", "0")).await;
    let calls = world.cloud.sts.count();
    let login = arriving(&world, "bob").await;
    until("bob waits", async || state(&console).await == is("paused", "1")).await;
    // A pause is seen everywhere, and the proxy is ready for other clusters.
    for series in ["paused", "logins_waiting"] {
        world.metric_is(&format!("pgpassport_cluster_{series}{{cluster=\"app\"}}"), 1.0).await;
    }
    world.metric_is("pgpassport_cluster_draining{cluster=\"app\"}", 0.0).await;
    let (status, report) = world.get("/readyz?verbose").await;
    assert!(status == 200 && report.contains("[!] cluster app: paused, 1 logins wait\n"), "{report}");
    assert!(world.get("/").await.1.contains("Cluster app is paused: new logins wait for RESUME, 1 now."));
    let database = rows(&console, "SHOW DATABASES").await.swap_remove(0);
    assert_eq!((cell(&database, "paused"), cell(&database, "disabled")), ("1", "0"));
    // A reload changes nothing about it, and neither does a second pause of another operator's.
    assert!(world.reloaded().await);
    assert_eq!(state(&console).await, is("paused", "1"));
    execute(&mut alice, "select 1").await;
    execute(&mut alice, "commit").await;
    assert!(!pause.is_finished() && !login.is_finished());
    drop(alice);
    timeout(PATIENCE, pause).await.expect("the pause ends with the last session").unwrap().unwrap();
    assert!(!login.is_finished());
    assert_eq!(world.cloud.sts.count(), calls, "a login that waits asks nobody");
    console.simple_query("RESUME app").await.unwrap();
    let mut bob = timeout(PATIENCE, login).await.expect("bob is let in").unwrap().unwrap();
    execute(&mut bob, "select 1").await;
    assert_eq!(state(&console).await, is("open", "0"));
    world.metric_is("pgpassport_cluster_paused{cluster=\"app\"}", 0.0).await;
    let paused = world.audit("command", "PAUSE 'app'").await;
    assert_eq!((&paused["outcome"], &paused["subject"]), (&"done".into(), &"olivia".into()), "{paused}");
    for command in ["PAUSE nowhere", "DRAIN nowhere", "RESUME nowhere"] {
        assert_eq!(failure(&console, command).await, "42704", "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_waits_no_longer_than_logins_may_take() {
    let limits = "server_connect_timeout = \"1s\"\nclient_login_timeout = \"4s\"\nlogin_timeout = \"5s\"";
    let world = with_console().limits(limits).start().await;
    let console = world.console("dba").await;
    console.simple_query("PAUSE").await.unwrap();
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.sqlstate(), "57P03", "{refusal:?}");
    assert_eq!(refusal.message(), "cannot connect now: the cluster is paused");
    assert!(refusal.hint().contains("has resumed the cluster"), "{refusal:?}");
    world.metric_is("pgpassport_logins_refused_total{stage=\"operator\"}", 1.0).await;
    world.metric_is("pgpassport_cluster_logins_waiting{cluster=\"app\"}", 0.0).await;
    assert_eq!(world.cloud.sts.count(), 0);
}

/// A paused cluster is no way around the limits: a login that waits has its place already.
#[tokio::test(flavor = "multi_thread")]
async fn logins_that_wait_count_in_the_limits() {
    let world = with_console().limits("max_user_client_connections = 1").start().await;
    let console = world.console("dba").await;
    console.simple_query("PAUSE").await.unwrap();
    let waiting = arriving(&world, "alice").await;
    until("alice waits", async || state(&console).await == is("paused", "1")).await;
    assert_eq!(world.refusal("alice", &world.token("alice")).await.sqlstate(), "53300");
    console.simple_query("RESUME").await.unwrap();
    let mut alice = timeout(PATIENCE, waiting).await.expect("alice is let in").unwrap().unwrap();
    execute(&mut alice, "select 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_idle_sessions_refuses_logins_and_waits_for_transactions() {
    let world = with_console().start().await;
    let console = world.console("dba").await;
    let (mut alice, mut bob) = (session(&world, "alice").await, session(&world, "bob").await);
    execute(&mut alice, "select 1").await;
    execute(&mut bob, "begin").await;
    for command in ["DRAIN app", "PAUSE app", "RESUME app"] {
        let looking = world.console("oncall").await;
        assert_eq!(failure(&looking, command).await, "42501", "{command}");
    }
    assert_eq!(state(&console).await, is("open", "0"));
    console.simple_query("DRAIN app").await.unwrap();
    let error = last_word(&mut alice).await;
    assert_eq!(error.sqlstate(), "57P01", "{error:?}");
    assert!(error.detail().contains("an operator drains the cluster of this session"), "{error:?}");
    assert_eq!(world.audit("db_user", "alice").await["end"], "cluster_drained");
    assert_eq!(state(&console).await, is("draining", "0"));
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(
        (refusal.sqlstate(), refusal.message()),
        ("57P03", "cannot connect now: the cluster is drained")
    );
    execute(&mut bob, "select 1").await;
    // Paused as well, it makes logins wait; the pause ends when the transaction has ended.
    let pause = tokio::spawn(async move {
        console.simple_query("PAUSE app").await.unwrap();
        console
    });
    let looking = world.console("oncall").await;
    until("the pause", async || state(&looking).await == is("paused, draining", "0")).await;
    let login = arriving(&world, "alice").await;
    until("alice waits", async || state(&looking).await == is("paused, draining", "1")).await;
    bob.send(&query("commit")).await;
    assert_eq!(last_word(&mut bob).await.sqlstate(), "57P01");
    let console = timeout(PATIENCE, pause).await.expect("the cluster is empty").unwrap();
    console.simple_query("RESUME app").await.unwrap();
    let mut alice = timeout(PATIENCE, login).await.expect("alice is let in").unwrap().unwrap();
    execute(&mut alice, "select 1").await;
    world.metric_is("pgpassport_sessions_ended_total{reason=\"cluster_drained\"}", 2.0).await;
}

/// The grace is that of a stop. A session that is still there when the order is taken back goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_no_longer_than_a_stop_does() {
    let world = with_console().limits("shutdown_timeout = \"1h\"").start().await;
    let console = world.console("dba").await;
    let mut alice = session(&world, "alice").await;
    execute(&mut alice, "begin").await;
    console.simple_query("DRAIN app; RESUME app").await.unwrap();
    execute(&mut alice, "commit").await;
    execute(&mut alice, "begin").await;
    world.edit("shutdown_timeout = \"1h\"", "shutdown_timeout = \"0s\"");
    assert!(world.reloaded().await);
    console.simple_query("DRAIN app").await.unwrap();
    let error = last_word(&mut alice).await;
    assert_eq!(error.sqlstate(), "57P01", "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_cluster_has_no_idle_connections() {
    let world = with_console().pool("").start().await;
    let console = world.console("dba").await;
    let leave = async |mut client: RawClient| client.send(b"X\0\0\0\x04").await;
    leave(session(&world, "alice").await).await;
    world.metric_is("pgpassport_pool_idle", 1.0).await;
    let mut bob = session(&world, "bob").await;
    console.simple_query("DRAIN app").await.unwrap();
    world.metric_is("pgpassport_pool_idle", 0.0).await;
    // RESUME takes the order back from a session that has not obeyed yet.
    assert_eq!(last_word(&mut bob).await.sqlstate(), "57P01");
    console.simple_query("RESUME app").await.unwrap();
    let bob = session(&world, "bob").await;
    let looking = world.console("oncall").await;
    let pause = tokio::spawn(async move { console.simple_query("PAUSE app").await.map(drop) });
    until("the pause", async || state(&looking).await == is("paused", "0")).await;
    leave(bob).await;
    timeout(PATIENCE, pause).await.expect("bob has left").unwrap().unwrap();
    world.metric_is("pgpassport_pool_idle", 0.0).await;
    world.metric_is("pgpassport_pool_kept_total", 1.0).await;
}

/// The console is on a listener for PostgreSQL; the cluster is one of MySQL.
#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_mysql_are_paused_and_drained_too() {
    for database in mysql::databases().await {
        let world = mysql::builder(database).admin(RULES).second_listener("").start().await;
        let token = world.member("olivia", &["dba"]);
        let console = RawClient::connect(world.ports[1], world.listener_ca()).await;
        let (mut console, _) = console.login("olivia", Some("pgpassport"), &token).await.unwrap();
        let token = world.token("alice");
        execute(&mut console, "PAUSE app").await;
        let mut waiting = world.mysql(database, "alice", &token);
        let mut waiting = waiting.args(["app", "-e", "select 7"]).spawn().unwrap();
        world.metric_is("pgpassport_cluster_logins_waiting{cluster=\"app\"}", 1.0).await;
        assert!(waiting.try_wait().unwrap().is_none());
        execute(&mut console, "RESUME app").await;
        assert_eq!(mysql::shown(&waiting.wait_with_output().await.unwrap()), "7");
        let mut idle = world.mysql(database, "alice", &token);
        let idle =
            idle.args(["--skip-reconnect", "app"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        world.metric_is("pgpassport_login_seconds_count{outcome=\"session\"}", 2.0).await;
        execute(&mut console, "DRAIN app").await;
        world.metric_is("pgpassport_sessions_ended_total{reason=\"cluster_drained\"}", 1.0).await;
        let refused = world.mysql_sql(database, "alice", &token, "select 7").await;
        assert!(mysql::told(&refused).contains("the cluster is drained"), "{refused:?}");
        drop(idle);
    }
}
