//! Small queries beside one large result, and beside a client that hardly reads: what their 99th percentile becomes.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ground::{Contestant, RunningProgram};
use crate::loads::{RunLength, SMALL_QUERIES, client, pgbench};
use crate::measure::percentile;

/// Clients with small queries.
const CLIENTS: usize = 100;

/// The 99th percentile of small queries, seconds.
#[derive(Clone, Copy)]
pub(crate) struct NeighbourLatency {
    pub(crate) alone: f64,
    pub(crate) beside_bulk: f64,
    pub(crate) beside_slow: f64,
}

/// Measures small queries, `count` of each client, alone and beside each of the others. The large result is 1 GiB: the
/// table is read as often as it takes.
pub(crate) fn measure(to: &Contestant, count: usize, bulk_mib: usize, folder: &Path) -> NeighbourLatency {
    let small = || {
        let mut bench = pgbench(to, CLIENTS, RunLength::Transactions(count), &SMALL_QUERIES, Some(folder));
        percentile(&mut bench.times, 0.99)
    };
    let times = 1024 / bulk_mib;
    let large = format!("copy (select v from large, generate_series(1, {times})) to stdout");
    let alone = small();
    let bulk = ResultReader::start(to, &large, Duration::ZERO);
    let beside_bulk = small();
    drop(bulk);
    let slow = ResultReader::start(to, &large, Duration::from_millis(20));
    let beside_slow = small();
    drop(slow);
    NeighbourLatency { alone, beside_bulk, beside_slow }
}

/// Reads a result over and over until it is dropped, 64 KiB at a time, with a pause after each.
struct ResultReader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ResultReader {
    fn start(to: &Contestant, query: &str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut command = client("psql", to);
        command.args(["-X", "-q", "-c", query]).stderr(Stdio::null());
        if pause.is_zero() {
            command.stdout(Stdio::null()); // nobody's time is spent on reading it again
        }
        let stopped = Arc::clone(&stop);
        let mut child = command.spawn().expect("psql");
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while !stopped.load(Ordering::Relaxed) {
                let over = match child.stdout.take() {
                    None => wait_a_little(&mut child),
                    Some(mut output) => {
                        let over = output.read(&mut buffer).is_ok_and(|read| read == 0);
                        child.stdout = Some(output);
                        thread::sleep(pause);
                        over
                    }
                };
                if over {
                    let _ = child.wait();
                    child = command.spawn().expect("psql");
                }
            }
            drop(RunningProgram(child));
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for ResultReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// True if it has ended.
fn wait_a_little(child: &mut Child) -> bool {
    thread::sleep(Duration::from_millis(5));
    child.try_wait().is_ok_and(|status| status.is_some())
}
