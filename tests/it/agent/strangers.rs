//! Other users of the same machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use pgpassport::agent::MAX_UNPROVEN;
use pgpassport::agent::sockets::SOCKET_NAME;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::{LocalAgent, outcome};
use crate::world::World;

const SELECT: [&str; 4] = ["-d", "app", "-c", "select 1"];

/// A tool as another user of the machine, who has no rights here.
pub(super) async fn as_stranger(tool: &Command) -> Result<String, String> {
    let tool = tool.as_std();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(tool.get_program())
        .args(tool.get_args());
    command.env_clear();
    for (name, value) in tool.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    outcome(&command.current_dir("/").output().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_local_password_is_refused_before_anything_is_asked() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let [_, (host, port, _)] = agent.places();
    for wrong in ["wrong", &agent.password[1..], &world.token("alice")] {
        let said = agent.says(&(host.clone(), port.clone(), wrong), &SELECT).await.unwrap_err();
        assert!(said.contains("FATAL:  password authentication failed"), "{said}");
        assert!(
            said.contains("HINT:  `pgpassport connect --show-password --profile acme` prints it."),
            "{said}"
        );
    }
    let said = agent.says(&(host, port, ""), &SELECT).await.unwrap_err();
    assert!(said.contains("no password supplied"), "{said}");
    assert_eq!(agent.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_can_use_neither_the_socket_nor_the_port() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let [socket, (host, port, _)] = agent.places();
    fs::set_permissions(agent.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let said = as_stranger(&LocalAgent::psql(&socket, &SELECT)).await.unwrap_err();
    assert!(said.contains("Permission denied"), "{said}");
    // Even with open permissions the kernel's answer about the peer's user counts.
    fs::set_permissions(agent.socket(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(agent.socket().join(SOCKET_NAME), Permissions::from_mode(0o777)).unwrap();
    let said = as_stranger(&LocalAgent::psql(&socket, &SELECT)).await.unwrap_err();
    assert!(said.contains("FATAL:  peer authentication failed"), "{said}");
    let said = as_stranger(&LocalAgent::psql(&(host, port, "a guess"), &SELECT)).await.unwrap_err();
    assert!(said.contains("FATAL:  password authentication failed"), "{said}");
    assert_eq!(agent.asked(), 0);
    assert!(agent.says(&agent.places()[0], &SELECT).await.is_ok());
}

/// Silent strangers can hold the port, and not the socket; sessions over the port go on.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_to_the_port_do_not_touch_the_socket() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let client = agent.connect().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..MAX_UNPROVEN {
        silent.push(TcpStream::connect(agent.addr).await.unwrap());
    }
    let places = agent.places();
    let said = agent.says(&places[1], &SELECT).await.unwrap_err();
    assert!(said.contains("FATAL:  too many connections for the pgpassport agent"), "{said}");
    assert_eq!(agent.says(&places[0], &SELECT).await.as_deref(), Ok("1"));
    client.query_one("select 1", &[]).await.unwrap();
    drop(silent);
    crate::world::admin::until("the port is free again", async || {
        agent.says(&places[1], &SELECT).await.is_ok()
    })
    .await;
}
