//! Statements that run when the proxy ends their session: the proxy kills the session at the server.

use super::kill::until_running;
use super::raw::{MysqlError, RawMysql};
use super::{builder, databases};
use crate::world::World;
use crate::world::admin::until;

/// A session of alice with this token id that runs a statement.
async fn busy(world: &World, database: &'static aws_emulator::CloudMysql, seconds: u32) -> RawMysql {
    let token = world.mint(world.claims("alice").set("jti", format!("busy-{seconds}")));
    let mut client = RawMysql::log_in(world, "alice", &token).await.unwrap();
    let sql = format!("select sleep({seconds})");
    client.command(&[b"\x03", sql.as_bytes()].concat()).await;
    until_running(&database.server, &sql).await;
    client
}

/// Waits until no server process runs the statement.
async fn until_gone(database: &'static aws_emulator::CloudMysql, seconds: u32) {
    let sql = format!(
        "select count(*) from information_schema.processlist where info like 'select sleep({seconds})%'"
    );
    until("the statement is gone", async || {
        let sql = sql.clone();
        let count = tokio::task::spawn_blocking(move || database.server.sql(&sql)).await.unwrap();
        count.trim() == "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_a_statement_of_a_withdrawn_session_ends_at_the_mysql_server() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = busy(&world, database, 651).await;
        let calls = world.cloud.sts.count();
        world.edit("[cancel]", "[denied]\nsubjects = [\"alice\"]\n[cancel]");
        assert!(world.reloaded().await);
        let (number, last) = client.packet().await.expect("last words");
        let error = MysqlError::parse(&last).unwrap();
        assert_eq!((number, error.errno), (1, 1053), "{error:?}");
        assert!(error.text.contains("is withdrawn"), "{error:?}");
        until_gone(database, 651).await;
        let record = world.audit("token_id", "busy-651").await;
        assert_eq!((&record["end"], &record["statement_cancelled"]), (&"withdrawn".into(), &true.into()));
        world.metric_is("pgpassport_statement_cancels_total{outcome=\"sent\"}", 1.0).await;
        assert_eq!(world.cloud.sts.count(), calls, "with the credentials of the session's own login");
    }
}

/// The credentials of the login have an end. Behind it the connection is closed, and the server finds out by itself.
#[tokio::test(flavor = "multi_thread")]
async fn r18_without_good_credentials_the_connection_is_only_closed() {
    for database in databases().await {
        let world = builder(database).session("on_token_expiry = \"keep\"").one_clock().start().await;
        let mut client = busy(&world, database, 652).await;
        world.cloud.clock.advance(13 * 3_600);
        world.edit("[cancel]", "[denied]\nsubjects = [\"alice\"]\n[cancel]");
        assert!(world.reloaded().await);
        let (_, last) = client.packet().await.expect("last words");
        assert_eq!(MysqlError::parse(&last).unwrap().errno, 1053);
        let record = world.audit("token_id", "busy-652").await;
        assert_eq!((&record["end"], &record["statement_cancelled"]), (&"withdrawn".into(), &false.into()));
        world.metric_is("pgpassport_statement_cancels_total{outcome=\"failed\"}", 1.0).await;
        database.server.sql("select concat('kill ', id) into @k from information_schema.processlist where info like 'select sleep(652)%'; \
                             prepare k from @k; execute k");
    }
}
