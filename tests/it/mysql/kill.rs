//! `KILL` of a connection id that the proxy has given out.

use aws_emulator::Mysql;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{builder, databases};
use crate::mysql::shown;
use crate::world::admin::until;

/// Waits until the server runs the statement.
pub(super) async fn until_running(server: &Mysql, begin: &str) {
    let sql = format!("select count(*) from information_schema.processlist where info like '{begin}%'");
    until(begin, async || {
        let (server, sql) = (server.clone(), sql.clone());
        tokio::task::spawn_blocking(move || server.sql(&sql)).await.unwrap().trim() != "0"
    })
    .await;
}

/// Ctrl-C in both clients is a second login that kills the id of the first one's greeting.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_statement() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = world.mysql(database, "alice", &world.token("alice"));
        let client = client.args(["app", "-e", "select sleep(100) /* ctrl-c */"]).spawn().unwrap();
        until_running(&database.server, "select sleep(100)").await;
        kill(Pid::from_raw(client.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
        // Both say that the statement was interrupted: SLEEP then returns 1, or fails.
        let output = client.wait_with_output().await.unwrap();
        let all = [&output.stdout[..], &output.stderr].concat();
        let all = String::from_utf8_lossy(&all);
        assert!(all.contains("1\n") || all.contains("interrupted"), "{output:?}");
        assert!(!all.contains("Unknown thread id"), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_is_the_servers_to_refuse() {
    for database in databases().await {
        let world = builder(database).start().await;
        let output = world.mysql_sql(database, "alice", &world.token("alice"), "kill query 1073741824").await;
        let text = super::told(&output);
        assert!(text.contains("1094") && text.contains("Unknown thread id: 1073741824"), "{text}");
        shown(&world.mysql_sql(database, "alice", &world.token("alice"), "select 1").await);
    }
}
