//! Instructions that a contestant spends in user space on one unit of work, counted by callgrind: a figure on which
//! nothing else that the machine does has any influence. What the kernel does is not in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ground::{BenchGround, BenchServer, Contestant, Kind, StartOptions};
use crate::measure::figure;

/// Two runs that differ in nothing but their length: what both have in common, such as start and login, goes out.
const TRANSACTIONS: [usize; 2] = [500, 2_500];
const LOGINS: [usize; 2] = [20, 120];

/// Instructions of one transaction of one client; `load` runs as many as it is told. `None` where the program does not
/// run under valgrind.
pub(crate) fn a_transaction(
    ground: &BenchGround,
    kind: Kind,
    server: &BenchServer,
    load: impl Fn(&Contestant, usize),
) -> Option<f64> {
    one_of(ground, (kind, server, ""), TRANSACTIONS, load)
}

/// Instructions of one login, with `more` of pgpassport's configuration.
pub(crate) fn a_login(
    ground: &BenchGround,
    kind: Kind,
    (server, more): (&BenchServer, &str),
    load: impl Fn(&Contestant, usize),
) -> Option<f64> {
    one_of(ground, (kind, server, more), LOGINS, load)
}

fn one_of(
    ground: &BenchGround,
    with: (Kind, &BenchServer, &str),
    counts: [usize; 2],
    load: impl Fn(&Contestant, usize),
) -> Option<f64> {
    let [few, many] = counts.map(|count| counted(ground, with, |to| load(to, count)));
    Some((many? - few?) / figure(counts[1] - counts[0]))
}

fn counted(
    ground: &BenchGround,
    (kind, server, more): (Kind, &BenchServer, &str),
    load: impl Fn(&Contestant),
) -> Option<f64> {
    let folder = ground.own_folder(kind);
    // PgBouncer writes there too, and not as root.
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).ok()?;
    let out = format!("--callgrind-out-file={}/out.%p", folder.display());
    let before = ["valgrind", "-q", "--trace-children=yes", "--tool=callgrind", &out];
    let mut to =
        ground.contestant(kind, server, StartOptions { before: &before, more, ..StartOptions::default() });
    load(&to);
    let mut running = to.running.take()?;
    let asked = Command::new("kill").arg("-TERM").arg(running.0.id().to_string()).status();
    asked.ok().filter(std::process::ExitStatus::success)?;
    running.0.wait().ok()?;
    instructions(&folder)
}

/// The sum of all files in `folder`, one for each process and thread.
fn instructions(folder: &Path) -> Option<f64> {
    let of_file = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
        line.trim().parse::<f64>().ok()
    };
    let counts: Vec<f64> =
        fs::read_dir(folder).ok()?.flatten().filter_map(|entry| of_file(&entry.path())).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}
