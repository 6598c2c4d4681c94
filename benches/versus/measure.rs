//! CPU time and memory of a process, as the kernel counts them.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time of all threads of these processes, in seconds (`/proc/PID/task/TID/schedstat`, nanoseconds); no figure
/// where there is no process.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    if pids.is_empty() { f64::NAN } else { pids.iter().map(|pid| of_process(*pid)).sum() }
}

/// CPU time of these processes in the kernel, in seconds. It is sampled by the kernel's tick, so it says little of a
/// short run. No figure where there is no process.
pub(crate) fn kernel_seconds(pids: &[u32]) -> f64 {
    if pids.is_empty() { f64::NAN } else { pids.iter().map(|pid| in_kernel(*pid)).sum() }
}

fn in_kernel(pid: u32) -> f64 {
    /// Of `/proc`, on all of Linux (`USER_HZ`).
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // proc_pid_stat(5): stime is the 15th field; the second, which may hold anything, ends with the last bracket.
    let fields = stat.rsplit(") ").next().expect("fields");
    fields.split(' ').nth(12).and_then(|ticks| ticks.parse::<f64>().ok()).expect("stime") / TICKS_A_SECOND
}

/// CPU time of this thread, in seconds.
pub(crate) fn own_cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock");
    Duration::from(now).as_secs_f64()
}

fn of_process(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let nanoseconds = |thread: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(nanoseconds).sum::<f64>() / 1e9
}

/// Resident memory of these processes in KiB (`VmRSS`).
pub(crate) fn resident_kib(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("a number")
    };
    pids.iter().map(of).sum()
}

/// The processors that this process may use, by their numbers.
pub(crate) fn processors() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").expect("this process lives");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list");
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse().expect("a number")..=last.parse().expect("a number")
    };
    list.trim().split(',').flat_map(range).collect()
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near to 2^52")]
pub(crate) fn figure(count: usize) -> f64 {
    count as f64
}

/// The middle one of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The figure below which `share` of the others are.
pub(crate) fn percentile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = ((figures.len() as f64 - 1.0) * share).round() as usize;
    figures.get(at).copied().unwrap_or(f64::NAN)
}
