//! `docs/benchmarks.md` and `docs/benchmarks-mysql.md`: a table each, what it was measured with and how.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::BenchEffort;
use crate::ground::{BenchGround, Engine, Kind};

/// Beginning of the page on PostgreSQL.
const ABOUT: &str = "\
# Benchmarks

Written by `make bench ARGS=--write`; not edited by hand. Everything comes from one run on one machine: one PostgreSQL,
and in front of it

- **direct**: nothing;
- the **floor**: the smallest relay there can be (`benches/floor.c`): one thread, no TLS, no protocol, no limits;
- **HAProxy**, in TCP mode: it does no TLS work, its clients' TLS ends at PostgreSQL;
- **PgBouncer**, in session mode, TLS on both legs, a password on both, and servers that are kept warm;
- **pgpassport**, TLS on both legs, a token at the front and an IAM token at the back.

They take turns in each round, so that whatever else the machine does hits all alike. A figure is the median of its
rounds, a ratio the median of the rounds' ratios; the least and the most stand in brackets. CPU is the proxy's own
(`/proc/PID/task/*/schedstat`), user and kernel, per unit of work, and is the figure to look at: throughput and latency
say as much about PostgreSQL and pgbench, which share the processors. Logging in is not counted among transactions.

On a *busy machine* each processor has another process that only turns, at the lowest priority: nobody sleeps deeply
between two messages. Idle sessions are held against a server of the bench's own, because PostgreSQL needs a process for
each; each has sent and received 40,000 bytes before. The cold logins with a far STS and server lead through relays that
hold back each answer of STS, and the opening of each connection to the server. Beside a large result everything waits
for a processor, with a direct connection as well: its column says how much of that is the machine's. What two cores
carry is reckoned from the cost of a transaction with one session thread and with two, because pgbench and PostgreSQL
need the same cores. Callgrind counts what is executed in user space, TLS included.

How far a missed goal is out of reach is for the rows under it to tell. What is spent *in the kernel* is for sending,
receiving, waiting and waking, and is sampled (`/proc/PID/stat`). *The floor and TLS alone* adds to the floor what rustls
takes, in memory, to decrypt the same bytes on one leg and encrypt them on the other: a proxy with TLS on both legs that
did nothing else, in as few system calls as the floor. Only large results cost less than that: they are gathered before
they are sent on, and the floor gathers nothing.

";

/// Beginning of the page on MySQL.
const ABOUT_MYSQL: &str = "\
# Benchmarks with MySQL

Written by `make bench ARGS=\"--only=mysql --write\"`; not edited by hand. Everything comes from one run on one machine: one
MySQL, and in front of it

- **direct**: nothing;
- the **floor**: the smallest relay there can be (`benches/floor.c`): one thread, no TLS, no protocol, no limits;
- **HAProxy**, in TCP mode: it does no TLS work, its clients' TLS ends at the server;
- **MySQL Router**, TLS on both legs, a password on both, and a server connection for each client;
- **pgpassport**, TLS on both legs, a token at the front and an IAM token at the back.

The method is that of [the benchmarks with PostgreSQL](benchmarks.md). The load is the bench's own client: TLS without
resumption, a thread for each session. A transaction is one execution of a prepared statement, which reads a row by its
key; sessions log in before the measurement. Idle sessions are held against MySQL itself.

";

/// Measurements with one engine.
pub(crate) enum Measured {
    Postgres {
        table: String,
    },
    Mysql {
        /// Version of the server.
        version: String,
        table: String,
    },
}

impl Measured {
    /// The page's path in the repository.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "docs/benchmarks.md",
            Self::Mysql { .. } => "docs/benchmarks-mysql.md",
        }
    }

    fn engine(&self) -> Engine {
        match self {
            Self::Postgres { .. } => Engine::Postgres,
            Self::Mysql { .. } => Engine::Mysql,
        }
    }
}

/// Machine of the run.
pub(crate) struct MachineFacts(Vec<(&'static str, String)>);

impl MachineFacts {
    /// As it is before anything is measured.
    pub(crate) fn now() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str, end: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or("unknown")
                .trim_matches([' ', '\t', ':', '=', '"'])
                .trim_end_matches(end)
                .to_owned()
        };
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let kib: u64 = field(&file("/proc/meminfo"), "MemTotal", " kB").trim().parse().unwrap_or(0);
        Self(vec![
            ("date", says("date", &["-u", "+%F %H:%M UTC"])),
            ("processor", format!("{processors} × {}", field(&file("/proc/cpuinfo"), "model name", ""))),
            ("memory", format!("{} GiB", kib / 1024 / 1024)),
            ("load before", file("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
            ("kernel", format!("Linux {}", file("/proc/sys/kernel/osrelease").trim())),
            ("system", field(&file("/etc/os-release"), "PRETTY_NAME", "")),
        ])
    }
}

/// The first line that a program prints.
fn says(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout);
    let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// The whole page.
pub(crate) fn page(
    ground: &BenchGround,
    machine: &MachineFacts,
    effort: BenchEffort,
    measured: &Measured,
    took: Duration,
) -> String {
    let (about, table) = match measured {
        Measured::Postgres { table } => (ABOUT, table),
        Measured::Mysql { table, .. } => (ABOUT_MYSQL, table),
    };
    let mut text = format!("{about}{table}\n## Machine and versions\n\n| | |\n|---|---|\n");
    let binary = ground.root.join("target/release/pgpassport").display().to_string();
    let root = ground.root.display().to_string();
    let commit = says("git", &["-C", &root, "describe", "--always", "--dirty"]);
    let [server, neighbour] = match measured {
        Measured::Postgres { .. } => [
            ("PostgreSQL", ground.database.postgres.sql("select version()")),
            ("PgBouncer", says("pgbouncer", &["--version"])),
        ],
        Measured::Mysql { version, .. } => {
            let router = ground.router_program();
            let router = if router.exists() {
                says(&router.display().to_string(), &["--version"])
            } else {
                "not at hand".into()
            };
            [("MySQL", version.clone()), ("MySQL Router", router)]
        }
    };
    let versions = [
        server,
        neighbour,
        ("HAProxy", says("haproxy", &["-v"])),
        ("pgpassport", format!("{}, {commit}", says(&binary, &["--version"]))),
        ("the run took", format!("{} min {} s", took.as_secs() / 60, took.as_secs() % 60)),
        (
            "rounds",
            format!(
                "{} of {} s, {} MiB by COPY and in results",
                effort.rounds, effort.seconds, effort.bulk_mib
            ),
        ),
    ];
    for (name, value) in machine.0.iter().chain(&versions) {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text += "\n## Configurations\n\n`…` is the folder of the run.\n";
    for (_, kind, config) in ground.configs.borrow().iter().filter(|(of, ..)| *of == measured.engine()) {
        let kind_of_file = if *kind == Kind::Pgpassport { "toml" } else { "ini" };
        let config = config.trim_end().replace(&root, "."); // the page names no folder of this machine
        let _ = write!(text, "\n{}:\n\n```{kind_of_file}\n{config}\n```\n", kind.name());
    }
    text
}
