//! Sessions and clusters of MySQL on the console, which is at a listener for PostgreSQL, and on the status page.

use tokio_postgres::config::SslMode;

use super::{RULES, cell, rows};
use crate::mysql::raw::RawMysql;
use crate::mysql::{builder, databases};
use crate::world::World;
use crate::world::admin::until;

/// The console at the second listener.
async fn console(world: &World) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(world.ports[1]).user("olivia");
    config.dbname("pgpassport").password(world.member("olivia", &["oncall"])).ssl_mode(SslMode::Require);
    let (client, connection) = config.connect(world.connector()).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_mysql_is_shown_in_each_topic() {
    for database in databases().await {
        let world = builder(database).admin(RULES).second_listener("").start().await;
        let mut alice = RawMysql::log_in(&world, "alice", &world.token("alice")).await.unwrap();
        let id = alice.query("select connection_id()").await.unwrap().remove(0);
        alice.query("begin").await.unwrap();
        let console = console(&world).await;
        let one = async |topic: &str| {
            let mut found = rows(&console, &format!("SHOW {topic}")).await;
            assert!(!found.is_empty(), "{topic}");
            found.swap_remove(0)
        };
        // The client has the answer before it is counted.
        until("both statements are counted", async || cell(&one("SESSIONS").await, "queries") == "2").await;
        let session = one("SESSIONS").await;
        let names =
            ["protocol", "cluster", "database", "db_user", "subject", "state", "queries", "transactions"];
        let expected = ["mysql", "app", "app", "alice", "alice", "idle in transaction", "2", "1"];
        assert_eq!(names.map(|name| cell(&session, name)), expected);
        let server = one("SERVERS").await;
        assert_eq!((cell(&server, "remote_pid"), cell(&server, "state")), (&*id, "active"));
        assert_eq!(cell(&server, "port"), database.server.addr().port().to_string());
        let client = one("CLIENTS").await;
        assert_eq!((cell(&client, "user"), cell(&client, "tls")), ("alice", "TLSv1.3"));
        let pool = one("POOLS").await;
        assert_eq!(
            ["cluster", "database", "user", "sv_active"].map(|name| cell(&pool, name)),
            ["app", "app", "alice", "1"]
        );
        let cluster = one("CLUSTERS").await;
        let shown = ["name", "engine", "state", "sessions"].map(|name| cell(&cluster, name));
        assert_eq!(shown, ["app", "mysql", "open", "1"]);
        assert!(cell(&cluster, "endpoint").ends_with(":3306"), "{cluster:?}");
        let of_pgbouncer = one("DATABASES").await;
        let shown = ["name", "port", "current_connections"].map(|name| cell(&of_pgbouncer, name));
        assert_eq!(shown, ["app", "3306", "1"]);
        let stats = one("STATS").await;
        let shown =
            ["database", "total_server_assignment_count", "total_query_count"].map(|name| cell(&stats, name));
        assert_eq!(shown, ["app", "1", "2"]);
        let (_, page) = world.get("/").await;
        assert!(
            page.contains("<td>app <span class=\"dim\">MySQL</span></td><td class=\"word\"><span class=\"ok-text\">open</span></td><td data-name=\"sessions\">1</td>"),
            "{page}"
        );
        alice.query("commit").await.unwrap();
        until("the session is idle", async || cell(&one("SESSIONS").await, "state") == "idle").await;
    }
}
