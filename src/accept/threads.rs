//! Threads of the process: how many there are, and whether the system gives more.

use std::io;
use std::sync::Mutex;
use std::thread::{self, Builder, sleep};
use std::time::Duration;

/// Longest wait for ended threads to be gone from the system's count, in milliseconds.
const MAX_WAIT_MS: u32 = 100;

/// Threads of this process; 0 on a system that does not say (`proc_pid_status(5)`).
pub fn count() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Fails when the system does not give so many threads at the same time (`RLIMIT_NPROC`, `pids.max`). For libraries that
/// panic in that case.
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
    // A thread that has ended counts until the system has cleaned up behind it.
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
