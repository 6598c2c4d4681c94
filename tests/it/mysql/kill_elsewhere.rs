//! `KILL` of sessions that the `KILL`'s own connection does not reach: at another instance of the cluster, and of another
//! replica of the proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_emulator::{CloudMysql, Mysql, MysqlEngine, MysqlOptions, names};
use pgpassport::net::resolver::Resolver;

use super::kill::until_running;
use super::raw::{MysqlError, RawMysql};
use super::{builder, databases};
use crate::world::World;
use crate::world::admin::until;

/// A cluster of two instances, and the endpoint's name, which a test moves.
pub(super) struct TwoInstances {
    pub(super) first: &'static CloudMysql,
    second: Mysql,
    name: Arc<Mutex<SocketAddr>>,
}

impl TwoInstances {
    pub(super) async fn start(first: &'static CloudMysql) -> Self {
        let start = move || {
            let cert = first.ca.server(&[names::MYSQL_ENDPOINT_HOST]).unwrap();
            let options = MysqlOptions::new(first.server.engine(), first.gate.clone(), Some(cert));
            Mysql::start(&options).unwrap()
        };
        let second = tokio::task::spawn_blocking(start).await.unwrap();
        Self { first, second, name: Arc::new(Mutex::new(first.server.addr())) }
    }

    pub(super) async fn world(&self) -> World {
        let name = Arc::clone(&self.name);
        let resolver = Resolver::from_fn(move |_| Ok(vec![*name.lock().unwrap()]));
        builder(self.first).resolver(resolver, &self.first.ca).start().await
    }

    pub(super) fn moves_to_the_second(&self) {
        *self.name.lock().unwrap() = self.second.addr();
    }

    /// Ports that a program prints: the first instance before the move; the second and the first after it.
    pub(super) fn ports(&self) -> (String, String) {
        let (first, second) = (self.first.server.addr().port(), self.second.addr().port());
        (first.to_string(), format!("{second}\n{first}"))
    }
}

async fn log_in(world: &World, user: &str) -> RawMysql {
    RawMysql::log_in(world, user, &world.token(user)).await.unwrap()
}

/// Result of an interrupted `SLEEP`: it returns 1 in MySQL and fails in MariaDB.
fn is_interrupted(answer: &Result<Vec<String>, MysqlError>) -> bool {
    match answer {
        Ok(rows) => rows == &["1"],
        Err(error) => [1317, 1969].contains(&error.errno),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_reaches_a_session_at_another_instance() {
    for database in databases().await {
        let cluster = TwoInstances::start(database).await;
        let world = cluster.world().await;
        let mut busy = log_in(&world, "alice").await;
        let mut other = log_in(&world, "alice").await;
        cluster.moves_to_the_second();
        let (mut killer, mut bob) = (log_in(&world, "alice").await, log_in(&world, "bob").await);
        assert_eq!(killer.query("select @@port").await.unwrap(), [cluster.second.addr().port().to_string()]);
        let calls = world.cloud.sts.count();

        busy.command(b"\x03select sleep(641)").await;
        until_running(&database.server, "select sleep(641)").await;
        let kill = format!("kill query {}", busy.id);
        let error = bob.query(&kill).await.unwrap_err();
        assert_eq!(error.errno, 1094, "not the session of bob: {error:?}");
        until_running(&database.server, "select sleep(641)").await;
        assert_eq!(killer.query(&kill).await, Ok(vec![]));
        let answer = busy.answer().await;
        assert!(is_interrupted(&answer), "{answer:?}");
        assert_eq!(busy.query("select 5").await.unwrap(), ["5"], "the session goes on");

        // Commands sent ahead are answered in their order, and the session that was asked for ends.
        let ahead = ["select 6".to_owned(), format!("kill {}", other.id), "select 7".to_owned()];
        for sql in &ahead {
            killer.command(&[b"\x03", sql.as_bytes()].concat()).await;
        }
        assert_eq!(killer.answer().await.unwrap(), ["6"]);
        assert_eq!(killer.answer().await.unwrap(), [""; 0]);
        assert_eq!(killer.answer().await.unwrap(), ["7"]);
        while other.packet().await.is_some() {}
        // The client hears of the end before the server has removed the thread.
        until("the thread is gone", async || killer.query(&ahead[1]).await.is_err_and(|e| e.errno == 1094))
            .await;
        assert_eq!(world.cloud.sts.count(), calls, "the logins for a KILL need no new credentials");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn com_process_kill_reaches_a_session_at_another_instance() {
    for database in databases().await {
        let cluster = TwoInstances::start(database).await;
        let world = cluster.world().await;
        let mut busy = log_in(&world, "alice").await;
        cluster.moves_to_the_second();
        let mut killer = log_in(&world, "alice").await;
        busy.command(b"\x03select sleep(642)").await;
        until_running(&database.server, "select sleep(642)").await;
        killer.command(&[&b"\x0c"[..], &busy.id.to_le_bytes()].concat()).await;
        let answer = killer.answer().await;
        if database.server.engine() == MysqlEngine::Mysql {
            // MySQL 9 no longer has the command, here and there.
            assert_eq!(answer.unwrap_err().errno, 1047);
            assert_eq!(killer.query(&format!("kill {}", busy.id)).await, Ok(vec![]));
        } else {
            assert_eq!(answer, Ok(vec![]));
        }
        while busy.packet().await.is_some() {}
        assert_eq!(killer.query("select 5").await.unwrap(), ["5"]);
    }
}

/// Servers with a performance schema, which the tests' own ones do without.
async fn with_performance_schema(engine: MysqlEngine) -> Option<CloudMysql> {
    let start = move || {
        let on = |options: &mut MysqlOptions| {
            options.settings.push(("performance-schema".to_owned(), "ON".to_owned()));
        };
        engine.at_hand().then(|| CloudMysql::start(engine, on).unwrap())
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_reaches_a_session_of_another_replica_where_the_server_knows_its_id() {
    for engine in MysqlEngine::ALL {
        let Some(database) = with_performance_schema(engine).await else { continue };
        let (here, there) = (builder(&database).start().await, builder(&database).start().await);
        let mut busy = log_in(&here, "alice").await;
        let (mut killer, mut bob) = (log_in(&there, "alice").await, log_in(&there, "bob").await);
        busy.command(b"\x03select sleep(643)").await;
        until_running(&database.server, "select sleep(643)").await;
        let kill = format!("KILL QUERY {}", busy.id);
        assert_eq!(bob.query(&kill).await.unwrap_err().errno, 1094, "bob sees no session of alice");
        assert_eq!(killer.query(&kill).await, Ok(vec![]));
        let answer = busy.answer().await;
        assert!(is_interrupted(&answer), "{answer:?}");
        assert_eq!(busy.query("select 5").await.unwrap(), ["5"]);
        let nobody = killer.query("KILL QUERY 1073741824").await.unwrap_err();
        assert_eq!((nobody.errno, nobody.text.contains("1073741824")), (1094, true), "{nobody:?}");

        // With a pool the servers are not told the ids.
        let pooled = builder(&database).pool("").start().await;
        let of_pool = log_in(&pooled, "alice").await;
        let kill = format!("KILL {}", of_pool.id);
        assert_eq!(killer.query(&kill).await.unwrap_err().errno, 1094);
    }
}
