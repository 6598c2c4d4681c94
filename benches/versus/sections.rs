//! The measurements, section by section, and the requirement on each figure.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::ground::{BenchGround, BenchServer, Contestant, Engine, Kind, StartOptions};
use crate::loads::{self, LoadFigures, RunLength};
use crate::measure::{figure, percentile, processors};
use crate::quiet_server::QuietServer;
use crate::report::{ReportTable, Section, TableRow};
use crate::sessions::{IdleCost, LoginRoute, LoginStorm};
use crate::tls_alone::TlsLegs;
use crate::{BenchEffort, background, instructions, legs, neighbours, sessions, tokens};

/// Configuration of the pool, at the end of `proxy.toml`.
const POOL: &str = "[pool]\nmode = \"session\"";

/// Everything a section needs.
pub(crate) struct SectionSetup {
    ground: Rc<BenchGround>,
    contestants: Vec<Contestant>,
    effort: BenchEffort,
}

/// The sections with the words that `--only` knows them by: the goals' numbers among them.
pub(crate) const SECTIONS: [Section<SectionSetup>; 11] = [
    ("1 2 3 4 queries", queries),
    ("1 2 3 busy", busy),
    ("5 copy", copy),
    ("6 idle", idle),
    ("7 8 logins", logins),
    ("9 far", far),
    ("10 cores", cores),
    ("11 neighbours", beside_others),
    ("R23", many_idle),
    ("R24", many_logins),
    ("jwt instructions", inside),
];

impl SectionSetup {
    pub(crate) fn new(ground: Rc<BenchGround>, effort: BenchEffort) -> Self {
        loads::prepare(&ground.database.postgres, effort.bulk_mib);
        let kinds = ground.kinds(Engine::Postgres);
        let contestants = ground.contestants(kinds, &ground.server);
        Self { ground, contestants, effort }
    }

    fn folder(&self) -> &Path {
        self.ground.folder.path()
    }

    fn one(&self, kind: Kind) -> &Contestant {
        &self.contestants[kind as usize]
    }

    /// [`interleaved`] for all contestants.
    fn interleaved<R: Clone>(&self, rounds: usize, load: impl Fn(&Contestant) -> R) -> Vec<Vec<R>> {
        interleaved(&self.contestants.iter().collect::<Vec<_>>(), rounds, load)
    }

    fn query_rows(&self, table: &mut ReportTable, clients: usize, rounds: usize, background: &str) {
        let (seconds, folder) = (self.effort.seconds, self.folder());
        let runs = self.interleaved(rounds, |to| loads::queries(to, clients, seconds, folder));
        let plural = if clients == 1 { "" } else { "s" };
        let load = format!("pgbench -S -M prepared, {clients} client{plural}{background}");
        let goal = if clients == 1 { "1" } else { "2" };
        let cpu = TableRow::new(goal, &load, "µs CPU a transaction");
        let cpu = cpu.everyone(&self.contestants, &runs, |run| run.cpu * 1e6);
        table.row(&match clients {
            1 => cpu.share_at_most(0.80, Kind::Pgbouncer),
            _ => cpu.share_at_most(0.75, Kind::Pgbouncer).share_at_most(0.90, Kind::Haproxy),
        });
        let kernel = TableRow::new("", format!("{load}, in the kernel"), "µs CPU a transaction");
        table.row(&kernel.everyone(&self.contestants, &runs, |run| run.kernel * 1e6));
        let mut legs = TlsLegs::new();
        let tls = (0..rounds).map(|_| legs.a_transaction());
        table.row(&self.floor_and_tls(&load, "µs CPU a transaction", 1e6, &runs, tls));
        let goal = if clients == 16 { "3" } else { "" };
        let rate = TableRow::new(goal, &load, "transactions a second");
        let rate = rate.everyone(&self.contestants, &runs, |run| run.rate);
        table.row(&if clients == 16 { rate.share_at_least(1.15, Kind::Pgbouncer) } else { rate });
        if clients == 1 {
            added_latency(table, &load, self.ground.proxies(Engine::Postgres), &runs);
        }
    }

    /// Figures of a proxy that costs no more than the floor and TLS alone; `tls` has a figure a
    /// round, in the seconds of `runs`.
    fn floor_and_tls(
        &self,
        load: &str,
        unit: &'static str,
        scale: f64,
        runs: &[Vec<LoadFigures>],
        tls: impl Iterator<Item = f64>,
    ) -> TableRow {
        let floor = runs[Kind::Floor as usize].iter();
        let both = floor.zip(tls).map(|(floor, tls)| (floor.cpu + tls) * scale).collect();
        let row =
            TableRow::new("", format!("{load}; the floor and TLS alone in the place of pgpassport"), unit);
        row.everyone(&self.contestants, runs, |run| run.cpu * scale).of(Kind::Pgpassport, both)
    }
}

