//! A MySQL listener at a Unix socket: the engines' own clients log in there with their token, without TLS, by the kernel's word
//! on who they are.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command as Blocking, Output, Stdio};

use aws_emulator::{CloudMysql, MysqlEngine};
use nix::unistd::getuid;
use tokio::process::Command;

use super::{builder, databases, shown, told};
use crate::world::World;

/// A user that is not the one of the tests.
const OTHER: &str = "65534";

/// A world with a listener of this name at a socket in its folder.
async fn world(database: &CloudMysql, name: &str, keys: &str) -> World {
    let keys =
        format!("name = \"{name}\"\nprotocol = \"mysql\"\naddr = \"unix:@folder@/mysqld.sock\"\n{keys}");
    builder(database).second_listener(&keys).start().await
}

/// The engine's own client at the socket, by the command line in `run_as` if there is one.
async fn select(world: &World, database: &CloudMysql, run_as: &[&str], token: &str) -> Output {
    let own: Blocking = database.server.client();
    let mut line: Vec<_> = run_as.iter().map(|word| (*word).into()).collect();
    line.push(own.get_program().to_owned());
    line.extend(own.get_args().map(ToOwned::to_owned));
    let mut client = Command::new(&line[0]);
    client.args(&line[1..]).envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    client.args(["--protocol=socket", "--batch", "--skip-column-names", "--user=alice"]);
    client.arg(format!("--socket={}", world.folder().join("mysqld.sock").display()));
    if database.server.engine() == MysqlEngine::Mysql {
        client.arg("--enable-cleartext-plugin");
    }
    client.args(["app", "-e", "select substring_index(current_user(), '@', 1)"]);
    client.env("MYSQL_PWD", token).stdin(Stdio::null()).kill_on_drop(true);
    let output = client.output().await.unwrap();
    world.hear(&output.stderr);
    output
}

/// Makes the folder of the world one that other users can look into.
fn open_folder(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_clients_log_in_at_a_unix_socket_and_the_record_names_their_process() {
    for database in databases().await {
        let world = world(database, "local", "").await;
        assert_eq!(shown(&select(&world, database, &[], &world.token("alice")).await), "alice");
        let record = world.audit_of("local", "outcome", "session").await;
        let client = record["client"].as_str().unwrap();
        let start = format!("unix:uid={},pid=", getuid());
        assert!(client.strip_prefix(&start).is_some_and(|pid| pid.parse::<u32>().is_ok()), "{client}");
        assert!(record.get("tls").is_none_or(serde_json::Value::is_null), "{record}");
        assert_eq!(record["protocol"], "mysql");
        // A bad token is refused as everywhere.
        let refused = told(&select(&world, database, &[], "not a token").await);
        assert!(refused.contains("1045") && refused.contains("Access denied for user 'alice'"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_user_is_refused_in_place_of_the_greeting() {
    for database in databases().await {
        let keys = format!("socket_mode = \"0666\"\npeer_users = [\"{}\"]", getuid());
        let world = world(database, "refuses", &keys).await;
        open_folder(&world.folder());
        let token = world.token("alice");
        assert_eq!(shown(&select(&world, database, &[], &token).await), "alice");
        let (reuid, regid) = (format!("--reuid={OTHER}"), format!("--regid={OTHER}"));
        let as_other = ["setpriv", &reuid, &regid, "--clear-groups"];
        let refused = told(&select(&world, database, &as_other, &token).await);
        assert!(refused.contains("1045") && refused.contains("Access denied for this user"), "{refused}");
        assert!(refused.contains(&format!("uid {OTHER}")) && !refused.contains('#'), "{refused}");
        let record = world.audit_of("refuses", "outcome", "refused").await;
        assert_eq!((record["sqlstate"].as_str(), record["stage"].as_str()), (Some("28000"), Some("startup")));
        assert!(
            record["client"].as_str().unwrap().starts_with(&format!("unix:uid={OTHER},pid=")),
            "{record}"
        );
    }
}
