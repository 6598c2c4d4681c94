//! A listener at a Unix socket: programs of this machine log in with their token, without TLS, by the kernel's word on who
//! they are.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{getgid, getuid};
use tempfile::TempDir;

use crate::world::admin::until;
use crate::world::binary::{Launch, NotifySocket, ProxyProcess};
use crate::world::drivers::{printed, python};
use crate::world::{PsqlOutput, World, database};

/// Name of the socket as psql looks for it.
const SOCKET: &str = ".s.PGSQL.5432";

/// A user that is not the one of the tests.
const OTHER: &str = "65534";

/// A world with a listener of this name, by which its records are known, at a socket in its folder.
async fn world(name: &str, keys: &str) -> World {
    let keys = format!("name = \"{name}\"\naddr = \"unix:@folder@/{SOCKET}\"\n{keys}");
    World::builder().second_listener(&keys).start().await
}

/// psql at the socket in `folder`, by the command line in `run_as` if there is one.
async fn psql(world: &World, folder: &Path, run_as: &[&str], token: &str) -> PsqlOutput {
    let psql = database().postgres.psql();
    let mut command = match run_as.split_first() {
        None => Command::new(psql.get_program()),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(psql.get_program());
            command
        }
    };
    command
        .arg(format!("host={} port=5432 user=alice dbname=app", folder.display()))
        .args(["-XAtc", "select current_user, pg_sleep(0)"])
        .env("PGPASSWORD", token)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    world.hear(&output.stderr);
    PsqlOutput {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Makes the folder of the world one that other users can look into.
fn open_folder(world: &World) {
    fs::set_permissions(world.folder(), Permissions::from_mode(0o711)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_logs_in_at_a_unix_socket_and_the_record_names_its_process() {
    let world = world("local", "").await;
    let folder = world.folder();
    let said = psql(&world, &folder, &[], &world.token("alice")).await;
    assert_eq!(said.stdout.trim(), "alice|", "{said:?}");
    let record = world.audit_of("local", "outcome", "session").await;
    let client = record["client"].as_str().unwrap();
    let start = format!("unix:uid={},pid=", getuid());
    assert!(client.strip_prefix(&start).is_some_and(|pid| pid.parse::<u32>().is_ok()), "{client}");
    assert!(record.get("tls").is_none_or(serde_json::Value::is_null), "{record}");
    let file = fs::symlink_metadata(folder.join(SOCKET)).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!((file.mode() & 0o777, file.gid()), (0o660, getgid().as_raw()));
    let said = psql(&world, &folder, &[], "not a token").await;
    assert!(
        !said.ok && said.stderr.contains("password authentication failed for user \"alice\""),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_logs_in_at_a_unix_socket() {
    let world = world("psycopg", "").await;
    let Some(mut python) = python() else { return };
    let program = r"
import os, psycopg, psycopg2
for driver in psycopg, psycopg2:
    with driver.connect(host=os.environ['FOLDER'], port=5432, user='alice', dbname='app') as connection:
        with connection.cursor() as cursor:
            cursor.execute('select current_user')
            print(cursor.fetchone()[0], end=' ')
";
    python.env("FOLDER", world.folder()).env("PGPASSWORD", world.token("alice"));
    assert_eq!(printed(python.arg("-c").arg(program)).await.trim(), "alice alice");
}

/// The kernel's word is taken before a byte is read: the refusal reaches a client that has sent nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_user_is_refused_unheard() {
    let own = getuid().to_string();
    let world = world("refuses", &format!("socket_mode = \"0666\"\npeer_users = [\"{own}\"]")).await;
    open_folder(&world);
    let (folder, token) = (world.folder(), world.token("alice"));
    assert!(psql(&world, &folder, &[], &token).await.ok);
    let (reuid, regid) = (format!("--reuid={OTHER}"), format!("--regid={OTHER}"));
    let as_other = ["setpriv", &reuid, &regid, "--clear-groups"];
    let said = psql(&world, &folder, &as_other, &token).await;
    assert!(!said.ok && said.stderr.contains("peer authentication failed"), "{said:?}");
    assert!(said.stderr.contains(&format!("uid {OTHER}")) && said.stderr.contains("peer_users"), "{said:?}");
    let record = world.audit_of("refuses", "outcome", "refused").await;
    assert_eq!((record["sqlstate"].as_str(), record["stage"].as_str()), (Some("28000"), Some("startup")));
    assert!(record["client"].as_str().unwrap().starts_with(&format!("unix:uid={OTHER},pid=")), "{record}");
    // Silent: it sends nothing, and hears the refusal.
    let socket = folder.join(SOCKET);
    let mut command = Command::new("setpriv");
    command.args([&reuid, &regid, "--clear-groups", "perl", "-MIO::Socket::UNIX", "-e"]);
    command.arg("$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print scalar <$s>").arg(&socket);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let heard = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(heard.contains("peer authentication failed"), "{heard} {output:?}");
    // By group as well, and a reload changes the list.
    let config = fs::read_to_string(world.config_file()).unwrap();
    let by_group =
        config.replace(&format!("peer_users = [\"{own}\"]"), &format!("peer_groups = [\"{OTHER}\"]"));
    fs::write(world.config_file(), by_group).unwrap();
    world.reload.notify_one();
    until("the other list is in force", async || psql(&world, &folder, &as_other, &token).await.ok).await;
    assert!(!psql(&world, &folder, &[], &token).await.ok);
    assert!(socket.exists(), "a reload keeps the socket");
}

/// A limit per address counts users of the machine one by one.
#[tokio::test(flavor = "multi_thread")]
async fn limits_count_by_user() {
    let keys = format!("name = \"counted\"\naddr = \"unix:@folder@/{SOCKET}\"\nsocket_mode = \"0666\"");
    let builder = World::builder().second_listener(&keys).limits("max_logins_per_address = 1");
    let world = builder.start().await;
    open_folder(&world);
    let (folder, token) = (world.folder(), world.token("alice"));
    // Either of two connections that arrive together may be the one over the limit: the silent one is opened anew.
    let mut _silent = None;
    until("the silent one counts", async || {
        _silent = Some(UnixStream::connect(folder.join(SOCKET)).unwrap());
        psql(&world, &folder, &[], &token).await.stderr.contains("too many connections")
    })
    .await;
    let (reuid, regid) = (format!("--reuid={OTHER}"), format!("--regid={OTHER}"));
    let said = psql(&world, &folder, &["setpriv", &reuid, &regid, "--clear-groups"], &token).await;
    assert!(said.ok, "{said:?}");
}

/// A query is cancelled through the socket as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_at_the_socket() {
    let world = world("cancels", "").await;
    let mut config = tokio_postgres::Config::new();
    config.host_path(world.folder()).port(5432).user("alice").dbname("app").password(world.token("alice"));
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let cancel = client.cancel_token();
    let query = tokio::spawn(async move { client.simple_query("select pg_sleep(600)").await });
    crate::world::until_asleep(&database().postgres, 600).await;
    cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    let error = query.await.unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
}

/// A folder and a configuration for a binary of its own.
fn launch(folder: &Path) -> Launch {
    let listen = format!("[[listen]]\nname = \"local\"\naddr = \"unix:{}/{SOCKET}\"\n", folder.display());
    Launch { config: listen, ..Launch::usual() }
}

fn socket_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join(SOCKET);
    (folder, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_socket_is_replaced_a_live_one_is_not_and_a_stop_removes_it() {
    let world = World::start().await;
    let (folder, socket) = socket_folder();
    let token = world.token("alice");
    let mut first = ProxyProcess::launch(&world, launch(folder.path()));
    assert!(psql(&world, folder.path(), &[], &token).await.ok);
    // A second process finds the first one's socket in use, and leaves it alone.
    assert_eq!(ProxyProcess::exit_code(&world, launch(folder.path())).await, Some(1));
    assert!(psql(&world, folder.path(), &[], &token).await.ok);
    first.signal("KILL");
    first.ended().await;
    assert!(socket.exists(), "nobody removed it");
    assert!(UnixStream::connect(&socket).is_err());
    let mut second = ProxyProcess::launch(&world, launch(folder.path()));
    assert!(second.logged("a former process left behind") == 1, "{}", second.log());
    assert!(psql(&world, folder.path(), &[], &token).await.ok);
    second.signal("HUP");
    assert!(second.tells().contains("RELOADING=1"));
    assert!(second.tells().contains("READY=1"));
    assert!(psql(&world, folder.path(), &[], &token).await.ok);
    second.signal("TERM");
    assert_eq!(second.ended().await, Some(0), "{}", second.log());
    assert!(!socket.exists(), "a stop removes it");
}

/// Those in the queue are served, and a file that another process has put there is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_the_socket_of_a_successor() {
    let world = World::start().await;
    let (folder, socket) = socket_folder();
    let mut first = ProxyProcess::launch(&world, launch(folder.path()));
    fs::remove_file(&socket).unwrap();
    let _successor = UnixListener::bind(&socket).unwrap();
    first.signal("TERM");
    assert_eq!(first.ended().await, Some(0));
    UnixStream::connect(&socket).expect("the successor's socket is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_where_others_could_put_their_own_socket_is_refused() {
    let world = World::start().await;
    let told = async |folder: &Path, why: &str| {
        let listen = launch(folder);
        let log = folder.join("refused");
        let launch = Launch { stderr: Some(fs::File::create(&log).unwrap().into()), ..listen };
        assert_eq!(ProxyProcess::exit_code(&world, launch).await, Some(1), "{why}");
        let said = fs::read_to_string(&log).unwrap();
        assert!(said.contains(&format!("cannot listen on unix:{}", folder.display())), "{said}");
        assert!(said.contains(why), "{said}");
    };
    for mode in [0o777, 0o1777, 0o770] {
        let (folder, _) = socket_folder();
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        told(folder.path(), "writable for other users").await;
    }
    let (folder, _) = socket_folder();
    std::os::unix::fs::chown(folder.path(), Some(OTHER.parse().unwrap()), None).unwrap();
    told(folder.path(), &format!("belongs to uid {OTHER}")).await;
    let (folder, socket) = socket_folder();
    fs::write(&socket, "precious").unwrap();
    told(folder.path(), "is no socket").await;
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

/// The service manager's socket is used and not removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_of_the_service_manager_is_used() {
    let world = World::start().await;
    let (folder, socket) = socket_folder();
    let held = UnixListener::bind(&socket).unwrap();
    let text = fs::read_to_string(world.config_file()).unwrap();
    let (head, rest) = text.split_once("[[listen]]").unwrap();
    let (_, rest) = rest.split_once("[limits]").unwrap();
    let listen = format!("[[listen]]\naddr = \"unix:{}\"", socket.display());
    let config = folder.path().join("proxy.toml");
    fs::write(&config, format!("{head}{listen}\n[limits]{rest}")).unwrap();
    let notified = NotifySocket::at(&folder.path().join("notify"));
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$@\"", "sh"]);
    command
        .args([env!("CARGO_BIN_EXE_pgpassport"), "serve", "--log-level", "error", "--config"])
        .arg(&config);
    command.stdin(std::os::fd::OwnedFd::from(held.try_clone().unwrap())).env("LISTEN_FDS", "1");
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    let mut service = command.spawn().unwrap();
    let state = notified.next();
    assert!(state.contains("READY=1") && state.contains(&format!("unix:{}", socket.display())), "{state}");
    let said = psql(&world, folder.path(), &[], &world.token("alice")).await;
    assert!(said.ok, "{said:?}");
    assert!(Command::new("kill").arg(service.id().to_string()).status().unwrap().success());
    let code = tokio::task::spawn_blocking(move || service.wait().unwrap().code()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(socket.exists(), "the service manager's socket stays");
}
