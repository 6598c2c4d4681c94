//! MySQL as its users meet it: real clients of MySQL and MariaDB, both servers with a plugin that asks the login gate, and
//! the whole chain between them. An engine that is not installed is left out, and the test says so.

mod hostile_client;
mod hostile_server;
mod kill;
mod kill_drivers;
mod kill_elsewhere;
mod login;
mod pool;
pub(crate) mod raw;
mod recall;
mod recorder;
mod refusals;
mod scripted;
mod session;
mod transparency;
mod unix_listener;

use std::process::{Output, Stdio};
use std::sync::OnceLock;

use aws_emulator::{CloudMysql, MysqlEngine};
use tokio::process::Command;

use crate::world::{World, WorldBuilder};

/// The servers at hand, each started once for all tests of this binary.
pub(crate) async fn databases() -> Vec<&'static CloudMysql> {
    static SERVERS: [OnceLock<Option<CloudMysql>>; 2] = [const { OnceLock::new() }; 2];
    let start = || {
        let servers = SERVERS.iter().zip(MysqlEngine::ALL);
        let started = servers.map(|(server, engine)| {
            let start = || CloudMysql::start(engine, |_| {}).expect("a server");
            server.get_or_init(|| engine.at_hand().then(start))
        });
        started.flatten().collect()
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// A world with a MySQL listener in front of `database`.
pub(crate) fn builder(database: &CloudMysql) -> WorldBuilder {
    World::builder().mysql(database, "")
}

impl World {
    /// The engine's own command-line client at this proxy, with the token in `MYSQL_PWD`.
    pub(crate) fn mysql(&self, database: &CloudMysql, user: &str, token: &str) -> Command {
        let ca = self.listener_ca().write(&self.folder()).unwrap();
        let mut client = Command::from(database.server.client_to("localhost", self.port, &ca, user));
        client.env("MYSQL_PWD", token).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client.kill_on_drop(true);
        client
    }

    /// Runs `sql` in database `app` as `user`.
    pub(crate) async fn mysql_sql(
        &self,
        database: &CloudMysql,
        user: &str,
        token: &str,
        sql: &str,
    ) -> Output {
        let mut client = self.mysql(database, user, token);
        let output = client.args(["app", "-e", sql]).output().await.unwrap();
        self.hear(&output.stderr);
        output
    }
}

/// The standard output of a client that has succeeded.
pub(crate) fn shown(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The standard error of a client that has failed.
pub(crate) fn told(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}
