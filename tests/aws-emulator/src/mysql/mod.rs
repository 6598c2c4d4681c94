//! A throw-away MySQL or MariaDB that logs users in as Aurora does: its plugin `AWSAuthenticationPlugin` asks the gate.

mod install;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

pub use self::install::MysqlEngine;
use self::install::MysqlInstall;
use crate::certs::ServerCert;
use crate::files::{TempDir, write_public};
use crate::keeper::{ServerGuardian, ServerKind};
use crate::{EmulatorError, GateSocket, LoginGate, names, programs};

/// The source of the plugin. It is compiled for each server: Rust needs a C compiler, too, and it takes 0.1 s.
const PLUGIN: &str = include_str!("../../mysql-plugin/aws_auth.c");

/// Options of a server.
#[derive(Clone)]
pub struct MysqlOptions {
    /// The engine.
    pub engine: MysqlEngine,
    /// Decides the logins of users with `AWSAuthenticationPlugin`.
    pub gate: LoginGate,
    /// The server's certificate. Without one the server has no TLS, and IAM users cannot log in.
    pub cert: Option<ServerCert>,
    /// Users with IAM logins, from any host, only over TLS.
    pub iam_users: Vec<String>,
    /// Users with a password, in the engine's own way.
    pub password_users: Vec<(String, String)>,
    /// More settings, as `name` and `value` of `--name=value`.
    pub settings: Vec<(String, String)>,
}

impl MysqlOptions {
    /// The usual users: alice, bob and `alice@example.com` with IAM logins, carol with a password. Settings are those of Aurora
    /// where tests meet them.
    pub fn new(engine: MysqlEngine, gate: LoginGate, cert: Option<ServerCert>) -> Self {
        let settings = [("max-connections", "600"), ("max-allowed-packet", "64M"), ("local-infile", "ON")];
        Self {
            engine,
            gate,
            cert,
            iam_users: ["alice", "bob", "alice@example.com"].map(str::to_owned).to_vec(),
            password_users: vec![("carol".to_owned(), "carol-password".to_owned())],
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }
}

/// A running server. Clones share it; with the last one it stops and its folder goes. It also goes when this process
/// ends in any way, see [`crate::keeper`].
#[derive(Clone)]
pub struct Mysql {
    inner: Arc<MysqlState>,
}

struct MysqlState {
    engine: MysqlEngine,
    addr: SocketAddr,
    install: MysqlInstall,
    dir: PathBuf,
    keeper: ServerGuardian,
    _gate: GateSocket,
}

impl Mysql {
    /// Makes the system tables and starts the server. Blocks for some seconds.
    pub fn start(options: &MysqlOptions) -> Result<Self, EmulatorError> {
        let install = MysqlInstall::find(options.engine)?;
        let dir = TempDir::new("emu-mysql", 0o700)?;
        compile_plugin(dir.path())?;
        let gate = options.gate.listen_on(&dir.path().join("gate.sock"))?;
        install.make_tables(&dir.path().join("data"))?;
        let folder = dir.path().to_owned();
        let (keeper, addr) = launch(&install, dir, options)?;
        let inner = MysqlState { engine: options.engine, addr, install, dir: folder, keeper, _gate: gate };
        let server = Self { inner: Arc::new(inner) };
        server.run_sql("mysql", &users(options))?;
        Ok(server)
    }

    /// The engine.
    pub fn engine(&self) -> MysqlEngine {
        self.inner.engine
    }

    /// Listening address for TCP.
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// The folder with data, sockets and certificate.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The server's log so far. The gate's reason for a refusal stands in it.
    pub fn log(&self) -> String {
        self.inner.keeper.log()
    }

    /// Runs SQL as the superuser in database `app` and gives the rows as text, columns parted by tabs.
    pub fn sql(&self, sql: &str) -> String {
        self.run_sql(names::DATABASE, sql).expect("SQL of the test itself")
    }

    /// Runs SQL that may fail, as [`Mysql::sql`] does.
    pub fn try_sql(&self, sql: &str) -> Option<String> {
        self.run_sql(names::DATABASE, sql).ok()
    }

