//! What the console shows, in psql and in drivers.

use super::{cell, failure, rows, with_console};

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
