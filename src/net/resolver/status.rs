//! Counts of the resolver, for metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper bounds of the classes of durations, in seconds; the last class has none.
const BOUNDS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// The resolver at one moment.
#[derive(Clone, Debug, Default)]
pub struct ResolverStatus {
    /// Look-ups in progress, each on a thread of its own.
    pub in_flight: usize,
    /// Names that wait for a thread.
    pub queued: usize,
    /// Callers that wait for an answer.
    pub waiting: usize,
    /// Look-ups that failed.
    pub failed: u64,
    /// Callers that were refused because the queue was full or there was no thread.
    pub refused: u64,
    /// Callers whose wait ended without an answer.
    pub timed_out: u64,
    /// Durations of look-ups that have ended.
    pub durations: LookupDurations,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct LookupDurations {
    /// Their sum in seconds.
    pub sum: f64,
    /// Their number.
    pub count: u64,
    /// Upper bound of each class in seconds, and the number in that class alone.
    pub classes: Vec<(f64, u64)>,
}

/// The counts behind [`ResolverStatus`].
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
    /// Counts a look-up that took this long.
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

/// Counts a caller as waiting until it is dropped.
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