    /// The engine's command-line client, `mysql` or `mariadb`, without the caller's environment and option files.
    pub fn client(&self) -> Command {
        self.inner.install.client()
    }

    /// The client on its way to `host` and `port` as `user`, over TLS with a verified certificate. The token goes into the variable
    /// `MYSQL_PWD`.
    pub fn client_to(&self, host: &str, port: u16, ca: &Path, user: &str) -> Command {
        let mut client = self.client();
        client.args(["--protocol=tcp", "--batch", "--skip-column-names"]);
        client.args([format!("--host={host}"), format!("--port={port}"), format!("--user={user}")]);
        client.arg(format!("--ssl-ca={}", ca.display()));
        client.args(match self.inner.engine {
            MysqlEngine::Mysql => ["--ssl-mode=VERIFY_IDENTITY", "--enable-cleartext-plugin"],
            MysqlEngine::MariaDb => ["--ssl", "--ssl-verify-server-cert"],
        });
        client
    }

    fn run_sql(&self, database: &str, sql: &str) -> Result<String, EmulatorError> {
        let mut client = self.client();
        client.arg("--socket").arg(socket(&self.inner.dir)).args([
            "--user=root",
            "--batch",
            "--skip-column-names",
        ]);
        programs::run(client.args([database, "-e", sql]))
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("mysqld.sock")
}

fn compile_plugin(dir: &Path) -> Result<(), EmulatorError> {
    let (source, folder) = (dir.join("aws_auth.c"), dir.join("plugins"));
    write_public(&source, PLUGIN)?;
    std::fs::create_dir(&folder).map_err(EmulatorError::io(format!("making {}", folder.display())))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.join("aws_auth.so")).arg(&source);
    programs::run(&mut compiler)?;
    Ok(())
}

/// Starts the server on a free port.
fn launch(
    install: &MysqlInstall,
    dir: TempDir,
    options: &MysqlOptions,
) -> Result<(ServerGuardian, SocketAddr), EmulatorError> {
    let kind = ServerKind { name: options.engine.name(), ready: "ready for connections", signal: "KILL" };
    let at = dir.path().display();
    let mut words = vec!["env".to_owned(), format!("AWS_EMULATOR_GATE={at}/gate.sock")];
    words.extend(install.server(&dir.path().join("data"))?);
    words.push(format!("--socket={}", socket(dir.path()).display()));
    words.extend([format!("--plugin-dir={at}/plugins"), "--bind-address=127.0.0.1".to_owned()]);
    // `root@localhost` is then nobody who comes over TCP.
    words.push("--skip-name-resolve".to_owned());
    if let Some(cert) = &options.cert {
        let files = cert.write(dir.path(), "server")?;
        words.push(format!("--ssl-cert={}", files.cert.display()));
        words.push(format!("--ssl-key={}", files.key.display()));
    }
    words.extend(options.settings.iter().map(|(name, value)| format!("--{name}={value}")));
    let command = |port: u16| [&words[..], &[format!("--port={port}")]].concat();
    ServerGuardian::on_free_port(kind, dir, command)?.map_err(|problem| options.engine.problem(problem))
}

/// The statements that Aurora's guide gives for its users.
fn users(options: &MysqlOptions) -> String {
    let text = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    let mut sql = vec![
        "INSTALL PLUGIN AWSAuthenticationPlugin SONAME 'aws_auth.so'".to_owned(),
        format!("CREATE DATABASE {}", names::DATABASE),
    ];
    let mut grant = |user: &str, how: String| {
        sql.push(format!("CREATE USER {}@'%' IDENTIFIED {how}", text(user)));
        sql.push(format!("GRANT ALL ON {}.* TO {}@'%'", names::DATABASE, text(user)));
    };
    for user in &options.iam_users {
        grant(user, "WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL".to_owned());
    }
    for (user, password) in &options.password_users {
        grant(user, format!("BY {}", text(password)));
    }
    sql.join("; ")
}
