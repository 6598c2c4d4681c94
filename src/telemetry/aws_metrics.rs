//! AWS metrics, set at each scrape: STS attempts by outcome, breakers, clocks, cache, queues.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label with an STS endpoint's host, from the configuration.
type Host = [(&'static str, String); 1];

/// Labels with a host and a word from a closed list.
type HostAndOutcome = [(&'static str, String); 2];

/// AWS state at a scrape.
#[derive(Clone, Debug, Default)]
pub struct AwsSnapshot {
    /// STS endpoints; several at one host are added up.
    pub sts: Vec<StsSnapshot>,
    /// Logins answered from the cache of role credentials.
    pub cache_hits: u64,
    /// Entries of the cache.
    pub cache_entries: u64,
    /// Bytes of the cache that count toward its limit.
    pub cache_bytes: u64,
    /// Role credentials dropped because a server refused them.
    pub forgotten: u64,
    /// Logins waiting for their turn at a cluster.
    pub queued: usize,
}

/// State of an STS endpoint.
#[derive(Clone, Debug)]
pub struct StsSnapshot {
    /// Host of the endpoint.
    pub host: String,
    /// True while calls are paused.
    pub paused: bool,
    /// Attempts since start, by outcome.
    pub tries: Vec<(&'static str, u64)>,
    /// Seconds by which the local clock is ahead.
    pub clock_ahead: i64,
}

/// The AWS series.
#[derive(Debug, Default)]
pub(super) struct AwsMetrics {
    tries: Family<HostAndOutcome, Counter>,
    paused: Family<Host, Gauge>,
    clock_ahead: Family<Host, Gauge>,
    cache_hits: Counter,
    cache_entries: Gauge,
    cache_bytes: Gauge,
    forgotten: Counter,
    queued: Gauge,
}

impl AwsMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "STS call attempts, including calls not made, by outcome";
        registry.register("sts_tries", help, self.tries.clone());
        let help = "1 while calls to an STS endpoint are paused because the last ones failed";
        registry.register("sts_paused", help, self.paused.clone());
        let help = "Seconds by which this machine's clock is ahead of the clock of STS, by its last answer";
        registry.register("sts_clock_ahead_seconds", help, self.clock_ahead.clone());
        let help = "Logins answered from the role credentials cache";
        registry.register("sts_cache_hits", help, self.cache_hits.clone());
        let help = "Role credentials and refusals in the cache";
        registry.register("sts_cache_entries", help, self.cache_entries.clone());
        let help = "Bytes of the cache that count toward its limit of 64000000";
        registry.register("sts_cache_bytes", help, self.cache_bytes.clone());
        let help = "Role credentials dropped because a database refused them";
        registry.register("sts_credentials_forgotten", help, self.forgotten.clone());
        let help = "Logins waiting for their turn at a cluster";
        registry.register("logins_queued", help, self.queued.clone());
    }

    pub(super) fn set(&self, now: &AwsSnapshot) {
        // A reload can remove endpoints.
        self.tries.clear();
        self.paused.clear();
        self.clock_ahead.clear();
        for sts in &now.sts {
            let host = [("endpoint", sts.host.clone())];
            let paused = self.paused.get_or_create_owned(&host);
            paused.set(paused.get().max(i64::from(sts.paused)));
            self.clock_ahead.get_or_create(&host).set(sts.clock_ahead);
            for (outcome, count) in &sts.tries {
                let labels = [("endpoint", sts.host.clone()), ("outcome", (*outcome).to_owned())];
                self.tries.get_or_create(&labels).inc_by(*count);
            }
        }
        self.cache_hits.inner().store(now.cache_hits, Ordering::Relaxed);
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.cache_entries.set(whole(now.cache_entries));
        self.cache_bytes.set(whole(now.cache_bytes));
        self.forgotten.inner().store(now.forgotten, Ordering::Relaxed);
        self.queued.set(i64::try_from(now.queued).unwrap_or(i64::MAX));
    }
}
