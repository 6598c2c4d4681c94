//! Metrics in the text format of Prometheus. Label values come from closed lists and from names in the
//! configuration; no client-provided value, user, subject, database or address becomes a label. Every series
//! exists from the start, so that a first event is a step from 0 to 1.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::audit::SessionOutcome;
use super::aws_metrics::{AwsMetrics, AwsSnapshot};
use super::cluster_metrics::{ClusterMetrics, ClusterSnapshot};
use super::issuer_metrics::{IssuerMetrics, IssuerSnapshot};
use super::labels::{CANCELS, DROPPED, ENDS, OUTCOMES, STAGES};
use super::log_metrics::{LogMetrics, LogSnapshot};
use super::login_metrics::{LoginMetrics, LoginStep, RouteSessions, SessionSeries};
use super::login_totals::LoginTotals;
use super::metrics_format::MetricsFormat;
use super::page_metrics::PageMetrics;
use super::pool_metrics::{PoolMetrics, PoolSnapshot};
use super::process_metrics::{ProcessMetrics, ProcessSnapshot};
use super::resolver_metrics::ResolverMetrics;
use super::task_metrics::TaskMetrics;
use crate::net::resolver::ResolverStatus;
use crate::supervisor::TaskStatus;

/// Steps from DNS lookup to a session on the database, in order.
const UPSTREAM_STEPS: [&str; 4] = ["name", "tcp", "tls", "login"];

/// Upper bounds of the duration buckets of [`UPSTREAM_STEPS`], in seconds.
const STEP_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

const APPLIED: [(&str, &str); 1] = [("outcome", "applied")];
const REFUSED: [(&str, &str); 1] = [("outcome", "refused")];
const TO_SERVER: [(&str, &str); 1] = [("direction", "to_server")];
const TO_CLIENT: [(&str, &str); 1] = [("direction", "to_client")];

/// One label with a value from a closed list.
type Closed = [(&'static str, &'static str); 1];

