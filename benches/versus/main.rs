//! `make bench`: pgpassport beside a direct connection, PgBouncer, HAProxy and the smallest relay there can be, in one
//! run on one machine, interleaved. CPU time per unit of work is the figure that counts: wall time says more about
//! what else the machine was doing. Nothing is asserted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for people"
)]

mod contestants;
mod idle;
mod loads;
mod measure;
mod report;

use std::path::Path;

use contestants::{Contestant, Ground};
use loads::Figures;
use report::Table;

/// How long and how often.
struct Effort {
    rounds: usize,
    seconds: u32,
    bulk_mib: usize,
    idle: Vec<usize>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let short = arguments.iter().any(|argument| argument == "--short");
    let only =
        arguments.iter().find_map(|argument| argument.strip_prefix("--only=")).unwrap_or("").to_owned();
    let write = arguments.iter().any(|argument| argument == "--write");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = root.join("target/release/pgpassport");
    assert!(binary.exists(), "{} is not there: run make release first", binary.display());
    let effort = if short {
        Effort { rounds: 3, seconds: 3, bulk_mib: 128, idle: vec![100] }
    } else {
        Effort { rounds: 7, seconds: 5, bulk_mib: 512, idle: vec![400] }
    };
    let text = run(root, &binary, &effort, &only);
    println!("{text}");
    if write {
        let file = root.join("docs/benchmarks.md");
        std::fs::write(&file, text).expect("docs/benchmarks.md");
    }
}

fn run(root: &Path, binary: &Path, effort: &Effort, only: &str) -> String {
    let ground = Ground::new();
    loads::prepare(&ground.database.postgres, effort.bulk_mib);
    let contestants = [
        ground.direct(),
        ground.floor(&root.join("benches/floor.c")),
        ground.haproxy(),
        ground.pgbouncer(),
        ground.pgpassport("pgpassport", binary, "", None),
    ];
    let mut table = Table::new(&contestants);
    let folder = ground.folder.path();
    for clients in [1, 16, 64] {
        let name = format!("pgbench -S -M prepared, {clients} client{}", if clients == 1 { "" } else { "s" });
        if !name.contains(only) {
            continue;
        }
        let runs =
            interleaved(&contestants, effort, |to| loads::queries(to, clients, effort.seconds, folder));
        table.cpu(&name, "µs CPU a transaction", 1e6, &runs);
        table.rate(&name, "transactions a second", &runs);
        if clients == 1 {
            table.added_latency(&name, &runs);
        }
    }
    for (rows, size) in [("small", "20-byte rows"), ("large", "1 MiB rows")] {
        if !format!("COPY {size}").contains(only) {
            continue;
        }
        let (file, bytes) = loads::rows(&contestants[0], rows, folder);
        let runs = interleaved(&contestants, effort, |to| loads::copy_out(to, rows, bytes));
        table.cpu(&format!("COPY out, {size}"), "s CPU a GB", 1.0, &runs);
        let runs = interleaved(&contestants, effort, |to| loads::copy_in(to, &file, bytes));
        table.cpu(&format!("COPY in, {size}"), "s CPU a GB", 1.0, &runs);
    }
    if "logins".contains(only) {
        let runs = interleaved(&contestants, effort, |to| loads::logins(to, 8, effort.seconds, folder));
        table.cpu("logins, 8 clients", "ms CPU a login", 1e3, &runs);
        table.rate("logins, 8 clients", "logins a second", &runs);
    }
    for count in effort.idle.iter().filter(|_| "idle".contains(only)) {
        let memory = |to: &Contestant| if to.pids.is_empty() { f64::NAN } else { idle::memory(to, *count) };
        let memory: Vec<f64> = contestants.iter().map(memory).collect();
        table.row(&format!("{count} idle sessions after activity"), "KiB a session", &memory, &[]);
    }
    table.finish()
}

/// Every contestant once a round, in an order that turns from round to round, so that what the machine does
/// besides hits all alike. `runs[contestant][round]`.
fn interleaved(
    contestants: &[Contestant],
    effort: &Effort,
    load: impl Fn(&Contestant) -> Figures,
) -> Vec<Vec<Figures>> {
    let mut runs = vec![Vec::new(); contestants.len()];
    for round in 0..effort.rounds {
        for turn in 0..contestants.len() {
            let number = (round + turn) % contestants.len();
            runs[number].push(load(&contestants[number]));
        }
    }
    runs
}
