//! `pgpassport connect` as a process, with a profile and the tokens of a sign-in.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::outcome;
use crate::world::admin::until;
use crate::world::{World, database};

/// A person's home.
pub(super) struct Home {
    folder: TempDir,
}

impl Home {
    /// With a profile "acme" for the world's proxy.
    fn new(world: &World) -> Self {
        Self::with(world, "")
    }

    /// The same, with further lines in the profile.
    pub(super) fn with(world: &World, more: &str) -> Self {
        let home = Self { folder: TempDir::new().unwrap() };
        let ca = world.listener_ca().write(&world.folder()).unwrap();
        for folder in ["config/pgpassport", "cache/pgpassport", "run"] {
            fs::create_dir_all(home.path(folder)).unwrap();
            fs::set_permissions(home.path(folder), Permissions::from_mode(0o700)).unwrap();
        }
        let profile = format!(
            "[[profile]]\nname = \"acme\"\nissuer = \"{}\"\nclient_id = \"cli\"\nprivate_network = true\n\
             proxy = \"localhost:{}\"\nca_file = \"{}\"\ndatabases = [\"app\"]\n{more}",
            world.cloud.issuer.url(),
            world.port,
            ca.display(),
        );
        fs::write(home.path("config/pgpassport/client.toml"), profile).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As after a sign-in.
    pub(super) fn sign_in(&self, world: &World, token: &str) {
        let now = world.cloud.clock.unix();
        let record = serde_json::json!({
            "version": 1, "issuer": world.cloud.issuer.url(), "client_id": "cli",
            "scopes": ["openid", "offline_access"], "audience": null, "token": "access",
            "current": token, "expires_at": now + 600, "refresh": null,
        });
        let file = self.path("cache/pgpassport/acme.json");
        fs::write(&file, record.to_string()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }

    fn connect(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpassport"));
        command
            .arg("connect")
            .args(args)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, args: &[&str]) -> Output {
        self.connect(args).output().await.unwrap()
    }

    /// An agent in the foreground, and what it has printed.
    pub(super) async fn agent(&self, args: &[&str], lines: usize) -> (Child, Vec<String>) {
        let mut agent = self.connect(args).spawn().unwrap();
        let mut output: Lines<BufReader<ChildStdout>> = BufReader::new(agent.stdout.take().unwrap()).lines();
        let mut welcome = Vec::new();
        for _ in 0..lines {
            welcome.push(output.next_line().await.unwrap().expect("a line of the welcome"));
        }
        (agent, welcome)
    }

    pub(super) fn socket(&self) -> String {
        self.path("run/pgpassport/agent-acme").display().to_string()
    }
}

async fn psql(host: &str, port: &str, password: &str) -> Result<String, String> {
    let mut psql = Command::from(database().postgres.psql());
    psql.args(["-h", host, "-p", port, "-d", "app", "-c", "select current_user"]).env("PGPASSWORD", password);
    outcome(&psql.output().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_in_person_connects_and_a_signed_out_one_reads_what_to_do() {
    let world = World::start().await;
    let home = Home::new(&world);
    let (mut agent, welcome) = home.agent(&[], 2).await;
    assert_eq!(welcome[0], format!("pgpassport agent of profile acme, proxy localhost:{}", world.port));
    assert_eq!(welcome[1], format!("  psql     psql -h {} app", home.socket()));
    let said = psql(&home.socket(), "5432", "").await.unwrap_err();
    assert!(said.contains("DETAIL:  No token: profile \"acme\" is signed out."), "{said}");
    assert!(said.contains("HINT:  Run `pgpassport login --profile acme` in a terminal."), "{said}");
    // The same agent serves the sign-in that follows.
    let token = world.token("alice");
    home.sign_in(&world, &token);
    assert_eq!(psql(&home.socket(), "5432", "").await.as_deref(), Ok("alice"));
    // A second one says that there is one.
    let second = home.output(&[]).await;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("an agent already listens in"), "{said}");
    let pid = agent.id().unwrap().try_into().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(agent.wait().await.unwrap().success());
    assert!(!PathBuf::from(home.socket()).join(".s.PGSQL.5432").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_asks_for_a_password_that_stays_the_same() {
    let world = World::start().await;
    let home = Home::new(&world);
    home.sign_in(&world, &world.token("alice"));
    let shown = async || outcome(&home.output(&["--show-password"]).await).unwrap();
    let password = shown().await;
    assert_eq!(password.len(), 22);
    let (_agent, welcome) = home.agent(&["--listen", "127.0.0.1:0"], 3).await;
    assert!(!welcome.concat().contains(&password), "this output may be a log: {welcome:?}");
    assert_eq!(welcome[2], "  password `pgpassport connect --show-password --profile acme`");
    let port = welcome[1].split("port ").nth(1).unwrap().split(',').next().unwrap();
    assert_eq!(psql("127.0.0.1", port, &password).await.as_deref(), Ok("alice"));
    assert!(psql("127.0.0.1", port, "another").await.is_err());
    assert!(!PathBuf::from(home.socket()).exists(), "only what was asked for");
    assert_eq!(shown().await, password);
    for (args, complaint) in [
        (&["--listen", "0.0.0.0:0"][..], "is not a loopback address"),
        (&["--profile", "other"], "there is no profile \"other\""),
        (&["--listen", "127.0.0.1:0", "--show-password"], "cannot be used with"),
    ] {
        let output = home.output(args).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && output.stdout.is_empty() && said.contains(complaint),
            "{args:?}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_the_profiles_own() {
    let world = World::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    let home = Home::with(&world, &format!("agent_port = {port}\n"));
    home.sign_in(&world, &world.token("alice"));
    let taken = home.output(&["--listen"]).await;
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
    drop(free);
    let password = outcome(&home.output(&["--show-password"]).await).unwrap();
    for _ in 0..2 {
        let (mut agent, welcome) = home.agent(&["--listen"], 2).await;
        assert!(welcome[1].contains(&format!("host 127.0.0.1, port {port}, ")), "{welcome:?}");
        assert_eq!(psql("127.0.0.1", &port, &password).await.as_deref(), Ok("alice"));
        agent.kill().await.unwrap();
    }
    // Two profiles of one person cannot have the same one.
    let file = home.path("config/pgpassport/client.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}{}", text.replace("\"acme\"", "\"other\""))).unwrap();
    let clash = home.output(&["--listen", "--profile", "other"]).await;
    let said = String::from_utf8_lossy(&clash.stderr).into_owned();
    assert!(said.contains("agent_port: profile \"acme\" has the same port"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_it_outlives_the_command() {
    let world = World::start().await;
    let home = Home::new(&world);
    home.sign_in(&world, &world.token("alice"));
    let said = outcome(&home.output(&["--background", "--socket", "--listen", "127.0.0.1:0"]).await).unwrap();
    let pid: i32 = said.rsplit_once("kill ").unwrap().1.parse().unwrap();
    assert_eq!(psql(&home.socket(), "5432", "").await.as_deref(), Ok("alice"));
    // A second one fails, and says why.
    let second = outcome(&home.output(&["--background", "--socket"]).await).unwrap_err();
    assert!(second.contains("the agent has not started") && second.contains("already listens"), "{second}");
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(arguments.contains("--detached"), "{arguments}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    let gone = PathBuf::from(home.socket()).join(".s.PGSQL.5432");
    until("the agent has ended", async || !gone.exists()).await;
}

/// A token is in the cache and nowhere else: in no other file, argument, variable, or line that the agent or a tool prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_in_the_cache_and_nowhere_else() {
    let world = World::start().await;
    let home = Home::new(&world);
    let token = world.token("alice");
    home.sign_in(&world, &token);
    let (mut agent, welcome) = home.agent(&["--socket", "--listen", "127.0.0.1:0"], 4).await;
    assert_eq!(psql(&home.socket(), "5432", "").await.as_deref(), Ok("alice"));
    // Refusals of every kind, which are the agent's only words.
    let port = welcome[2].split("port ").nth(1).unwrap().split(',').next().unwrap();
    let mut said = welcome.concat();
    said += &psql("127.0.0.1", port, "wrong").await.unwrap_err();
    home.sign_in(&world, &world.token("nobody"));
    said += &psql(&home.socket(), "5432", "").await.unwrap_err();
    home.sign_in(&world, &token);
    let secret = token.rsplit('.').next().unwrap();
    let process = format!("/proc/{}", agent.id().unwrap());
    for file in ["cmdline", "environ"] {
        said += &String::from_utf8_lossy(&fs::read(format!("{process}/{file}")).unwrap());
    }
    let pid = agent.id().unwrap().try_into().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut log = agent.stderr.take().unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut log, &mut said).await.unwrap();
    assert!(said.contains("--socket") && said.contains("HOME=") && !said.contains(secret), "{said}");
    let found = Command::new("grep").arg("-rl").arg(&token).arg(home.folder.path()).output().await.unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.trim_end(), home.path("cache/pgpassport/acme.json").display().to_string());
}
