//! Kept connections of MySQL.

use std::process::Output;

use super::{builder, databases, shown, told};
use crate::world::World;

/// Everything that a session may leave behind, as its user sees it.
const STATE: &str = "select @x, @@autocommit, @@time_zone, @@sql_mode, database(), @@character_set_client, \
    @@collation_connection, is_used_lock('l')";

/// A session that is not kept, for it names no database. From then on the greeting is the server's, and so are the flags of
/// the sessions.
async fn learn(world: &World, database: &aws_emulator::CloudMysql) {
    let mut client = world.mysql(database, "alice", &world.token("alice"));
    shown(&client.args(["-e", "select 1"]).output().await.unwrap());
}

async fn run(world: &World, database: &aws_emulator::CloudMysql, id: &str, sql: &str) -> Output {
    let token = world.mint(world.claims("alice").set("jti", id));
    let output = world.mysql_sql(database, "alice", &token, sql).await;
    world.metric_is("pgpassport_pool_idle", 1.0).await;
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_kept_mysql_connection_shows_nothing_of_the_session_before() {
    for database in databases().await {
        let world = builder(database).pool("").start().await;
        learn(&world, database).await;
        let fresh = shown(&run(&world, database, "first", STATE).await);
        let dirty = "set @x = 1, autocommit = 0, time_zone = '+05:00', sql_mode = ''; create temporary table t (a int); \
                     select get_lock('l', 0); set names latin1; prepare s from 'select 1'; use information_schema; commit";
        shown(&run(&world, database, "second", dirty).await);
        assert_eq!(shown(&run(&world, database, "third", STATE).await), fresh);
        let text = told(&run(&world, database, "fourth", "select * from t").await);
        assert!(text.contains("1146"), "{text}");
        let text = told(&run(&world, database, "fifth", "execute s").await);
        assert!(text.contains("1243"), "{text}");
        let server = world.audit("token_id", "first").await["upstream_pid"].clone();
        for id in ["second", "third", "fourth", "fifth"] {
            let record = world.audit("token_id", id).await;
            assert_eq!(
                (&record["upstream_pid"], &record["upstream_reused"]),
                (&server, &true.into()),
                "{record}"
            );
        }
        assert_eq!(world.cloud.sts.count(), 2, "one login is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_charset_or_person_gets_another_mysql_connection() {
    for database in databases().await {
        let world = builder(database).pool("").start().await;
        learn(&world, database).await;
        shown(&run(&world, database, "first", "select 1").await);
        let mut client =
            world.mysql(database, "alice", &world.mint(world.claims("alice").set("jti", "latin")));
        let output =
            client.args(["--default-character-set=latin1", "app", "-e", "select 1"]).output().await.unwrap();
        shown(&output);
        assert_eq!(world.audit("token_id", "latin").await["upstream_reused"], false);
        let token = world.mint(world.claims("bob").set("jti", "bob"));
        shown(&world.mysql_sql(database, "bob", &token, "select 1").await);
        assert_eq!(world.audit("token_id", "bob").await["upstream_reused"], false);
    }
}
