//! What is known of the warm pool when somebody asks for metrics: logins it served, connections kept and closed.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A word from a closed list.
type Reason = [(&'static str, &'static str); 1];

/// How things are when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct PoolSnapshot {
    /// Logins that got a connection that was kept.
    pub hits: u64,
    /// Logins that did not.
    pub misses: u64,
    /// Connections that were kept.
    pub kept: u64,
    /// Connections that were closed instead, or later, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Connections that are idle.
    pub idle: usize,
}

/// The series.
#[derive(Debug, Default)]
pub(super) struct PoolMetrics {
    hits: Counter,
    misses: Counter,
    kept: Counter,
    closed: Family<Reason, Counter>,
    idle: Gauge,
}

impl PoolMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("pool_hits", "Logins that got a connection that was kept", self.hits.clone());
        registry.register("pool_misses", "Logins for which none was kept", self.misses.clone());
        registry.register("pool_kept", "Connections that were reset and kept", self.kept.clone());
        let help = "Connections that were not kept, or no longer, by reason";
        registry.register("pool_closed", help, self.closed.clone());
        registry.register("pool_idle", "Connections that are idle", self.idle.clone());
    }

    pub(super) fn set(&self, now: &PoolSnapshot) {
        self.hits.inner().store(now.hits, Ordering::Relaxed);
        self.misses.inner().store(now.misses, Ordering::Relaxed);
        self.kept.inner().store(now.kept, Ordering::Relaxed);
        for (reason, count) in &now.closed {
            self.closed.get_or_create(&[("reason", *reason)]).inner().store(*count, Ordering::Relaxed);
        }
        self.idle.set(i64::try_from(now.idle).unwrap_or(i64::MAX));
    }
}
