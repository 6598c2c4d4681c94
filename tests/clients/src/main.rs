//! Runs real clients of PostgreSQL and MySQL, each in its own language, through the proxy, and writes down what each can do:
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
    /// Only clients of one protocol.
    #[arg(long, value_enum)]
    protocol: Option<MatrixProtocol>,
    /// Connect the clients to the server itself, with IAM tokens: what they can do without the proxy. Writes no page.
    #[arg(long)]
    direct: bool,
    /// The folder of the pages. The page of a protocol is written when all its clients are run and all do what they should.
    #[arg(long, value_name = "DIR")]
    pages: PathBuf,
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
    let matrices: Vec<Matrix> = MatrixProtocol::all(options.protocol)
        .iter()
        .map(|protocol| Matrix { protocol: *protocol, clients: chosen(*protocol, options) })
        .filter(|matrix| !matrix.clients.is_empty())
        .collect();
    if matrices.is_empty() {
        return Err(format!("no client is called {}", options.only.join(" or ")));
    }
    let way = if options.direct { "the server itself".into() } else { options.proxy.display().to_string() };
    say(&format!("{} clients through {way}", matrices.iter().map(|it| it.clients.len()).sum::<usize>()));
    let worlds = start_worlds(options, &matrices)?;
    let runs: Vec<ClientRun<'_>> = matrices
        .iter()
        .zip(&worlds)
        .flat_map(|(matrix, world)| matrix.clients.iter().map(move |client| ClientRun::of(world, client)))
        .collect();
    run_all(&runs, options.direct, &stop);
    if stop.load(Ordering::Relaxed) {
        return Err("interrupted".to_owned());
    }
    for matrix in &matrices {
        let rows: Vec<_> = runs.iter().filter(|run| run.world.protocol == matrix.protocol).collect();
        let all = rows.len() == matrix.protocol.clients().len() && !options.direct;
        if all && rows.iter().all(|run| run.report().failed() == 0) {
            write_page(options, matrix.protocol, &rows)?;
        }
    }
    let count = |which: fn(&MatrixReport) -> usize| runs.iter().map(|run| which(run.report())).sum::<usize>();
    let failed = count(MatrixReport::failed);
    say(&format!("All clients: {:.0} s.", began.elapsed().as_secs_f32()));
    say(&format!(
        "{} passed, {failed} failed, {} skipped",
        count(MatrixReport::passed),
        count(MatrixReport::absent)
    ));
    Ok(failed == 0)
}

/// The clients of one protocol that are to be run.
struct Matrix {
    protocol: MatrixProtocol,
    clients: Vec<&'static ClientProgram>,
}

/// A client with its database, and its report when it has ended.
struct ClientRun<'w> {
    world: &'w MatrixWorld,
    client: &'static ClientProgram,
    report: OnceLock<MatrixReport>,
}

impl<'w> ClientRun<'w> {
    fn of(world: &'w MatrixWorld, client: &'static ClientProgram) -> Self {
        Self { world, client, report: OnceLock::new() }
    }

    /// Its report; that of a client which was not run is empty.
    fn report(&self) -> &MatrixReport {
        self.report.get_or_init(|| MatrixReport::new(self.world.protocol))
    }
}

fn chosen(protocol: MatrixProtocol, options: &MatrixOptions) -> Vec<&'static ClientProgram> {
    let all = protocol.clients().iter();
    all.filter(|client| client.is_among(&options.only) && client.at_hand(&options.tools)).collect()
}

/// Starts the databases at the same time.
fn start_worlds(options: &MatrixOptions, matrices: &[Matrix]) -> Result<Vec<MatrixWorld>, String> {
    std::thread::scope(|scope| {
        let starting: Vec<_> = matrices
            .iter()
            .map(|matrix| scope.spawn(|| MatrixWorld::start(options, matrix.protocol)))
            .collect();
        let panicked = |_| Err("the start of a database panicked".to_owned());
        starting.into_iter().map(|world| world.join().unwrap_or_else(panicked)).collect()
    })
}

/// Runs as many clients at once as there are processors; without a proxy one, since a client's check ends the sessions of all.
fn run_all(runs: &[ClientRun<'_>], direct: bool, stop: &AtomicBool) {
    let next = AtomicUsize::new(0);
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = if direct { 1 } else { processors };
    std::thread::scope(|scope| {
        for _ in 0..workers.min(runs.len()) {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let report = run::run(run.world, run.client, stop);
                    let name = format!("{}: {}", run.world.protocol.label(), run.client.name);
                    say(&report.summary(&name, began.elapsed()));
                    let _ = run.report.set(report); // each has one worker
                }
            });
        }
    });
}

fn write_page(
    options: &MatrixOptions,
    protocol: MatrixProtocol,
    runs: &[&ClientRun<'_>],
) -> Result<(), String> {
    let rows: Vec<_> = runs.iter().map(|run| (run.client, run.report())).collect();
    let path = options.pages.join(protocol.page());
    std::fs::write(&path, table::page(protocol, &rows))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    say(&format!("{} is written", path.display()));
    Ok(())
}

/// Prints a line of progress.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
