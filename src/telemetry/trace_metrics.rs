//! Metrics of traces: what becomes of them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::word_series::WordSeries;
use crate::words::word_enum;

word_enum! {
    /// Fate of the trace of a login.
    pub enum TraceFate {
        /// The collector accepted it.
        Sent = "sent",
        /// The queue was full, because the collector is away or slow.
        QueueFull = "queue_full",
        /// The collector could not be reached, or answered with an error.
        Failed = "failed",
        /// The collector did not accept it (`partialSuccess`).
        Rejected = "rejected",
    }
}

/// The trace series. A clone counts in the same series.
#[derive(Clone, Debug)]
pub struct TraceMetrics(WordSeries<TraceFate, Counter>);

impl TraceMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let help = "Traces of logins, by what became of them";
        Self(WordSeries::new(registry, "traces", help, ("fate", Counter::default)))
    }

    /// Counts traces.
    pub fn count(&self, fate: TraceFate, traces: u64) {
        self.0.of(fate).inc_by(traces);
    }
}