/// Time that each contestant adds to that of a direct connection.
fn added_latency(table: &mut ReportTable, load: &str, proxies: &[Kind], runs: &[Vec<LoadFigures>]) {
    for (name, of) in
        [("µs added at p50", (|run| run.p50) as fn(&LoadFigures) -> f64), ("µs added at p99", |run| run.p99)]
    {
        let direct = &runs[Kind::Direct as usize];
        let mut row = TableRow::new("4", load, name).of_medians();
        for kind in proxies {
            let beside = runs[*kind as usize].iter().zip(direct);
            row = row.of(*kind, beside.map(|(run, direct)| (of(run) - of(direct)) * 1e6).collect());
        }
        table.row(&row.share_at_most(0.80, Kind::Pgbouncer));
    }
}

/// Every contestant once a round, in an order that turns from round to round, so that what the machine does besides hits
/// all alike. The result is by contestant, then by round.
pub(crate) fn interleaved<R: Clone>(
    contestants: &[&Contestant],
    rounds: usize,
    load: impl Fn(&Contestant) -> R,
) -> Vec<Vec<R>> {
    let mut runs = vec![Vec::new(); contestants.len()];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let number = (round + turn) % contestants.len();
            runs[number].push(load(contestants[number]));
        }
    }
    runs
}

fn queries(bench: &SectionSetup, table: &mut ReportTable) {
    for clients in [1, 16, 64] {
        bench.query_rows(table, clients, bench.effort.rounds, "");
    }
}

fn busy(bench: &SectionSetup, table: &mut ReportTable) {
    let _busy = background::busy();
    let (clients, rounds) = bench.effort.busy;
    for clients in clients {
        bench.query_rows(table, *clients, rounds, ", busy machine");
    }
}

fn copy(bench: &SectionSetup, table: &mut ReportTable) {
    let mut legs = TlsLegs::new();
    for (rows, size) in [("small", "20-byte rows"), ("large", "1 MiB rows")] {
        let (file, bytes) = loads::rows(bench.one(Kind::Direct), rows, bench.folder());
        let out = bench.interleaved(bench.effort.rounds, |to| loads::copy_out(to, rows, bytes));
        let back = bench.interleaved(bench.effort.rounds, |to| loads::copy_in(to, &file, bytes));
        for (way, runs) in [("out", out), ("in", back)] {
            let load = format!("COPY {way}, {size}");
            let row = TableRow::new("5", &load, "s CPU a GB");
            let row = row.everyone(&bench.contestants, &runs, |run| run.cpu);
            table.row(&row.share_at_most(0.60, Kind::Pgbouncer).share_at_most(1.10, Kind::Haproxy));
            let tls = (0..bench.effort.rounds).map(|_| legs.a_gigabyte());
            table.row(&bench.floor_and_tls(&load, "s CPU a GB", 1.0, &runs, tls));
        }
        let _ = std::fs::remove_file(file);
    }
}

fn idle(bench: &SectionSetup, table: &mut ReportTable) {
    let quiet = QuietServer::start(bench.folder());
    for (count, rounds) in bench.effort.idle {
        let mut row = TableRow::new("6", format!("{count} idle sessions after activity"), "KiB a session");
        for kind in bench.ground.proxies(Engine::Postgres) {
            let runs =
                (0..*rounds).map(|_| watch_idle(bench, *kind, *count, &quiet.server, Duration::ZERO).kib);
            row = row.of(*kind, runs.collect());
        }
        table.row(&row.share_at_most(0.50, Kind::Pgbouncer).at_most(30.0));
    }
}

/// In a process of its own, which has no memory left over from before.
fn watch_idle(
    bench: &SectionSetup,
    kind: Kind,
    count: usize,
    server: &BenchServer,
    watched: Duration,
) -> IdleCost {
    let to = bench.ground.contestant(kind, server, StartOptions::default());
    sessions::idle(&to, count, watched)
}

