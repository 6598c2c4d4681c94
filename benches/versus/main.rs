//! `make bench`: pgpassport beside a direct connection, PgBouncer or MySQL Router, HAProxy and the smallest relay there can
//! be, in one run on one machine, interleaved. CPU time per unit of work is the figure that counts: wall time says more about
//! what else the machine was doing. Nothing is asserted.
//!
//! `--short` for daily use, `--only=4,idle` for some sections, `--only=mysql` for those of MySQL, `--former=PATH` to compare with another build of
//! pgpassport, `--write` for `docs/benchmarks.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for people"
)]

mod background;
mod contestants;
mod ground;
mod instructions;
mod legs;
mod loads;
mod measure;
mod mysql_client;
mod mysql_loads;
mod mysql_sections;
mod neighbours;
mod page;
mod quiet_server;
mod report;
mod sections;
mod sessions;
mod tls_alone;
mod tokens;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use ground::{BenchGround, Engine, Kind};
use mysql_sections::MysqlSetup;
use page::Measured;
use report::{ReportTable, Section};
use sections::SectionSetup;

/// Duration and number of runs.
#[derive(Clone, Copy)]
pub(crate) struct BenchEffort {
    pub(crate) rounds: usize,
    /// Of one run of a load.
    pub(crate) seconds: u32,
    /// Size of each table for COPY.
    pub(crate) bulk_mib: usize,
    /// Clients, while the processors have other work too, and rounds of that.
    pub(crate) busy: (&'static [usize], usize),
    /// Idle sessions, and rounds of them.
    pub(crate) idle: &'static [(usize, usize)],
    /// Logins with a far STS or server, each way.
    pub(crate) far: usize,
    /// Rounds of small queries beside others.
    pub(crate) neighbours: usize,
    /// Number of them per client.
    pub(crate) queries_each: usize,
    /// Everything that is not asked daily.
    pub(crate) rare: bool,
}

const SHORT: BenchEffort = BenchEffort {
    rounds: 2,
    seconds: 2,
    bulk_mib: 64,
    busy: (&[16], 2),
    idle: &[(400, 1)],
    far: 8,
    neighbours: 1,
    queries_each: 100,
    rare: false,
};

const FULL: BenchEffort = BenchEffort {
    rounds: 11,
    seconds: 2,
    bulk_mib: 256,
    busy: (&[1, 16, 64], 7),
    idle: &[(400, 3), (4_000, 1)],
    far: 30,
    neighbours: 9,
    queries_each: 400,
    rare: true,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let effort = if has("--short") { SHORT } else { FULL };
    let only = arguments.iter().find_map(|argument| argument.strip_prefix("--only=")).unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of the repository");
    let binary = root.join("target/release/pgpassport");
    assert!(binary.exists(), "{} is not there: run make release first", binary.display());
    assert!(["", "mysql"].contains(&only) || !has("--write"), "--write is for all sections of an engine");
    // Sessions by the thousand; the contestants inherit it.
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit of file descriptors");
    let (machine, began) = (page::MachineFacts::now(), Instant::now());
    let former = arguments.iter().find_map(|argument| argument.strip_prefix("--former="));
    assert!(former.is_none() || !has("--write"), "--write is without another build");
    let ground = Rc::new(BenchGround::new(root.to_owned(), former.map(PathBuf::from)));
    let setup = || Some(SectionSetup::new(Rc::clone(&ground), effort));
    let postgres = measured(&sections::SECTIONS, only, ground.kinds(Engine::Postgres), setup);
    // The contestants end before others are measured.
    let postgres = postgres.map(|(_, table)| Measured::Postgres { table });
    let setup = || MysqlSetup::new(Rc::clone(&ground), effort);
    let mysql = measured(&mysql_sections::SECTIONS, only, ground.kinds(Engine::Mysql), setup);
    let mysql = mysql.map(|(bench, table)| Measured::Mysql { version: bench.version(), table });
    for engine in [postgres, mysql].into_iter().flatten() {
        let text = page::page(&ground, &machine, effort, &engine, began.elapsed());
        println!("{text}");
        if has("--write") {
            std::fs::write(root.join(engine.path()), text).expect("the page");
        }
    }
}

/// Runs the sections that `only` names, all of them if it is empty, and returns their table. `None` if it names none, or
/// without the server that they need.
fn measured<S>(
    sections: &[Section<S>],
    only: &str,
    kinds: &'static [Kind],
    setup: impl FnOnce() -> Option<S>,
) -> Option<(S, String)> {
    let asked = |name: &str| only.split(',').any(|only| name.split(' ').any(|word| word == only));
    let asked: Vec<_> = sections.iter().filter(|(name, _)| only.is_empty() || asked(name)).collect();
    if asked.is_empty() {
        return None;
    }
    let setup = setup()?;
    let mut table = ReportTable::new(kinds);
    for (_, section) in asked {
        section(&setup, &mut table);
    }
    Some((setup, table.finish()))
}
