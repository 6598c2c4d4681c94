//! The ground that all contestants stand on: the database, the stand-ins, the folder of this run, and what it takes to
//! start a program there.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_emulator::{Ca, Cloud, CloudDatabase, CloudOptions, DatabaseOptions};
use tempfile::TempDir;

/// Longest wait for a contestant to listen; under valgrind they take their time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Sessions that every contestant can hold at the same time.
pub(crate) const MOST_SESSIONS: usize = 5_500;

/// The protocol of a server, and of everything in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Mysql,
}

/// The contestants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Floor,
    Haproxy,
    Pgbouncer,
    Pgpassport,
    /// Another build of pgpassport, given by `--former=PATH`.
    Former,
    /// MySQL Router.
    Router,
}

impl Engine {
    /// Contestants of this protocol, in the order of the table's columns.
    fn kinds(self) -> &'static [Kind; 6] {
        match self {
            Self::Postgres => {
                &[Kind::Direct, Kind::Floor, Kind::Haproxy, Kind::Pgbouncer, Kind::Pgpassport, Kind::Former]
            }
            Self::Mysql => {
                &[Kind::Direct, Kind::Floor, Kind::Haproxy, Kind::Router, Kind::Pgpassport, Kind::Former]
            }
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Haproxy => "HAProxy (TCP)",
            Self::Pgbouncer => "PgBouncer",
            Self::Pgpassport => "pgpassport",
            Self::Former => "former build",
            Self::Router => "MySQL Router",
        }
    }
}

/// A way to a server.
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) user: &'static str,
    pub(crate) password: String,
    /// Certificate authority of the peer at that address.
    pub(crate) ca: PathBuf,
    /// Processes whose cost is counted; none for the direct way.
    pub(crate) pids: Vec<u32>,
    pub(crate) running: Option<RunningProgram>,
}

/// A program that ends with its contestant.
pub(crate) struct RunningProgram(pub(crate) Child);

/// Servers behind the contestants.
#[derive(Clone, Debug)]
pub(crate) struct BenchServer {
    pub(crate) engine: Engine,
    pub(crate) addr: SocketAddr,
    pub(crate) ca_file: PathBuf,
}

/// Options of a start of a contestant.
#[derive(Clone, Copy, Default)]
pub(crate) struct StartOptions<'a> {
    /// Words before its command, as of `taskset` or `valgrind`.
    pub(crate) before: &'a [&'a str],
    /// pgpassport only: more of its `proxy.toml`, beginning inside `[[cluster]]`.
    pub(crate) more: &'a str,
    /// pgpassport only: STS is there, and not at the stand-in itself.
    pub(crate) sts: Option<SocketAddr>,
}

/// The database, the stand-ins and the folder of this run.
pub(crate) struct BenchGround {
    pub(crate) database: CloudDatabase,
    pub(crate) cloud: Cloud,
    pub(crate) folder: TempDir,
    pub(crate) listener_ca: Ca,
    /// The PostgreSQL of `database`.
    pub(crate) server: BenchServer,
    /// Path of the repository.
    pub(crate) root: PathBuf,
    /// Binary of another build, to be compared with.
    pub(crate) former: Option<PathBuf>,
    /// The configurations as they were first written, for the page.
    pub(crate) configs: RefCell<Vec<(Engine, Kind, String)>>,
    started: Cell<usize>,
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl BenchGround {
    pub(crate) fn new(root: PathBuf, former: Option<PathBuf>) -> Self {
        let change = |options: &mut aws_emulator::PostgresOptions| {
            options.max_connections = 1_300;
            options.settings.push(("shared_buffers".into(), "256MB".into()));
            options.settings.push(("max_wal_size".into(), "4GB".into()));
        };
        let database = CloudDatabase::start(DatabaseOptions { change, ..DatabaseOptions::default() })
            .expect("PostgreSQL");
        let store = database.gate.store().clone();
        let cloud = Cloud::start(CloudOptions { store, ..CloudOptions::default() }).expect("the stand-ins");
        let folder = tempfile::Builder::new().prefix("versus").tempdir().expect("a folder");
        // PgBouncer does not run as root and has to read its files.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("chmod");
        let server_ca = folder.path().join("server-ca");
        fs::create_dir(&server_ca).expect("a folder");
        let ca_file = database.ca.write(&server_ca).expect("ca.pem");
        let server = BenchServer { engine: Engine::Postgres, addr: database.postgres.addr(), ca_file };
        let listener_ca = Ca::new().expect("a certificate authority");
        let (configs, started) = (RefCell::default(), Cell::default());
        Self { database, cloud, folder, listener_ca, server, root, former, configs, started }
    }

    /// Contestants of this run, in the order of the table's columns.
    pub(crate) fn kinds(&self, engine: Engine) -> &'static [Kind] {
        let (_, others) = engine.kinds().split_last().expect("several");
        if self.former.is_some() { engine.kinds() } else { others }
    }

    /// All but the direct way: those that have a process.
    pub(crate) fn proxies(&self, engine: Engine) -> &'static [Kind] {
        self.kinds(engine).split_at(1).1
    }

    /// The builds of pgpassport in this run.
    pub(crate) fn builds(&self) -> &'static [Kind] {
        self.kinds(Engine::Postgres).split_at(Kind::Pgpassport as usize).1
    }

    /// A folder for one start of a contestant.
    pub(crate) fn own_folder(&self, kind: Kind) -> PathBuf {
        self.started.set(self.started.get() + 1);
        let folder = self.folder.path().join(format!("{kind:?}-{}", self.started.get()).to_lowercase());
        fs::create_dir(&folder).expect("a folder");
        folder
    }

    /// Waits until PostgreSQL has got rid of sessions that were left by the thousand.
    pub(crate) fn until_few_are_left(&self) {
        let began = Instant::now();
        let left = || self.database.postgres.sql("select count(*) < 200 from pg_stat_activity") == "f";
        while left() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Remembers a configuration for the page, without what is different in each run.
    pub(crate) fn remember(&self, engine: Engine, kind: Kind, text: &str) {
        let mut configs = self.configs.borrow_mut();
        if configs.iter().all(|(of, known, _)| (*of, *known) != (engine, kind)) {
            configs.push((engine, kind, text.replace(&self.folder.path().display().to_string(), "…")));
        }
    }

    /// A token for alice that is good for this run; no two are equal.
    pub(crate) fn token(&self) -> String {
        self.started.set(self.started.get() + 1);
        let now = pgpassport::clock::Clock::system().unix_seconds();
        let claims = self.cloud.issuer.default_claims("alice");
        self.cloud
            .issuer
            .mint(claims.set("exp", now + 6 * 3_600).set("jti", format!("{}", self.started.get())))
    }
}

/// A command with other words before it.
pub(crate) fn command(before: &[&str], program: &str) -> Command {
    match before {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Starts a program and waits until its port answers.
pub(crate) fn start(command: &mut Command, port: u16) -> Child {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().expect("its state").is_none(), "{command:?} has ended");
        assert!(began.elapsed() < PATIENCE, "{command:?} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}
