//! The measurements on MySQL, section by section.

use std::rc::Rc;

use aws_emulator::{CloudMysql, MysqlEngine};

use crate::BenchEffort;
use crate::ground::{BenchGround, BenchServer, Contestant, Engine, Kind, StartOptions};
use crate::instructions;
use crate::loads::{LoadFigures, RunLength};
use crate::mysql_loads::{self, LargeRows};
use crate::report::{ReportTable, Section, TableRow};
use crate::sections::interleaved;

/// Share of MySQL Router's CPU time that is wanted.
const WANTED: f64 = 0.70;

/// Everything a section needs.
pub(crate) struct MysqlSetup {
    ground: Rc<BenchGround>,
    database: CloudMysql,
    server: BenchServer,
    contestants: Vec<Contestant>,
    effort: BenchEffort,
}

/// The sections.
pub(crate) const SECTIONS: [Section<MysqlSetup>; 5] = [
    ("mysql mysql-queries", queries),
    ("mysql mysql-results", results),
    ("mysql mysql-idle", idle),
    ("mysql mysql-logins", logins),
    ("mysql mysql-instructions", instructions),
];

impl MysqlSetup {
    /// Starts the server and the contestants at hand. `None` where MySQL is not.
    pub(crate) fn new(ground: Rc<BenchGround>, effort: BenchEffort) -> Option<Self> {
        if !MysqlEngine::Mysql.at_hand() {
            return None;
        }
        let change = |options: &mut aws_emulator::MysqlOptions| {
            let settings = [("max-connections", "4500"), ("innodb-buffer-pool-size", "128M")];
            options.settings.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        };
        let store = ground.database.gate.store().clone();
        let database = CloudMysql::start_with(store, MysqlEngine::Mysql, change).expect("MySQL");
        ground.cloud.add_mysql_role().expect("the role of the MySQL cluster");
        mysql_loads::prepare(&database.server);
        let folder = ground.folder.path().join("mysql-ca");
        std::fs::create_dir(&folder).expect("a folder");
        let ca_file = database.ca.write(&folder).expect("ca.pem");
        let server = BenchServer { engine: Engine::Mysql, addr: database.server.addr(), ca_file };
        let mut kinds = ground.kinds(Engine::Mysql).to_vec();
        if !ground.router_program().exists() {
            println!(
                "MySQL Router is not at hand: scripts/need-mysql-router unpacks it. It is not measured."
            );
            kinds.retain(|kind| *kind != Kind::Router);
        }
        let contestants = ground.contestants(&kinds, &server);
        Some(Self { ground, database, server, contestants, effort })
    }

    /// Version of the server.
    pub(crate) fn version(&self) -> String {
        self.database.server.sql("select version()")
    }

    fn interleaved<R: Clone>(&self, load: impl Fn(&Contestant) -> R) -> Vec<Vec<R>> {
        interleaved(&self.contestants.iter().collect::<Vec<_>>(), self.effort.rounds, load)
    }

    /// Contestants with a process.
    fn proxies(&self) -> impl Iterator<Item = Kind> {
        self.contestants.iter().filter(|contestant| !contestant.pids.is_empty()).map(|proxy| proxy.kind)
    }

    /// The same figure of everyone.
    fn row(
        &self,
        goal: &'static str,
        (load, unit): (&str, &'static str),
        runs: &[Vec<LoadFigures>],
        of: impl Fn(&LoadFigures) -> f64,
    ) -> TableRow {
        TableRow::new(goal, load, unit).everyone(&self.contestants, runs, of)
    }
}

fn queries(bench: &MysqlSetup, table: &mut ReportTable) {
    for clients in [1, 16, 64] {
        let length = RunLength::Seconds(bench.effort.seconds);
        let runs = bench.interleaved(|to| mysql_loads::queries(to, clients, length));
        let plural = if clients == 1 { "" } else { "s" };
        let load = format!("a row by its key, prepared, {clients} client{plural}");
        let unit = "µs CPU a transaction";
        let cpu = bench.row("M1", (&load, unit), &runs, |run| run.cpu * 1e6);
        table.row(&cpu.share_at_most(WANTED, Kind::Router));
        let kernel = format!("{load}, in the kernel");
        table.row(&bench.row("", (&kernel, unit), &runs, |run| run.kernel * 1e6));
        table.row(&bench.row("", (&load, "transactions a second"), &runs, |run| run.rate));
    }
}

fn results(bench: &MysqlSetup, table: &mut ReportTable) {
    for (rows, size) in [(LargeRows::Small, "20-byte rows"), (LargeRows::Large, "1 MiB rows")] {
        let runs = bench.interleaved(|to| mysql_loads::result(to, rows, bench.effort.bulk_mib));
        let load = format!("a large result, {size}");
        let cpu = bench.row("M1", (&load, "s CPU a GB"), &runs, |run| run.cpu);
        table.row(&cpu.share_at_most(WANTED, Kind::Router));
    }
}

fn idle(bench: &MysqlSetup, table: &mut ReportTable) {
    for (count, rounds) in bench.effort.idle {
        let mut row = TableRow::new("M2", format!("{count} idle sessions after activity"), "KiB a session");
        for kind in bench.proxies() {
            // In a process of its own, which has no memory left over from before.
            let run = |_| {
                let to = bench.ground.contestant(kind, &bench.server, StartOptions::default());
                mysql_loads::idle(&to, *count)
            };
            row = row.of(kind, (0..*rounds).map(run).collect());
        }
        table.row(&row.at_most(30.0));
    }
}

fn logins(bench: &MysqlSetup, table: &mut ReportTable) {
    let runs = bench.interleaved(|to| mysql_loads::logins(to, 8, bench.effort.seconds));
    let load = "logins, 8 clients, nothing pooled by pgpassport";
    table.row(&bench.row("", (load, "logins a second"), &runs, |run| run.rate));
    table.row(&bench.row("M3", (load, "ms CPU a login"), &runs, |run| run.cpu * 1e3).at_most(1.2));
}

fn instructions(bench: &MysqlSetup, table: &mut ReportTable) {
    if !bench.effort.rare {
        return;
    }
    let load = "a row by its key, prepared, 1 client (callgrind)";
    let mut row = TableRow::new("", load, "instructions a transaction");
    for kind in bench.proxies() {
        let load = |to: &Contestant, count| {
            mysql_loads::queries(to, 1, RunLength::Transactions(count));
        };
        let count = instructions::a_transaction(&bench.ground, kind, &bench.server, load);
        row = row.of(kind, count.into_iter().collect());
    }
    table.row(&row);
}