fn logins(bench: &SectionSetup, table: &mut ReportTable) {
    let (seconds, folder) = (bench.effort.seconds, bench.folder());
    let load = "logins, 8 clients, nothing pooled by pgpassport";
    let runs = bench
        .interleaved(bench.effort.rounds, |to| loads::logins(to, 8, RunLength::Seconds(seconds), folder));
    let rate = TableRow::new("", load, "logins a second");
    table.row(&rate.everyone(&bench.contestants, &runs, |run| run.rate));
    let cpu = TableRow::new("8", load, "ms CPU a login");
    table.row(&cpu.everyone(&bench.contestants, &runs, |run| run.cpu * 1e3).at_most(1.2));

    let (load, rate) = ("logins, 8 clients, warm pools", "logins a second");
    let row = TableRow::new("7", load, rate).share_at_least(1.0, Kind::Pgbouncer);
    let pooled = StartOptions { more: POOL, ..StartOptions::default() };
    let pooled: Vec<_> = bench
        .ground
        .builds()
        .iter()
        .map(|kind| bench.ground.contestant(*kind, &bench.ground.server, pooled))
        .collect();
    let all: Vec<_> = [bench.one(Kind::Pgbouncer)].into_iter().chain(&pooled).collect();
    for to in &all {
        loads::logins(to, 8, RunLength::Seconds(1), folder); // warms it
    }
    let runs = interleaved(&all, bench.effort.rounds, |to| {
        loads::logins(to, 8, RunLength::Seconds(seconds), folder)
    });
    let figures = |of: fn(&LoadFigures) -> f64, row: TableRow| {
        all.iter().zip(&runs).fold(row, |row, (to, runs)| row.of(to.kind, runs.iter().map(of).collect()))
    };
    table.row(&figures(|run| run.rate, row));
    table.row(&figures(|run| run.cpu * 1e3, TableRow::new("", load, "ms CPU a login")));
}

fn far(bench: &SectionSetup, table: &mut ReportTable) {
    let logins = legs::measure(&bench.ground, bench.effort.far);
    let ms = |seconds: &[f64]| seconds.iter().map(|seconds| seconds * 1e3).collect::<Vec<_>>();
    let far = legs::FAR.as_millis();
    for (which, figures) in [
        ("STS and server near".to_owned(), &logins.near),
        (format!("STS {far} ms away"), &logins.sts_far),
        (format!("server {far} ms away"), &logins.server_far),
        (format!("both {far} ms away"), &logins.both_far),
    ] {
        let row = TableRow::new("", format!("cold login with a new token, {which}"), "ms");
        table.row(&row.of(Kind::Pgpassport, ms(figures)));
    }
    let alone = logins.sts_far.iter().zip(&logins.server_far).map(|(sts, server)| sts.max(*server));
    let added: Vec<f64> = logins.both_far.iter().zip(alone).map(|(both, alone)| both - alone).collect();
    let what = format!("cold login, both {far} ms away: more than with the slower one alone");
    table.row(&TableRow::new("9", what, "ms").of(Kind::Pgpassport, ms(&added)).at_most(10.0));
}

/// The machine has no core to spare for the load: with one core for sessions or with two, the proxy is not what the
/// load waits for. So what a session costs is measured with one thread and with two; what two cores can carry is that,
/// twice.
fn cores(bench: &SectionSetup, table: &mut ReportTable) {
    let what =
        "64 clients: what two cores carry, to one (2 × transactions a CPU second with two threads, to one)";
    let row = TableRow::new("10", what, "times").at_least(1.8);
    let [first, second, ..] = processors()[..] else {
        table.row(&row.not_measured("one processor"));
        return;
    };
    let on = |cores: String| {
        let special = StartOptions { before: &["taskset", "-c", &cores], ..StartOptions::default() };
        bench.ground.contestant(Kind::Pgpassport, &bench.ground.server, special)
    };
    let (one, two) = (on(format!("{first}")), on(format!("{first},{second}")));
    let load = |to: &Contestant| loads::queries(to, 64, bench.effort.seconds, bench.folder());
    let runs = interleaved(&[&one, &two], bench.effort.rounds, load);
    for (threads, runs) in ["one session thread", "two session threads"].iter().zip(&runs) {
        let cpu = runs.iter().map(|run| run.cpu * 1e6).collect();
        let row = TableRow::new("", format!("64 clients, {threads}"), "µs CPU a transaction");
        table.row(&row.of(Kind::Pgpassport, cpu));
    }
    let scaling = runs[0].iter().zip(&runs[1]).map(|(one, two)| 2.0 * one.cpu / two.cpu).collect();
    table.row(&row.of(Kind::Pgpassport, scaling));
}

fn beside_others(bench: &SectionSetup, table: &mut ReportTable) {
    let (BenchEffort { queries_each: count, bulk_mib, neighbours: rounds, .. }, folder) =
        (bench.effort, bench.folder());
    let contestants = [Kind::Direct, Kind::Haproxy, Kind::Pgbouncer, Kind::Pgpassport];
    let runs = interleaved(&contestants.map(|kind| bench.one(kind)), rounds, |to| {
        neighbours::measure(to, count, bulk_mib, folder)
    });
    let row = |row: TableRow, of: &dyn Fn(&neighbours::NeighbourLatency) -> f64| {
        contestants
            .iter()
            .zip(&runs)
            .fold(row, |row, (kind, runs)| row.of(*kind, runs.iter().map(of).collect()))
    };
    let what = "p99 of 100 clients with small queries";
    table.row(&row(TableRow::new("", what, "ms"), &|run| run.alone * 1e3));
    let slow = TableRow::new("11", format!("{what} beside a slow reader, to alone"), "times");
    table.row(&row(slow, &|run| run.beside_slow / run.alone).at_most(2.0));
    let bulk = TableRow::new("11", format!("{what} beside a result of 1 GiB, to alone"), "times");
    table.row(&row(bulk, &|run| run.beside_bulk / run.alone).at_most(2.0));
}

