//! A throw-away `PostgreSQL` that logs users in as Aurora does: what it is made of and how tests use it.

mod install;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use self::install::PostgresInstall;
use crate::certs::ServerCert;
use crate::files::{TempDir, write_private, write_public};
use crate::keeper::{ServerGuardian, ServerKind};
use crate::{EmulatorError, gate, names, programs};

/// The superuser. It logs in over the Unix socket only.
const SUPERUSER: &str = "postgres";

const POSTGRES: ServerKind = ServerKind {
    name: "PostgreSQL",
    ready: "database system is ready to accept connections",
    signal: "QUIT",
};

/// Options of a `PostgreSQL`.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Address of the gate, which decides logins of members of `rds_iam`.
    pub gate: SocketAddr,
    /// The server's certificate. Without one the server has no TLS.
    pub cert: Option<ServerCert>,
    /// Login roles that are members of `rds_iam`.
    pub iam_users: Vec<String>,
    /// Login roles with a SCRAM password, not members of `rds_iam`.
    pub password_users: Vec<(String, String)>,
    /// `max_connections`.
    pub max_connections: u32,
    /// More settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl PostgresOptions {
    /// The usual users: alice, bob and `alice@example.com` with IAM logins, carol with a password.
    pub fn new(gate: SocketAddr, cert: Option<ServerCert>) -> Self {
        Self {
            gate,
            cert,
            iam_users: ["alice", "bob", "alice@example.com"].map(str::to_owned).to_vec(),
            password_users: vec![("carol".to_owned(), "carol-password".to_owned())],
            max_connections: 600, // several tests with crowds of sessions share one server
            settings: Vec::new(),
        }
    }
}

/// A running server. Clones share it; with the last one it stops and its folder goes. It also goes when this process
/// ends in any way, see [`crate::keeper`].
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<PostgresState>,
}

struct PostgresState {
    addr: SocketAddr,
    install: PostgresInstall,
    dir: std::path::PathBuf,
    keeper: ServerGuardian,
}

impl Postgres {
    /// Makes a cluster and starts it. Blocks for about a second.
    pub fn start(options: &PostgresOptions) -> Result<Self, EmulatorError> {
        let install = PostgresInstall::find()?;
        let dir = TempDir::new("emu-pg", 0o755)?;
        let data = dir.path().join("data");
        let data_text = data.display().to_string();
        install.give(dir.path())?;
        let mut initdb = install.as_server_user("initdb");
        initdb.args(["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-U", SUPERUSER, "-D"]);
        programs::run(initdb.arg(&data_text).current_dir(dir.path()))?;
        write_public(&data.join("pg_hba.conf"), &pg_hba(options.gate))?;
        if let Some(cert) = &options.cert {
            write_public(&data.join("server.crt"), &cert.cert_pem)?;
            write_private(&data.join("server.key"), &cert.key_pem)?;
            install.give(&data.join("server.key"))?;
        }
        let (guardian, addr) = launch(&install, dir, &data_text, options)?;
        let server = Self { inner: Arc::new(PostgresState { addr, install, dir: data, keeper: guardian }) };
        server.run_sql("postgres", &format!("CREATE DATABASE {}", names::DATABASE))?;
        server.run_sql(names::DATABASE, &roles(options))?;
        Ok(server)
    }

    /// Listening address for TCP.
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// The folder with data, socket and certificate.
    pub fn data_dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The server's log so far. The gate's reason for a refusal stands in it as `LDAP diagnostics`.
    pub fn log(&self) -> String {
        self.inner.keeper.log()
    }

    /// Runs SQL as the superuser in database `app` and gives the rows as text, columns parted by `|`.
    pub fn sql(&self, sql: &str) -> String {
        self.run_sql(names::DATABASE, sql).expect("SQL of the test itself")
    }

    /// A `psql` of this installation without the caller's environment and start-up file.
    pub fn psql(&self) -> Command {
        psql(&self.inner.install)
    }

    /// A `pgbench` of this installation without the caller's environment.
    pub fn pgbench(&self) -> Command {
        client(&self.inner.install, "pgbench")
    }

    fn run_sql(&self, database: &str, sql: &str) -> Result<String, EmulatorError> {
        let mut psql = self.psql();
        psql.arg("-h").arg(&self.inner.dir).args(["-p", &self.addr().port().to_string(), "-U", SUPERUSER]);
        programs::run(psql.args(["-d", database, "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }
}

fn psql(install: &PostgresInstall) -> Command {
    let mut psql = client(install, "psql");
    psql.args(["-X", "-A", "-t", "-q"]);
    psql
}

fn client(install: &PostgresInstall, name: &str) -> Command {
    let mut client = install.program(name);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            client.env_remove(name);
        }
    }
    // Certificates and passwords in the caller's home folder must not play a part.
    client.env("HOME", "/nonexistent").stdin(Stdio::null());
    client
}

/// The order of rules that RDS has: IAM users only over TLS and only through the gate, others by password.
fn pg_hba(gate: SocketAddr) -> String {
    format!(
        "local     all all      trust\n\
         hostnossl all +rds_iam all reject\n\
         hostssl   all +rds_iam all ldap ldapserver={} ldapport={} ldapprefix=\"{}\" ldapsuffix=\"{}\"\n\
         host      all all      127.0.0.1/32 scram-sha-256\n",
        gate.ip(),
        gate.port(),
        gate::PREFIX,
        gate::SUFFIX,
    )
}

fn roles(options: &PostgresOptions) -> String {
    let name = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut sql = vec!["CREATE ROLE rds_iam NOLOGIN".to_owned()];
    for user in &options.iam_users {
        sql.push(format!("CREATE ROLE {} LOGIN IN ROLE rds_iam", name(user)));
    }
    for (user, password) in &options.password_users {
        sql.push(format!("CREATE ROLE {} LOGIN PASSWORD '{}'", name(user), password.replace('\'', "''")));
    }
    sql.join("; ")
}

/// Starts the server on a free port.
fn launch(
    install: &PostgresInstall,
    dir: TempDir,
    data: &str,
    options: &PostgresOptions,
) -> Result<(ServerGuardian, SocketAddr), EmulatorError> {
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("unix_socket_directories", data.to_owned()),
        ("max_connections", options.max_connections.to_string()),
        ("fsync", "off".to_owned()),
        ("password_encryption", "scram-sha-256".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("ssl", if options.cert.is_some() { "on" } else { "off" }.to_owned()),
    ];
    settings.extend(options.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let command = |port: u16| {
        let mut server = install.server_arguments("postgres");
        server.extend(["-D".to_owned(), data.to_owned(), "-p".to_owned(), port.to_string()]);
        for (name, value) in &settings {
            server.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        server
    };
    ServerGuardian::on_free_port(POSTGRES, dir, command)?.map_err(EmulatorError::Postgres)
}
