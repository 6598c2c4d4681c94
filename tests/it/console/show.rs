//! Answers of the console, in psql and in drivers.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::{cell, failure, rows, with_console};
use crate::world::admin::until;
use crate::world::raw::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_sessions_and_takes_no_offense_at_sql() {
    let world = with_console().start().await;
    let alice = world.connect("alice", &world.token("alice")).await.unwrap();
    alice.simple_query("begin").await.unwrap();
    let shown = world.console_psql("oncall", &["-c", "SHOW VERSION", "-c", "show sessions;"]).await;
    assert!(shown.ok && shown.stdout.contains("pgpassport "), "{shown:?}");
    let line = shown.stdout.lines().find(|line| line.contains("|alice|")).expect("alice's session");
    assert!(line.contains("|idp|app|app|alice|idle in transaction|"), "{line}");
    assert!(!shown.stderr.contains("WARNING"), "{shown:?}");
    for (args, hint) in [
        (&["-c", "\\d"][..], "SHOW HELP"),
        (&["-c", "select * from pg_class"], "SHOW HELP"),
        (&["-c", "show nonsense"], "The topics are"),
    ] {
        let refused = world.console_psql("oncall", args).await;
        assert!(!refused.ok && refused.stderr.contains(hint), "{refused:?}");
    }
    let expanded = world.console_psql("oncall", &["-x", "-c", "SHOW VERSION; SHOW HELP"]).await;
    assert!(expanded.ok && expanded.stdout.contains("command|SHOW SESSIONS"), "{expanded:?}");
}

/// psql's `\watch` repeats a command until psql ends.
#[tokio::test(flavor = "multi_thread")]
async fn psql_watches() {
    let world = with_console().start().await;
    let token = world.member("olivia", &["oncall"]);
    let mut psql = world.psql_command("user=olivia dbname=pgpassport", &token, &[]).spawn().unwrap();
    let mut input = psql.stdin.take().unwrap();
    input.write_all(b"SHOW VERSION \\watch 0.05\n").await.unwrap();
    let mut lines = BufReader::new(psql.stdout.take().unwrap()).lines();
    let shown = async {
        let mut turns = 0;
        while turns < 3 {
            let line = lines.next_line().await.unwrap().expect("psql continues");
            turns += usize::from(line.starts_with("pgpassport "));
        }
    };
    timeout(PATIENCE, shown).await.expect("three turns");
}

