//! Metrics of the HTTPS pages: ended connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{PageName, PageOutcome};
use super::word_series::registered;

/// The page series. A clone counts in the same series.
#[derive(Clone, Debug)]
pub struct PageMetrics(Family<[(&'static str, &'static str); 2], Counter>);

impl PageMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let help = "Ended connections of the HTTPS pages, by page and outcome";
        let metrics = Self(registered(registry, "page_connections", help, Family::default()));
        for (page, outcome) in
            PageName::ALL.into_iter().flat_map(|page| PageOutcome::ALL.map(|it| (page, it)))
        {
            drop(metrics.series(page, outcome));
        }
        metrics
    }

    /// Counts an ended connection of `page`.
    pub fn ended(&self, page: PageName, outcome: PageOutcome) {
        self.series(page, outcome).inc();
    }

    fn series(&self, page: PageName, outcome: PageOutcome) -> Counter {
        self.0.get_or_create_owned(&[("page", page.word()), ("outcome", outcome.word())])
    }
}