/// One label with a name from the configuration.
type Named = [(&'static str, String); 1];

/// The process's metrics. Write-only for the rest of the program.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Metrics without the prefix.
    process: Registry,
    logins: LoginMetrics,
    connections: Family<Closed, Counter>,
    refused: Family<Closed, Counter>,
    cancels: Family<Closed, Counter>,
    ended: Family<Closed, Counter>,
    upstream_steps: Family<Closed, Histogram, fn() -> Histogram>,
    dropped: Family<Closed, Counter>,
    bytes: Family<Closed, Counter>,
    unheard: Counter,
    logins_evicted: Counter,
    accept_errors: Counter,
    reloads: Family<Closed, Counter>,
    reload_ok: Gauge,
    pages: PageMetrics,
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
    /// Name and certificate expiry (seconds since 1970) of each listener.
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
    /// Names of the clusters.
    pub clusters: Vec<String>,
    /// Clusters that operators have closed, and the others.
    pub gates: Vec<ClusterSnapshot>,
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
        let mut metrics = Self {
            registry: Registry::with_prefix("pgpassport"),
            process: Registry::default(),
            logins: LoginMetrics::default(),
            connections: closed("outcome", &OUTCOMES),
            refused: closed("stage", &STAGES),
            cancels: closed("outcome", &CANCELS),
            ended: closed("reason", &ENDS),
            upstream_steps: Family::new_with_constructor(|| Histogram::new(STEP_BUCKETS)),
            dropped: closed("reason", &DROPPED),
            bytes: closed("direction", &["to_server", "to_client"]),
            unheard: Counter::default(),
            logins_evicted: Counter::default(),
            accept_errors: Counter::default(),
            reloads: closed("outcome", &["applied", "refused"]),
            reload_ok: Gauge::default(),
            pages: PageMetrics::default(),
            now: Mutex::default(),
        };
        metrics.reload_ok.set(1);
        for step in UPSTREAM_STEPS {
            drop(metrics.upstream_steps.get_or_create(&[("step", step)]));
        }
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of pgpassport", build);
        self.logins.register(registry);
        registry.register("connections", "Ended connections, by outcome", self.connections.clone());
        registry.register("logins_refused", "Refused logins, by the step that refused", self.refused.clone());
        registry.register("sessions_ended", "Ended sessions, by reason", self.ended.clone());
        let help = "Connections that never spoke PostgreSQL, by reason";
        registry.register("connections_dropped", help, self.dropped.clone());
        registry.register("cancels", "Cancel requests, by outcome", self.cancels.clone());
        let help = "Durations of the steps to a new database session: name, tcp, tls, login";
        registry.register("upstream_step_seconds", help, self.upstream_steps.clone());
        let help = "Bytes of ended sessions, by direction";
        registry.register("relayed_bytes", help, self.bytes.clone());
        let help = "Connections closed without a refusal because the limit of refusals was reached";
        registry.register("closed_unheard", help, self.unheard.clone());
        let help = "Unauthenticated connections evicted for newer ones";
        registry.register("logins_evicted", help, self.logins_evicted.clone());
        let help = "Failures to accept a connection, for example because file descriptors ran out";
        registry.register("accept_errors", help, self.accept_errors.clone());
        registry.register("reloads", "Reloads of the configuration, by outcome", self.reloads.clone());
        let help = "1 if the last reload was applied, also before the first";
        registry.register("config_last_reload_successful", help, self.reload_ok.clone());
        self.pages.register(registry);
        let now = self.now.get_mut().unwrap_or_else(PoisonError::into_inner);
        registry.register("cl_active", "Sessions", now.active.clone());
        registry.register("cl_waiting", "Connections that are not yet sessions", now.waiting.clone());
        registry.register("max_client_conn", "limits.max_client_conn", now.max_clients.clone());
        registry.register("ready", "1 if /readyz answers 200", now.ready.clone());
        now.issuers.register(registry);
        let help = "Expiry of a listener's certificate, in seconds since 1970";
        registry.register("certificate_expiry_timestamp_seconds", help, now.certificate_expiry.clone());
        now.aws.register(registry);
        now.pool.register(registry);
        now.clusters.register(registry);
        now.resolver.register(registry);
        now.tasks.register(registry);
        registry.register("threads", "Threads of the process", now.threads.clone());
        now.log.register(registry);
        now.process.register(&mut self.process);
    }

    /// Counts an ended connection, its duration if it is a refused login, and its bytes to the server and to the client.
    pub fn connection_ended(
        &self,
        outcome: &SessionOutcome,
        duration: Duration,
        (to_server, to_client): (u64, u64),
    ) {
        if outcome.word == "refused" {
            self.logins.refused(outcome.sqlstate.as_deref().unwrap_or_default(), duration);
        }
        self.connections.get_or_create(&[("outcome", outcome.word)]).inc();
        match (outcome.word, outcome.stage, outcome.end) {
            ("refused", Some(stage), _) => self.refused.get_or_create(&[("stage", stage)]).inc(),
            ("cancel", _, Some(end)) => self.cancels.get_or_create(&[("outcome", end)]).inc(),
            ("dropped", _, Some(reason)) => self.dropped.get_or_create(&[("reason", reason)]).inc(),
            ("console", ..) => 0,
            (_, _, Some(reason)) => self.ended.get_or_create(&[("reason", reason)]).inc(),
            _ => 0,
        };
        self.bytes.get_or_create(&TO_SERVER).inc_by(to_server);
        self.bytes.get_or_create(&TO_CLIENT).inc_by(to_client);
    }

    /// Counts a connection that ended because of a panic.
    pub fn connection_aborted(&self) {
        self.connections.get_or_create(&[("outcome", "aborted")]).inc();
    }

    /// Records the duration of one step of a login.
    pub fn login_step(&self, step: LoginStep, duration: Duration) {
        self.logins.step(step, duration);
    }

    /// The series of the sessions of a cluster through a listener.
    pub fn session_series(&self, cluster: &str, listener: &str) -> SessionSeries {
        self.logins.series(cluster, listener)
    }

    /// Records the durations of [`UPSTREAM_STEPS`] of one login.
    pub fn upstream_opened(&self, durations: [Duration; 4]) {
        for (step, duration) in UPSTREAM_STEPS.into_iter().zip(durations) {
            self.upstream_steps.get_or_create(&[("step", step)]).observe(duration.as_secs_f64());
        }
    }

    /// Counts a connection that was closed without a refusal.
    pub fn closed_unheard(&self) {
        self.unheard.inc();
    }

    /// Counts an evicted connection.
    pub fn login_evicted(&self) {
        self.logins_evicted.inc();
    }

    /// Counts a failed accept.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    /// Counts an ended connection of an HTTPS page.
    pub fn page_connection_ended(&self, page: &'static str, outcome: &'static str) {
        self.pages.ended(page, outcome);
    }

    /// Counts a reload.
    pub fn reloaded(&self, applied: bool) {
        self.reloads.get_or_create(if applied { &APPLIED } else { &REFUSED }).inc();
        self.reload_ok.set(i64::from(applied));
    }

    /// Counts of logins since the start.
    pub fn login_totals(&self) -> LoginTotals {
        let refused = |stage| (stage, self.refused.get_or_create(&[("stage", stage)]).get());
        self.logins.totals(STAGES.map(refused).to_vec())
    }

    /// Begins a new period of [`LoginTotals::slowest`].
    pub fn forget_slowest_steps(&self) {
        self.logins.forget_slowest();
    }

    /// Sessions by cluster and listener, of these names and of others that have sessions.
    pub fn routes(&self, clusters: &[String], listeners: &[String]) -> Vec<RouteSessions> {
        self.logins.set_routes(clusters, listeners);
        self.logins.routes()
    }

    /// True if the last reload was applied, also before the first.
    pub fn last_reload_was_applied(&self) -> bool {
        self.reload_ok.get() == 1
    }

    /// All metrics in `format`.
    pub fn text(&self, now: MetricsSnapshot, format: MetricsFormat) -> Result<String, std::fmt::Error> {
        // Held until the text is complete, because concurrent scrapes must not clear each other's names.
        let gauges = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners: Vec<_> = now.certificates.iter().map(|(name, _)| name.clone()).collect();
        self.logins.set_routes(&now.clusters, &listeners);
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
    fn set(&self, now: MetricsSnapshot) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.active.set(whole(now.active));
        self.waiting.set(whole(now.waiting));
        self.max_clients.set(whole(now.max_clients));
        self.ready.set(i64::from(now.ready));
        self.aws.set(&now.aws);
        self.pool.set(&now.pool);
        self.clusters.set(&now.gates);
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

/// A family with one series per value.
fn closed(label: &'static str, values: &[&'static str]) -> Family<Closed, Counter> {
    let family = Family::<Closed, Counter>::default();
    for value in values {
        drop(family.get_or_create(&[(label, *value)]));
    }
    family
}
