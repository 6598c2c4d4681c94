//! The last hour of sessions and logins, sampled in memory for the status page. Bounded: one sample each
//! [`SAMPLE_INTERVAL`], at most [`MAX_SAMPLES`].

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;
use crate::telemetry::login_totals::LoginTotals;

/// Covered time.
pub(super) const COVERED: Duration = Duration::from_hours(1);

/// Time between two samples.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(15);

/// Samples of an hour, and the one before it.
const MAX_SAMPLES: usize = 241;

/// State of the service at one moment.
#[derive(Clone, Debug)]
pub(super) struct HistorySample {
    pub(super) at: Instant,
    pub(super) sessions: usize,
    pub(super) ready: bool,
    /// Counts since the start; the slowest steps are those since the sample before.
    pub(super) totals: LoginTotals,
}

/// The samples, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<HistorySample>>);

impl History {
    pub(super) fn record(&self, sample: HistorySample) {
        let mut samples = self.lock();
        if samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The samples of the last hour.
    pub(super) fn samples(&self) -> Vec<HistorySample> {
        let samples = self.lock();
        let recent = samples.iter().filter(|sample| sample.at.elapsed() <= COVERED + SAMPLE_INTERVAL);
        recent.cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<HistorySample>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn l6_a_day_is_no_longer_than_an_hour() {
        let history = History::default();
        for number in 0..5_760 {
            let at = Instant::now();
            history.record(HistorySample {
                at,
                sessions: number,
                ready: true,
                totals: LoginTotals::default(),
            });
            advance(SAMPLE_INTERVAL).await;
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples.last().unwrap().sessions), (MAX_SAMPLES, 5_759));
        assert!(samples[0].at.elapsed() >= COVERED);
        advance(COVERED).await;
        assert_eq!(history.samples().len(), 1, "a machine that slept shows no old samples");
    }
}
