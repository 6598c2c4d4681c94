//! Metrics in the text format of Prometheus. Label values come from closed lists and from names in the
//! configuration; no client-provided value, user, subject, database or address becomes a label. Every series
//! exists from the start, so that a first event is a step from 0 to 1. Each step counts with its own handle.

use std::sync::Mutex;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::aws_metrics::{AwsMetrics, AwsSnapshot};
use super::cluster_metrics::{ClusterMetrics, ClusterSnapshot, WorkSnapshot};
use super::connection_metrics::ConnectionMetrics;
use super::issuer_metrics::{IssuerMetrics, IssuerSnapshot};
use super::log_metrics::{LogMetrics, LogSnapshot};
use super::login_metrics::{LoginMetrics, SessionRoute};
use super::metrics_format::MetricsFormat;
use super::page_metrics::PageMetrics;
use super::pool_metrics::{PoolMetrics, PoolSnapshot};
use super::process_metrics::{ProcessMetrics, ProcessSnapshot};
use super::reload_metrics::ReloadMetrics;
use super::resolver_metrics::ResolverMetrics;
use super::task_metrics::TaskMetrics;
use super::trace_metrics::TraceMetrics;
use crate::net::resolver::ResolverStatus;
use crate::supervisor::TaskStatus;
use crate::sync::lock;

/// A label with a name from the configuration.
type Named = [(&'static str, String); 1];

/// The process's metrics: a handle for each group of steps that count, and the values that are set at a scrape.
#[derive(Debug)]
pub struct Metrics {
    /// Logins and sessions.
    pub logins: LoginMetrics,
    /// Connections from accept to end.
    pub connections: ConnectionMetrics,
    /// Reloads.
    pub reloads: ReloadMetrics,
    /// The HTTPS pages.
    pub pages: PageMetrics,
    /// Traces of logins.
    pub traces: TraceMetrics,
    registry: Registry,
    /// Metrics without the prefix.
    process: Registry,
    now: Mutex<ScrapedGauges>,
}

/// Gauges that are set at each scrape.
#[derive(Debug, Default)]
struct ScrapedGauges {
    active: Gauge,
    waiting: Gauge,
    max_clients: Gauge,
    ready: Gauge,
    issuers: IssuerMetrics,
    certificate_expiry: Family<Named, Gauge>,
    aws: AwsMetrics,
    pool: PoolMetrics,
    clusters: ClusterMetrics,
    resolver: ResolverMetrics,
    tasks: TaskMetrics,
    threads: Gauge,
    log: LogMetrics,
    process: ProcessMetrics,
}

/// State of the process at a scrape.
#[derive(Debug, Default)]
pub struct MetricsSnapshot {
    /// Welcomed sessions.
    pub active: usize,
    /// Connections with a permit and without a session.
    pub waiting: usize,
    /// `limits.max_client_conn`
    pub max_clients: usize,
    /// True if new clients are accepted.
    pub ready: bool,
    /// The issuers.
    pub issuers: Vec<IssuerSnapshot>,
    /// Name and certificate expiry (seconds since 1970) of each listener and page.
    pub certificates: Vec<(String, i64)>,
    /// STS, its cache, and login queues.
    pub aws: AwsSnapshot,
    /// The connection pool.
    pub pool: PoolSnapshot,
    /// DNS.
    pub resolver: ResolverStatus,
    /// Supervised tasks.
    pub tasks: Vec<TaskStatus>,
    /// Number of threads of the process.
    pub threads: usize,
    /// The log.
    pub log: LogSnapshot,
    /// Clusters and listeners of sessions.
    pub routes: Vec<SessionRoute>,
    /// Clusters that operators have closed, and the others.
    pub gates: Vec<ClusterSnapshot>,
    /// Work of sessions by cluster.
    pub work: Vec<WorkSnapshot>,
    /// CPU, memory, file descriptors.
    pub process: ProcessSnapshot,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("pgpassport");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of pgpassport", build);
        let logins = LoginMetrics::new(&mut registry);
        let connections = ConnectionMetrics::new(&mut registry);
        let reloads = ReloadMetrics::new(&mut registry);
        let pages = PageMetrics::new(&mut registry);
        let traces = TraceMetrics::new(&mut registry);
        let (now, mut process) = (ScrapedGauges::default(), Registry::default());
        now.register(&mut registry, &mut process);
        Self { logins, connections, reloads, pages, traces, registry, process, now: Mutex::new(now) }
    }

    /// All metrics in `format`.
    pub fn text(&self, now: MetricsSnapshot, format: MetricsFormat) -> Result<String, std::fmt::Error> {
        // Held until the text is complete, because concurrent scrapes must not clear each other's names.
        let gauges = lock(&self.now);
        self.logins.set_routes(&now.routes);
        gauges.set(now);
        let mut encoded = String::new();
        for registry in [&self.registry, &self.process] {
            match format {
                MetricsFormat::Prometheus => prometheus_text::encode(&mut encoded, registry)?,
                MetricsFormat::OpenMetrics => text::encode_registry(&mut encoded, registry)?,
            }
        }
        if format == MetricsFormat::OpenMetrics {
            text::encode_eof(&mut encoded)?;
        }
        Ok(encoded)
    }
}

impl ScrapedGauges {
    fn register(&self, registry: &mut Registry, process: &mut Registry) {
        registry.register("cl_active", "Sessions", self.active.clone());
        registry.register("cl_waiting", "Connections that are not yet sessions", self.waiting.clone());
        registry.register("max_client_conn", "limits.max_client_conn", self.max_clients.clone());
        registry.register("ready", "1 if /readyz answers 200", self.ready.clone());
        self.issuers.register(registry);
        let help = "Expiry of a listener's certificate, in seconds since 1970";
        registry.register("certificate_expiry_timestamp_seconds", help, self.certificate_expiry.clone());
        self.aws.register(registry);
        self.pool.register(registry);
        self.clusters.register(registry);
        self.resolver.register(registry);
        self.tasks.register(registry);
        registry.register("threads", "Threads of the process", self.threads.clone());
        self.log.register(registry);
        self.process.register(process);
    }

    fn set(&self, now: MetricsSnapshot) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.active.set(whole(now.active));
        self.waiting.set(whole(now.waiting));
        self.max_clients.set(whole(now.max_clients));
        self.ready.set(i64::from(now.ready));
        self.aws.set(&now.aws);
        self.pool.set(&now.pool);
        self.clusters.set(&now.gates);
        self.clusters.set_work(&now.work);
        self.issuers.set(&now.issuers);
        self.resolver.set(now.resolver);
        self.tasks.set(&now.tasks);
        self.threads.set(whole(now.threads));
        self.log.set(&now.log);
        self.process.set(now.process);
        // A reload can remove names.
        self.certificate_expiry.clear();
        for (name, expires) in now.certificates {
            self.certificate_expiry.get_or_create(&[("listener", name)]).set(expires);
        }
    }
}