fn many_idle(bench: &SectionSetup, table: &mut ReportTable) {
    const WATCHED: Duration = Duration::from_secs(10);
    if !bench.effort.rare {
        return;
    }
    let quiet = QuietServer::start(bench.folder());
    for count in [1_000, 5_000] {
        let both = [Kind::Pgbouncer, Kind::Pgpassport];
        let runs = both.map(|kind| (kind, watch_idle(bench, kind, count, &quiet.server, WATCHED)));
        let what = format!("{count} idle sessions");
        let memory = TableRow::new("R23", &what, "KiB a session").at_most(64.0);
        table.row(&runs.iter().fold(memory, |row, (kind, idle)| row.of(*kind, vec![idle.kib])));
        let cpu = TableRow::new("R23", &what, "% of a processor").at_most(1.0);
        table.row(&runs.iter().fold(cpu, |row, (kind, idle)| row.of(*kind, vec![idle.percent])));
    }
}

fn many_logins(bench: &SectionSetup, table: &mut ReportTable) {
    const COUNT: usize = 1_000;
    if !bench.effort.rare {
        return;
    }
    let storm = |kind: Kind, each_its_own: bool| {
        // A process of its own: PgBouncer would keep a thousand connections of PostgreSQL's.
        let to = bench.ground.contestant(kind, &bench.ground.server, StartOptions::default());
        let way = LoginRoute::to(&to);
        let ways = (0..COUNT).map(|_| {
            let way = way.clone();
            if each_its_own { way.with_password(&bench.ground.token()) } else { way }
        });
        let storm = sessions::storm(ways.collect());
        drop(to);
        bench.ground.until_few_are_left();
        storm
    };
    let rows = |table: &mut ReportTable, what: &str, storms: Vec<(Kind, LoginStorm)>| {
        let row = |unit: &'static str, of: &dyn Fn(&LoginStorm) -> f64| {
            let row = TableRow::new("R24", what, unit);
            storms.iter().fold(row, |row, (kind, storm)| row.of(*kind, vec![of(storm)]))
        };
        table.row(&row("s until the last has an answer", &|storm| storm.whole).at_most(20.0));
        table.row(&row("s until an answer, p99", &|storm| percentile(&mut storm.times.clone(), 0.99)));
        table.row(&row("refused", &|storm| figure(storm.failed)).at_most(0.0));
    };
    let same = [Kind::Direct, Kind::Pgbouncer, Kind::Pgpassport].map(|kind| (kind, storm(kind, false)));
    rows(table, &format!("{COUNT} logins at the same time, one token"), same.into());
    let own = vec![(Kind::Pgpassport, storm(Kind::Pgpassport, true))];
    rows(table, &format!("{COUNT} logins at the same time, each with a new token"), own);
}

fn inside(bench: &SectionSetup, table: &mut ReportTable) {
    let costs = tokens::verification(bench.effort.rounds);
    for (number, kind) in ["RS256, 2,048 bits", "ES256"].iter().enumerate() {
        let row =
            TableRow::new("jwt", format!("verifying a token with keys that are there, {kind}"), "µs CPU");
        let row = row.at_most(100.0);
        table.row(&match &costs {
            None => row.not_measured("built without optimisation"),
            Some(costs) => row.of(Kind::Pgpassport, costs[number].iter().map(|cost| cost * 1e6).collect()),
        });
    }
    if !bench.effort.rare {
        return;
    }
    let folder = bench.folder();
    for (load, more) in [("a new connection", ""), ("warm pools", POOL)] {
        let mut row = TableRow::new("", format!("a login, {load} (callgrind)"), "instructions a login");
        for kind in bench.ground.builds() {
            let load = |to: &Contestant, count| {
                loads::logins(to, 1, RunLength::Transactions(count), folder);
            };
            let with = (&bench.ground.server, more);
            row =
                row.of(*kind, instructions::a_login(&bench.ground, *kind, with, load).into_iter().collect());
        }
        table.row(&row);
    }
    let mut row =
        TableRow::new("", "pgbench -S -M prepared, 1 client (callgrind)", "instructions a transaction");
    for kind in bench.ground.proxies(Engine::Postgres) {
        let load = |to: &Contestant, count| {
            loads::transactions(to, count);
        };
        let count = instructions::a_transaction(&bench.ground, *kind, &bench.ground.server, load);
        row = row.of(*kind, count.into_iter().collect());
    }
    table.row(&row);
}
