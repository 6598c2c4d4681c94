//! Threads of the process: their number, and a probe for more.

use std::io;
use std::sync::Mutex;
use std::thread::{self, Builder, sleep};
use std::time::Duration;

/// Longest wait until ended threads have left the system's count, in milliseconds.
const MAX_WAIT_MS: u32 = 100;

/// Threads of this process; 0 if the system does not report it (`proc_pid_status(5)`).
pub fn count() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Fails if the system does not allow so many concurrent threads (`RLIMIT_NPROC`, `pids.max`). Used before
/// calling libraries that panic in that case.
pub fn probe(threads: usize) -> io::Result<()> {
    let before = count();
    let gate = Mutex::new(());
    let closed = gate.lock();
    let spawned = thread::scope(|scope| {
        let wait = || drop(gate.lock());
        let spawn = |_| Builder::new().spawn_scoped(scope, wait);
        let spawned = (0..threads).map(spawn).collect::<io::Result<Vec<_>>>().map(drop);
        drop(closed);
        spawned
    });
    // An ended thread counts until the system has removed it.
    for _ in 0..MAX_WAIT_MS {
        if count() <= before {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    spawned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_and_given_back() {
        assert!(count() > 0);
        probe(3).unwrap();
    }
}
