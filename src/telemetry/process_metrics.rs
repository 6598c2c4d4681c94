//! Metrics of the process under the names that client libraries of Prometheus share: CPU, memory, file descriptors, start.
//! A value that the system does not report is 0.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rlimit::Resource;

type Seconds = Gauge<f64, AtomicU64>;

/// Ticks of a second in `/proc/<pid>/stat`. Linux fixes the unit for programs, whatever the kernel uses itself.
const TICKS: f64 = 100.0;

/// State of the process at a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessSnapshot {
    /// CPU time of all threads, in user and system mode.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Virtual memory, in bytes.
    pub virtual_memory: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// Most open file descriptors.
    pub max_files: u64,
}

/// The process series.
#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    virtual_memory: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    start: Seconds,
}

impl ProcessSnapshot {
    /// Reads the state now.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"));
            line.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
        };
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
        Self {
            cpu: cpu.unwrap_or_default(),
            resident: bytes("VmRSS:"),
            virtual_memory: bytes("VmSize:"),
            open_files: open_files(),
            max_files: Resource::NOFILE.get().map_or(0, |(soft, _)| soft),
        }
    }
}

/// Number of open file descriptors. Linux 6.2 and later report it as the size of the folder; earlier ones list it.
fn open_files() -> u64 {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).map_or(0, |folder| folder.len()) {
        0 => fs::read_dir(folder).map_or(0, |entries| u64::try_from(entries.count()).unwrap_or(u64::MAX)),
        count => count,
    }
}

/// Start of the process, in seconds since 1970 (`proc_pid_stat(5)`, field 22, and `btime` of `proc_stat(5)`).
fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may contain spaces; field 3 follows it.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / TICKS)
}

impl ProcessMetrics {
    /// Registers in a registry without prefix.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.start.set(started().unwrap_or(0.0));
        let help = "CPU time of the process in user and system mode, in seconds";
        registry.register("process_cpu_seconds", help, self.cpu.clone());
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory, in bytes",
            self.resident.clone(),
        );
        let help = "Virtual memory, in bytes";
        registry.register("process_virtual_memory_bytes", help, self.virtual_memory.clone());
        registry.register("process_open_fds", "Open file descriptors", self.open_files.clone());
        registry.register("process_max_fds", "Most open file descriptors", self.max_files.clone());
        let help = "Start of the process, in seconds since 1970";
        registry.register("process_start_time_seconds", help, self.start.clone());
    }

    pub(super) fn set(&self, now: ProcessSnapshot) {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.cpu.inner().store(now.cpu.as_secs_f64().to_bits(), Ordering::Relaxed);
        self.resident.set(whole(now.resident));
        self.virtual_memory.set(whole(now.virtual_memory));
        self.open_files.set(whole(now.open_files));
        self.max_files.set(whole(now.max_files));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_that_of_this_process() {
        let before = ProcessSnapshot::read();
        let opened: Vec<_> = (0..5).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let memory = vec![1_u8; 32 << 20];
        let after = ProcessSnapshot::read();
        assert!(after.open_files >= 5 && after.open_files <= after.max_files, "{after:?}");
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(after.resident > 32 << 20 && after.virtual_memory >= after.resident, "{after:?}");
        drop((opened, memory));
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(started().unwrap() > 1.7e9 && uptime > 0.0, "{:?}", started());
    }
}
