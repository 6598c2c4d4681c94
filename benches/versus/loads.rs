//! The loads that PostgreSQL's own programs make: small queries, bulk both ways, logins. Each gives figures for one
//! contestant.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use aws_emulator::{Postgres, names};

use crate::ground::Contestant;
use crate::measure::{cpu_seconds, figure, kernel_seconds, percentile};

/// Results of a run of a load.
#[derive(Clone, Copy, Default)]
pub(crate) struct LoadFigures {
    /// CPU time of the contestant's processes for one unit: a transaction, a gigabyte, a login. Seconds.
    pub(crate) cpu: f64,
    /// Part of that time in the kernel; of transactions only.
    pub(crate) kernel: f64,
    /// Units a second.
    pub(crate) rate: f64,
    /// Median time of one unit as the client saw it, seconds.
    pub(crate) p50: f64,
    /// 99 of 100 were faster, seconds; of transactions only.
    pub(crate) p99: f64,
}

/// A client program with the connection of `to` in its environment.
pub(crate) fn client(program: &str, to: &Contestant) -> Command {
    let mut command = Command::new(program);
    command
        .env("PGHOST", "localhost")
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", to.port.to_string())
        .env("PGUSER", to.user)
        .env("PGPASSWORD", &to.password)
        .env("PGDATABASE", names::DATABASE)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", &to.ca)
        .env("PGGSSENCMODE", "disable")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn run(command: &mut Command, to: &Contestant) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{} through {}: {words}",
        command.get_program().display(),
        to.kind.name()
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes the tables of all loads: pgbench's, and rows of two sizes for bulk.
/// `bulk_mib` is the size of each of the two.
pub(crate) fn prepare(postgres: &Postgres, bulk_mib: usize) {
    postgres.sql(
        "create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84)); \
         insert into pgbench_accounts select i, 1, 0, '' from generate_series(1, 100000) i; \
         create table pgbench_branches (bid int primary key, bbalance int); insert into pgbench_branches values (1, 0); \
         create unlogged table sink (v text); alter table sink alter v set storage external; \
         grant select on all tables in schema public to public; grant all on sink to public; analyze",
    );
    let small = bulk_mib * 1024 * 1024 / 27; // 20 bytes, the newline, and the header of their CopyData message
    postgres.sql(&format!(
        "create unlogged table small as select lpad(i::text, 20, 'x') v from generate_series(1, {small}) i; \
         create unlogged table large (v text); alter table large alter v set storage external; \
         insert into large select repeat('0123456789abcdef', 65536) from generate_series(1, {bulk_mib}); \
         grant select on small, large to public"
    ));
}

/// Options of a run of pgbench.
#[derive(Clone, Copy)]
pub(crate) enum RunLength {
    Seconds(u32),
    /// Transactions of each client.
    Transactions(usize),
}

/// Report of pgbench.
pub(crate) struct PgbenchReport {
    cpu: f64,
    kernel: f64,
    count: f64,
    rate: f64,
    average: f64,
    /// Of each transaction, seconds; none where they were not asked for.
    pub(crate) times: Vec<f64>,
}

/// Runs pgbench with `more` arguments; each transaction is written to a log in `log`, if there is one.
pub(crate) fn pgbench(
    to: &Contestant,
    clients: usize,
    length: RunLength,
    more: &[&str],
    log: Option<&Path>,
) -> PgbenchReport {
    let mut command = client("pgbench", to);
    command.args(["-n", "-c", &clients.to_string(), "-j", &clients.min(2).to_string()]).args(more);
    match length {
        RunLength::Seconds(seconds) => command.arg("-T").arg(seconds.to_string()),
        RunLength::Transactions(count) => command.arg("-t").arg(count.to_string()),
    };
    let prefix = log.map(|folder| folder.join(format!("log-{}-{clients}", to.port)));
    if let Some(prefix) = &prefix {
        command.arg("-l").arg(format!("--log-prefix={}", prefix.display()));
    }
    let before = (cpu_seconds(&to.pids), kernel_seconds(&to.pids));
    let report = run(&mut command, to);
    PgbenchReport {
        cpu: cpu_seconds(&to.pids) - before.0,
        kernel: kernel_seconds(&to.pids) - before.1,
        count: number_in(&report, "number of transactions actually processed: "),
        rate: number_in(&report, "tps = "),
        average: number_in(&report, "latency average = ") / 1e3,
        times: prefix.map(|prefix| latencies(&prefix)).unwrap_or_default(),
    }
}

/// A small query per transaction.
pub(crate) const SMALL_QUERIES: [&str; 5] = ["-S", "-M", "prepared", "-s", "1"];

/// `pgbench -S -M prepared`. The cost of logging in is measured beside it and taken off.
pub(crate) fn queries(to: &Contestant, clients: usize, seconds: u32, folder: &Path) -> LoadFigures {
    let logins = pgbench(to, clients, RunLength::Transactions(1), &SMALL_QUERIES, None);
    let log = (clients == 1).then_some(folder);
    let mut whole = pgbench(to, clients, RunLength::Seconds(seconds), &SMALL_QUERIES, log);
    LoadFigures {
        cpu: (whole.cpu - logins.cpu) / (whole.count - logins.count),
        kernel: (whole.kernel - logins.kernel) / (whole.count - logins.count),
        rate: whole.rate,
        p50: percentile(&mut whole.times, 0.5),
        p99: percentile(&mut whole.times, 0.99),
    }
}

/// Some transactions of one client.
pub(crate) fn transactions(to: &Contestant, count: usize) -> PgbenchReport {
    pgbench(to, 1, RunLength::Transactions(count), &SMALL_QUERIES, None)
}

/// `pgbench -C`: each transaction over a connection of its own.
pub(crate) fn logins(to: &Contestant, clients: usize, length: RunLength, folder: &Path) -> LoadFigures {
    let script = folder.join("select1.sql");
    fs::write(&script, "select 1;\n").expect("a script");
    let file = script.display().to_string();
    let bench = pgbench(to, clients, length, &["-C", "-f", &file], None);
    LoadFigures {
        cpu: bench.cpu / bench.count,
        rate: bench.rate,
        p50: bench.average,
        ..LoadFigures::default()
    }
}

/// `COPY … TO STDOUT` of a whole table.
pub(crate) fn copy_out(to: &Contestant, table: &str, bytes: f64) -> LoadFigures {
    let mut command = client("psql", to);
    command.args(["-X", "-q", "-c", &format!("copy {table} to stdout")]).stdout(Stdio::null());
    bulk(to, &mut command, bytes)
}

/// `COPY … FROM STDIN` of a file; the rows are thrown away at the end.
pub(crate) fn copy_in(to: &Contestant, file: &Path, bytes: f64) -> LoadFigures {
    let mut command = client("psql", to);
    command.args(["-X", "-q", "-c", "begin", "-c", "copy sink from stdin", "-c", "rollback"]);
    command.stdin(fs::File::open(file).expect("the rows"));
    bulk(to, &mut command, bytes)
}

fn bulk(to: &Contestant, command: &mut Command, bytes: f64) -> LoadFigures {
    let gigabytes = bytes / 1e9;
    let (before, began) = (cpu_seconds(&to.pids), Instant::now());
    run(command, to);
    let cpu = cpu_seconds(&to.pids) - before;
    LoadFigures {
        cpu: cpu / gigabytes,
        rate: gigabytes / began.elapsed().as_secs_f64(),
        ..LoadFigures::default()
    }
}

/// The rows of a table as `COPY` writes them, in a file, and their size.
pub(crate) fn rows(from: &Contestant, table: &str, folder: &Path) -> (PathBuf, f64) {
    let file = folder.join(format!("{table}.rows"));
    let mut command = client("psql", from);
    command.args(["-X", "-q", "-c", &format!("copy {table} to stdout")]);
    command.stdout(fs::File::create(&file).expect("a file"));
    run(&mut command, from);
    let size = usize::try_from(fs::metadata(&file).expect("its size").len()).expect("it fits the memory");
    (file, figure(size))
}

/// No figure where there is none: pgbench has no rate to tell when there was no time for a transaction.
fn number_in(report: &str, label: &str) -> f64 {
    let rest = report.split(label).nth(1).unwrap_or_default();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(f64::NAN)
}

/// Reads and removes pgbench's log: a line a transaction, its third word microseconds.
fn latencies(prefix: &Path) -> Vec<f64> {
    let mut times = Vec::new();
    for entry in fs::read_dir(prefix.parent().expect("a folder")).expect("the folder").flatten() {
        if !entry.path().to_string_lossy().starts_with(&*prefix.to_string_lossy()) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).expect("a log");
        times.extend(
            text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()).map(|us| us / 1e6),
        );
        let _ = fs::remove_file(entry.path());
    }
    times
}
