//! Tokens of a MySQL profile's agent: renewed between two connections of a tool, and used for no other user of the machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use aws_emulator::MysqlEngine;
use pgpassport::agent::sockets::MYSQL_SOCKET_NAME;
use tokio::process::Command;

use super::mysql::Place;
use super::strangers::as_stranger;
use super::{LocalAgent, outcome, refresh};
use crate::mysql::{builder, databases};
use crate::sign_in::asked;
use crate::sign_in::session::person_of;

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_tool_gets_a_renewed_token_for_its_next_connection() {
    for database in databases().await {
        let world = builder(database).start().await;
        let issuer = &world.cloud.issuer;
        issuer.set_token_life(30); // too short for a connection: each one renews it
        let person = person_of(&world, "protocol = \"mysql\"").await;
        let (_agent, folder) = refresh::agent_of(&person).await;
        let before = asked(issuer);
        for connection in 1..=2 {
            let mut client = Command::from(database.server.client());
            client.arg(format!("--socket={}", folder.join(MYSQL_SOCKET_NAME).display()));
            client.args(["--batch", "--skip-column-names", "app", "-e"]);
            let program = format!("select current_user(), {connection}");
            let said = outcome(&client.arg(program).output().await.unwrap());
            assert_eq!(said.unwrap(), format!("alice@%\t{connection}"));
            assert_eq!(asked(issuer) - before, connection, "requests for a token");
        }
    }
}

/// As `another_user_can_use_neither_the_socket_nor_the_port` for PostgreSQL's tools. The distribution's client can be run by
/// every user.
#[tokio::test(flavor = "multi_thread")]
async fn another_user_can_use_neither_the_mysql_socket_nor_the_port() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    for database in databases().await {
        if database.server.engine() != MysqlEngine::MariaDb {
            continue;
        }
        let world = builder(database).start().await;
        let agent = LocalAgent::for_mysql(&world, &world.token("alice")).await;
        let client = |place, password: &str| {
            let mut client = agent.mysql(database, place, password);
            client.args(["-e", "select current_user()"]);
            client
        };
        fs::set_permissions(agent.folder.path(), Permissions::from_mode(0o755)).unwrap();
        let said = as_stranger(&client(Place::Socket, "")).await.unwrap_err();
        assert!(said.contains("2002 (HY000)"), "{said}");
        // Even with open permissions the kernel's answer about the peer's user counts.
        fs::set_permissions(agent.socket(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(agent.socket().join(MYSQL_SOCKET_NAME), Permissions::from_mode(0o777)).unwrap();
        let said = as_stranger(&client(Place::Socket, "")).await.unwrap_err();
        assert!(said.contains("1045") && said.contains("belongs to another user of this machine"), "{said}");
        let said = as_stranger(&client(Place::Port, "a guess")).await.unwrap_err();
        assert!(said.contains("1045 (28000)") && said.contains("local password"), "{said}");
        assert_eq!((agent.asked(), world.cloud.sts.count()), (0, 0));
        let said = outcome(&client(Place::Socket, "").output().await.unwrap());
        assert_eq!(said.unwrap(), "alice@%");
    }
}
