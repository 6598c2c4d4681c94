//! Counts and durations of logins since the start, for the history of the status page. The histograms of
//! `login_metrics.rs` hold the same events in a form for Prometheus only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::login_step::LoginStep;

/// Number of steps.
const STEPS: usize = LoginStep::ALL.len();

/// Counts since the start at one moment.
#[derive(Clone, Debug, Default)]
pub struct LoginTotals {
    /// Logins that became sessions.
    pub logins: u64,
    /// Logins refused because of the token, the person, or the client.
    pub rejected: u64,
    /// Logins refused because of the database, AWS, an issuer, a limit, or the proxy.
    pub failed: u64,
    /// Refused logins by step.
    pub refused: Vec<(&'static str, u64)>,
    /// Number and whole duration of each of [`LoginStep::ALL`].
    pub steps: [(u64, Duration); STEPS],
    /// Longest of each step since the last [`LoginTally::forget_slowest`].
    pub slowest: [Duration; STEPS],
}

/// Running counts.
#[derive(Debug, Default)]
pub(super) struct LoginTally {
    logins: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    steps: [StepTally; STEPS],
}

#[derive(Debug, Default)]
struct StepTally {
    count: AtomicU64,
    micros: AtomicU64,
    slowest: AtomicU64,
}

impl LoginTally {
    pub(super) fn logged_in(&self) {
        self.logins.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, is_failure: bool) {
        let count = if is_failure { &self.failed } else { &self.rejected };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn step(&self, step: LoginStep, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some((_, tally)) = LoginStep::ALL.iter().zip(&self.steps).find(|(known, _)| **known == step) {
            tally.count.fetch_add(1, Ordering::Relaxed);
            tally.micros.fetch_add(micros, Ordering::Relaxed);
            tally.slowest.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// The counts now, with the refusals by step that are counted elsewhere.
    pub(super) fn totals(&self, refused: Vec<(&'static str, u64)>) -> LoginTotals {
        let whole = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let micros = |count: &AtomicU64| Duration::from_micros(whole(count));
        LoginTotals {
            logins: whole(&self.logins),
            rejected: whole(&self.rejected),
            failed: whole(&self.failed),
            refused,
            steps: self.steps.each_ref().map(|step| (whole(&step.count), micros(&step.micros))),
            slowest: self.steps.each_ref().map(|step| micros(&step.slowest)),
        }
    }

    /// Begins a new period of [`LoginTotals::slowest`].
    pub(super) fn forget_slowest(&self) {
        for step in &self.steps {
            step.slowest.store(0, Ordering::Relaxed);
        }
    }
}