/// Every topic, with a session there: PgBouncer's names of columns where exporters read them, and the facts.
#[tokio::test(flavor = "multi_thread")]
async fn each_topic_tells_what_is() {
    let world = with_console().start().await;
    let alice = world.connect("alice", &world.token("alice")).await.unwrap();
    let pid: i32 = alice.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let console = world.console("oncall").await;
    let one = async |topic: &str| rows(&console, &format!("SHOW {topic}")).await.swap_remove(0);
    let server = one("SERVERS").await;
    assert_eq!((cell(&server, "remote_pid"), cell(&server, "user")), (&*pid.to_string(), "alice"));
    let pool = one("POOLS").await;
    let facts =
        ["database", "user", "cl_active", "sv_active", "cl_waiting", "maxwait"].map(|name| cell(&pool, name));
    assert_eq!(facts, ["app", "alice", "1", "1", "0", "0"]);
    let database = one("DATABASES").await;
    let facts =
        ["name", "port", "database", "current_connections", "paused"].map(|name| cell(&database, name));
    assert_eq!(facts, ["app", "5432", "app, postgres", "1", "0"]);
    let cluster = one("CLUSTERS").await;
    assert_eq!((cell(&cluster, "name"), cell(&cluster, "sessions")), ("app", "1"));
    let user = one("USERS").await;
    assert_eq!(
        (cell(&user, "name"), cell(&user, "db_user"), cell(&user, "sessions")),
        ("alice", "alice", "1")
    );
    let issuer = one("ISSUERS").await;
    assert_eq!((cell(&issuer, "name"), cell(&issuer, "usable")), ("idp", "yes"));
    assert!(cell(&one("KEYS").await, "keys").parse::<u32>().unwrap() > 0);
    let calls = rows(&console, "SHOW STS").await;
    let total: u64 = calls.iter().map(|row| cell(row, "calls").parse::<u64>().unwrap()).sum();
    assert_eq!(total, 1, "{calls:?}");
    let lists = rows(&console, "SHOW LISTS").await;
    for (name, items) in [("databases", "1"), ("users", "1"), ("used_clients", "1"), ("free_servers", "0")] {
        let row = lists.iter().find(|row| cell(row, "list") == name).unwrap();
        assert_eq!(cell(row, "items"), items, "{name}");
    }
    let limit = one("LIMITS").await;
    assert_eq!((cell(&limit, "used"), cell(&limit, "max")), ("2", "1000"));
    assert!(cell(&one("MEM").await, "bytes").parse::<u64>().unwrap() > 1 << 20);
    assert!(cell(&one("FDS").await, "count").parse::<u64>().unwrap() > 10);
    // Sessions that have ended stay counted.
    let live = one("STATS").await;
    assert_eq!((cell(&live, "database"), cell(&live, "total_server_assignment_count")), ("app", "1"));
    drop(alice);
    world.audit("event", "session.end").await;
    let ended = one("STATS").await;
    assert_eq!(cell(&ended, "total_server_assignment_count"), "1");
    let bytes = |row: &[_]| cell(row, "total_sent").parse::<u64>().unwrap();
    assert!(bytes(&ended) >= bytes(&live) && bytes(&live) > 0);
}

/// Live sessions count as well as ended ones, on the console and in the metrics.
#[tokio::test(flavor = "multi_thread")]
async fn queries_and_transactions_are_counted_while_they_happen() {
    let world = with_console().start().await;
    let alice = world
        .connect_with("alice", &world.token("alice"), |config| {
            config.application_name("re\u{1b}port");
        })
        .await
        .unwrap();
    let console = world.console("oncall").await;
    for (statement, queries, transactions, state) in [
        ("select 1; select 2", 1, 1, "idle"),
        ("begin", 2, 1, "active"),
        ("select 1", 3, 1, "active"),
        ("commit", 4, 2, "idle"),
        ("select 1 / 0", 5, 3, "idle"),
    ] {
        let _ = alice.simple_query(statement).await; // the last one fails
        let expected = (queries.to_string(), transactions.to_string());
        // The client has the answer before the proxy has counted it.
        let counted = async || {
            let session = rows(&console, "SHOW SESSIONS").await.swap_remove(0);
            (cell(&session, "queries"), cell(&session, "transactions")) == (&*expected.0, &*expected.1)
        };
        until("the statement counts", counted).await;
        let client = rows(&console, "SHOW CLIENTS").await.swap_remove(0);
        assert_eq!((cell(&client, "query_count"), cell(&client, "xact_count")), (&*expected.0, &*expected.1));
        assert_eq!((cell(&client, "state"), cell(&client, "tls")), (state, "TLSv1.3"), "{client:?}");
        assert_eq!(cell(&client, "application_name"), "re\\u{1b}port");
        let server = rows(&console, "SHOW SERVERS").await.swap_remove(0);
        assert_eq!(cell(&server, "state"), state);
        let stats = rows(&console, "SHOW STATS").await.swap_remove(0);
        let totals = (cell(&stats, "total_query_count"), cell(&stats, "total_xact_count"));
        assert_eq!(totals, (&*expected.0, &*expected.1));
        world.metric_is("pgpassport_queries_total{cluster=\"app\"}", f64::from(queries)).await;
    }
    let live = world.metric("pgpassport_relayed_bytes_total{cluster=\"app\",direction=\"to_client\"}").await;
    assert!(live > 100.0, "{live}");
    drop(alice);
    world.audit("event", "session.end").await;
    let stats = rows(&console, "SHOW STATS").await.swap_remove(0);
    assert_eq!((cell(&stats, "total_query_count"), cell(&stats, "total_xact_count")), ("5", "3"));
    world.metric_is("pgpassport_transactions_total{cluster=\"app\"}", 3.0).await;
    let ended = world.metric("pgpassport_relayed_bytes_total{cluster=\"app\",direction=\"to_client\"}").await;
    assert!(ended >= live, "{ended} of {live}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_read_numbers_as_numbers() {
    let world = with_console().start().await;
    let alice = world.connect("alice", &world.token("alice")).await.unwrap();
    alice.simple_query("select 1").await.unwrap();
    let console = world.console("dba").await;
    let found = console.query("SHOW SESSIONS", &[]).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].get::<_, &str>("subject"), "alice");
    assert!(found[0].get::<_, i64>("to_client") > 0);
    let prepared = console.prepare("SHOW CLIENTS").await.unwrap();
    for _ in 0..2 {
        let clients = console.query(&prepared, &[]).await.unwrap();
        let users: Vec<&str> = clients.iter().map(|row| row.get("user")).collect();
        assert_eq!(users, ["alice", "olivia"]);
    }
    assert!(console.query("SHOW SESSIONS", &[&1_i32]).await.is_err());
    console.batch_execute("BEGIN; SET extra_float_digits = 3; COMMIT").await.unwrap();
    assert_eq!(rows(&console, "SHOW transaction_read_only").await[0][0].1.as_deref(), Some("off"));
    assert_eq!(failure(&console, "select 1").await, "0A000");
    drop(alice);
    assert_eq!(
        cell(&rows(&console, "SHOW VERSION").await[0], "version"),
        format!("pgpassport {}", env!("CARGO_PKG_VERSION"))
    );
}

