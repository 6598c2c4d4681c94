//! Runs real clients of PostgreSQL or MySQL, each in its own language, through the proxy, and writes down what each can do:
//! changes when the run as a whole does.

mod clients;
mod database;
mod protocol;
mod report;
mod run;
mod table;
mod tokens;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aws_emulator::Interrupt;
use clap::Parser;

use crate::clients::ClientProgram;
use crate::protocol::MatrixProtocol;
use crate::report::MatrixReport;
use crate::world::MatrixWorld;

/// Runs real clients through pgpassport.
#[derive(Parser)]
struct MatrixOptions {
    /// The pgpassport binary.
    #[arg(long, value_name = "FILE")]
    proxy: PathBuf,
    /// The folder of this crate's client programs.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The folder in which scripts/need-clients put the drivers (below clients/) and libpq 18.
    #[arg(long, value_name = "DIR")]
    tools: PathBuf,
    /// Names of clients.
    #[arg(long, value_enum, default_value = "postgresql")]
    protocol: MatrixProtocol,
    /// Connect the clients to the server itself, with IAM tokens: what they can do without the proxy. Writes no page.
    #[arg(long)]
    direct: bool,
    /// The page to write, when all clients are run and all do what they should.
    #[arg(long, value_name = "FILE")]
    page: PathBuf,
    /// Only clients whose name begins with one of these words.
    #[arg(value_name = "CLIENT")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let options = MatrixOptions::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "client-matrix: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// True if every client passed its checks.
fn run(options: &MatrixOptions) -> Result<bool, String> {
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let (interrupt, stopping) = (Interrupt::listen()?, Arc::clone(&stop));
    std::thread::spawn(move || {
        interrupt.wait();
        stopping.store(true, Ordering::Relaxed);
    });
    let chosen: Vec<&ClientProgram> = options
        .protocol
        .clients()
        .iter()
        .filter(|client| client.is_among(&options.only) && client.at_hand(&options.tools))
        .collect();
    if chosen.is_empty() {
        return Err(format!("no client is called {}", options.only.join(" or ")));
    }
    let way = if options.direct { "the server itself".into() } else { options.proxy.display().to_string() };
    say(&format!("{} clients through {way}", chosen.len()));
    let world = MatrixWorld::start(options)?;
    let reports = run_all(&world, &chosen, &stop);
    if stop.load(Ordering::Relaxed) {
        return Err("interrupted".to_owned());
    }
    let count = |which: fn(&MatrixReport) -> usize| reports.iter().map(which).sum::<usize>();
    let failed = count(MatrixReport::failed);
    if options.only.is_empty()
        && failed == 0
        && !options.direct
        && chosen.len() == options.protocol.clients().len()
    {
        let rows: Vec<_> = chosen.iter().copied().zip(&reports).collect();
        std::fs::write(&options.page, table::page(options.protocol, &rows))
            .map_err(|error| format!("{}: {error}", options.page.display()))?;
        say(&format!("{} is written", options.page.display()));
    }
    say(&format!("All clients: {:.0} s.", began.elapsed().as_secs_f32()));
    say(&format!(
        "{} passed, {failed} failed, {} skipped",
        count(MatrixReport::passed),
        count(MatrixReport::absent)
    ));
    Ok(failed == 0)
}

/// Runs as many clients at once as there are processors; without a proxy one, since a client's check ends the sessions of all.
fn run_all(world: &MatrixWorld, clients: &[&ClientProgram], stop: &AtomicBool) -> Vec<MatrixReport> {
    let next = AtomicUsize::new(0);
    let reports: Vec<OnceLock<MatrixReport>> = clients.iter().map(|_| OnceLock::new()).collect();
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = if world.direct { 1 } else { processors };
    std::thread::scope(|scope| {
        for _ in 0..workers.min(clients.len()) {
            scope.spawn(|| {
                while let Some((client, slot)) = {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    clients.get(n).zip(reports.get(n))
                } {
                    let began = Instant::now();
                    let report = run::run(world, client, stop);
                    say(&report.summary(client.name, began.elapsed()));
                    let _ = slot.set(report); // each slot has one client
                }
            });
        }
    });
    let empty = || MatrixReport::new(world.protocol);
    reports.into_iter().map(|slot| slot.into_inner().unwrap_or_else(empty)).collect()
}

/// Prints a line of progress.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
