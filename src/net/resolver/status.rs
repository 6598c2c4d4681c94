//! Counters of the resolver, for metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper bounds of the duration buckets in seconds; the last bucket has none.
const BOUNDS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// Snapshot of the resolver.
#[derive(Clone, Debug, Default)]
pub struct ResolverStatus {
    /// Lookups in progress, each on its own thread.
    pub in_flight: usize,
    /// Names waiting for a thread.
    pub queued: usize,
    /// Callers waiting for an answer.
    pub waiting: usize,
    /// Lookups that failed.
    pub failed: u64,
    /// Callers refused because the queue was full or no thread was available.
    pub refused: u64,
    /// Callers whose wait timed out.
    pub timed_out: u64,
    /// Durations of completed lookups.
    pub durations: LookupDurations,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct LookupDurations {
    /// Sum in seconds.
    pub sum: f64,
    /// Number of durations.
    pub count: u64,
    /// Upper bound of each bucket in seconds, and the number in that bucket alone.
    pub classes: Vec<(f64, u64)>,
}

/// The counters behind [`ResolverStatus`].
#[derive(Debug, Default)]
pub(super) struct LookupCounts {
    pub(super) waiting: AtomicUsize,
    pub(super) failed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) timed_out: AtomicU64,
    micros: AtomicU64,
    classes: [AtomicU64; BOUNDS.len() + 1],
}

impl LookupCounts {
    /// Counts a lookup of this duration.
    pub(super) fn took(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let class = BOUNDS.iter().take_while(|bound| seconds > **bound).count();
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn durations(&self) -> LookupDurations {
        let bounds = BOUNDS.into_iter().chain([f64::MAX]);
        let counts = self.classes.iter().map(|class| class.load(Ordering::Relaxed));
        let classes: Vec<_> = bounds.zip(counts).collect();
        LookupDurations {
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64(),
            count: classes.iter().map(|(_, count)| count).sum(),
            classes,
        }
    }
}

/// Guard that counts a caller as waiting.
pub(super) struct WaitingCaller<'a>(&'a AtomicUsize);

impl<'a> WaitingCaller<'a> {
    pub(super) fn begins(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