/// The configuration in use: not that of the file after a refused reload, and no content of a file.
#[tokio::test(flavor = "multi_thread")]
async fn config_is_the_running_one() {
    let world = with_console().start().await;
    let console = world.console("dba").await;
    let shown = async |name: &str| {
        let keys = rows(&console, "SHOW CONFIG").await;
        let found = keys.iter().find(|row| cell(row, "key") == name);
        let found = found.unwrap_or_else(|| panic!("no {name} in {keys:?}"));
        ["value", "default", "changeable"].map(|column| cell(found, column).to_owned())
    };
    assert_eq!(shown("limits.max_client_conn").await, ["1000", "1000", "reload"]);
    assert_eq!(shown("listen[0].reuse_port").await, ["false", "false", "restart"]);
    assert_eq!(shown("cluster[0].databases").await, ["[\"app\", \"postgres\"]", "", "reload"]);
    let [key_file, ..] = shown("listen[0].tls_key_file").await;
    assert!(
        std::path::Path::new(&key_file).file_name().is_some() && !key_file.contains("PRIVATE"),
        "{key_file}"
    );
    world.edit("[limits]", "[limits]\nmax_client_conn = 77");
    assert_eq!(shown("limits.max_client_conn").await[0], "1000");
    console.simple_query("RELOAD").await.unwrap();
    assert_eq!(shown("limits.max_client_conn").await, ["77", "1000", "reload"]);
    assert_eq!(shown("limits.max_logins").await[..2], ["57", "57"]);
    world.edit("max_client_conn = 77", "max_client_conn = 1");
    assert_eq!(failure(&console, "RELOAD").await, "F0000");
    assert_eq!(shown("limits.max_client_conn").await[0], "77");
    let [before, ..] = shown("log.level").await;
    let other = if before == "info" { "warn" } else { "info" };
    console.simple_query(&format!("SET log_level = {other}")).await.unwrap();
    assert_eq!(shown("log.level").await[0], other);
    console.simple_query(&format!("SET log_level = {before}")).await.unwrap();
}
