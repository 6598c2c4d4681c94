//! Metrics of the HTTPS pages: ended connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Labels: the page, and the outcome of a connection.
type PageOutcome = [(&'static str, &'static str); 2];

/// Pages, as in the configuration.
const PAGES: [&str; 2] = ["profiles", "sign_in"];

/// Outcomes: one request was answered; the connection was closed for a newer one; TLS or HTTP failed, or a limit of time or
/// size was reached.
const OUTCOMES: [&str; 3] = ["answered", "evicted", "failed"];

/// The page series.
#[derive(Debug)]
pub(super) struct PageMetrics(Family<PageOutcome, Counter>);

impl Default for PageMetrics {
    fn default() -> Self {
        let family = Family::default();
        for page in PAGES {
            for outcome in OUTCOMES {
                drop(family.get_or_create(&labels(page, outcome)));
            }
        }
        Self(family)
    }
}

impl PageMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Ended connections of the HTTPS pages, by page and outcome";
        registry.register("page_connections", help, self.0.clone());
    }

    pub(super) fn ended(&self, page: &'static str, outcome: &'static str) {
        self.0.get_or_create(&labels(page, outcome)).inc();
    }
}

fn labels(page: &'static str, outcome: &'static str) -> PageOutcome {
    [("page", page), ("outcome", outcome)]
}
