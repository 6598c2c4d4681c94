//! Metrics of the resolver: lookups in progress, waiting callers, failures, durations.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::net::resolver::{LookupDurations, ResolverStatus};
use crate::sync::lock;

/// The resolver series.
#[derive(Debug, Default)]
pub(super) struct ResolverMetrics {
    in_flight: Gauge,
    queued: Gauge,
    waiting: Gauge,
    failed: Counter,
    refused: Counter,
    timed_out: Counter,
    durations: DurationHistogram,
}

/// A histogram with counters elsewhere.
#[derive(Clone, Debug, Default)]
struct DurationHistogram(Arc<Mutex<LookupDurations>>);

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let durations = lock(&self.0);
        let LookupDurations { sum, count, classes } = &*durations;
        encoder.encode_histogram::<NoLabelSet>(*sum, *count, classes, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl ResolverMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "DNS lookups in progress, each on its own thread";
        registry.register("dns_lookups_in_flight", help, self.in_flight.clone());
        registry.register("dns_names_queued", "Names waiting for a DNS lookup thread", self.queued.clone());
        registry.register("dns_waiting", "Logins and fetches waiting for DNS", self.waiting.clone());
        registry.register("dns_lookups_failed", "DNS lookups that found no address", self.failed.clone());
        let help = "DNS lookups refused because the queue was full or no thread was available";
        registry.register("dns_refused", help, self.refused.clone());
        let help = "Waits for DNS that timed out";
        registry.register("dns_timed_out", help, self.timed_out.clone());
        let help = "Durations of completed DNS lookups";
        registry.register("dns_lookup_seconds", help, self.durations.clone());
    }

    pub(super) fn set(&self, now: ResolverStatus) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.in_flight.set(whole(now.in_flight));
        self.queued.set(whole(now.queued));
        self.waiting.set(whole(now.waiting));
        self.failed.inner().store(now.failed, Ordering::Relaxed);
        self.refused.inner().store(now.refused, Ordering::Relaxed);
        self.timed_out.inner().store(now.timed_out, Ordering::Relaxed);
        *lock(&self.durations.0) = now.durations;
    }
}
