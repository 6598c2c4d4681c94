//! Metrics of reloads.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::ReloadResult;
use super::word_series::{WordSeries, registered};

/// The reload series. A clone counts in the same series.
#[derive(Clone, Debug)]
pub struct ReloadMetrics {
    reloads: WordSeries<ReloadResult, Counter>,
    last_applied: Gauge,
}

impl ReloadMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let help = "Reloads of the configuration, by outcome";
        let reloads = WordSeries::new(registry, "reloads", help, ("outcome", Counter::default));
        let help = "1 if the last reload was applied, also before the first";
        let last_applied = registered(registry, "config_last_reload_successful", help, Gauge::default());
        last_applied.set(1);
        Self { reloads, last_applied }
    }

    /// Counts a reload.
    pub fn reloaded(&self, applied: bool) {
        self.reloads.of(if applied { ReloadResult::Applied } else { ReloadResult::Refused }).inc();
        self.last_applied.set(i64::from(applied));
    }

    /// True if the last reload was applied, also before the first.
    pub fn last_was_applied(&self) -> bool {
        self.last_applied.get() == 1
    }
}
