//! Metrics of the connection pool, set at each scrape: hits, misses, kept and closed connections.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label with a word from a closed list.
type Reason = [(&'static str, &'static str); 1];

/// State of the pool at a scrape.
#[derive(Clone, Debug, Default)]
pub struct PoolSnapshot {
    /// Logins that got a pooled connection.
    pub hits: u64,
    /// Logins that got a new connection.
    pub misses: u64,
    /// Connections returned to the pool.
    pub kept: u64,
    /// Connections closed instead of kept, or later, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Idle connections.
    pub idle: usize,
}

/// The pool series.
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
        registry.register("pool_hits", "Logins that got a pooled connection", self.hits.clone());
        registry.register("pool_misses", "Logins that got a new connection", self.misses.clone());
        registry.register("pool_kept", "Connections that were reset and kept", self.kept.clone());
        let help = "Connections closed instead of kept, or later, by reason";
        registry.register("pool_closed", help, self.closed.clone());
        registry.register("pool_idle", "Idle connections", self.idle.clone());
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
