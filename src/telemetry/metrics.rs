//! What is counted, in the text that Prometheus reads. Labels take their values from closed lists and from names of
//! the configuration; nothing a client sends, no user, subject, database or address becomes one. Every series is
//! there from the start, so that the first event is a step from 0 to 1 and not an absence.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::audit::SessionOutcome;
use super::aws_metrics::{AwsMetrics, AwsSnapshot};
use super::issuer_metrics::{IssuerMetrics, IssuerSnapshot};
use super::log_metrics::{LogMetrics, LogSnapshot};
use super::pool_metrics::{PoolMetrics, PoolSnapshot};
use super::resolver_metrics::ResolverMetrics;
use super::task_metrics::TaskMetrics;
use crate::net::resolver::ResolverStatus;
use crate::supervisor::TaskStatus;

/// How connections end: [`SessionOutcome::word`].
const OUTCOMES: [&str; 9] =
    ["session", "refused", "cancel", "no_token", "discovery", "dropped", "health_check", "lost", "aborted"];

/// Where logins are refused: the words of `refusal::Stage`.
const STAGES: [&str; 13] = [
    "startup",
    "token",
    "keys",
    "authorization",
    "sts",
    "signing",
    "upstream_name",
    "upstream_connect",
    "upstream_tls",
    "upstream_login",
    "limits",
    "audit",
    "session",
];

/// How sessions end: [`SessionOutcome::end`] of a session.
const ENDS: [&str; 11] = [
    "client_left",
    "client_lost",
    "server_ended",
    "server_lost",
    "idle",
    "idle_in_transaction",
    "lifetime",
    "token_expired",
    "withdrawn",
    "drained",
    "stopped",
];

/// Why connections are dropped: [`SessionOutcome::end`] of one that never spoke PostgreSQL.
const DROPPED: [&str; 12] = [
    "silent",
    "proxy_header",
    "junk",
    "pre_tls_bytes",
    "repeated",
    "tls",
    "tls_timeout",
    "timeout",
    "no_alpn",
    "crowded",
    "evicted",
    "io",
];

/// What becomes of cancels: [`SessionOutcome::end`] of a cancel.
const CANCELS: [&str; 3] = ["forwarded", "ignored", "failed"];

/// Steps from the database's name to a session on it, in their order.
const UPSTREAM_STEPS: [&str; 4] = ["name", "tcp", "tls", "login"];

/// Upper bounds of the classes of [`UPSTREAM_STEPS`]' durations, in seconds.
const STEP_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

const APPLIED: [(&str, &str); 1] = [("outcome", "applied")];
const REFUSED: [(&str, &str); 1] = [("outcome", "refused")];
const TO_SERVER: [(&str, &str); 1] = [("direction", "to_server")];
const TO_CLIENT: [(&str, &str); 1] = [("direction", "to_client")];

/// One label with a value from a closed list.
type Closed = [(&'static str, &'static str); 1];

/// One label with a name from the configuration.
type Named = [(&'static str, String); 1];

/// The program writes here and never reads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
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
    now: Mutex<ScrapedGauges>,
}

/// What is looked up when somebody asks.
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
    resolver: ResolverMetrics,
    tasks: TaskMetrics,
    threads: Gauge,
    log: LogMetrics,
}

/// How things are when somebody asks.
#[derive(Debug, Default)]
pub struct MetricsSnapshot {
    /// Sessions that have been welcomed.
    pub active: usize,
    /// Connections that have a seat and no session yet.
    pub waiting: usize,
    /// `limits.max_client_conn`
    pub max_clients: usize,
    /// Whether new clients should come.
    pub ready: bool,
    /// The issuers.
    pub issuers: Vec<IssuerSnapshot>,
    /// Of each listener: its configured name, and when its certificate expires, in seconds since 1970.
    pub certificates: Vec<(String, i64)>,
    /// STS and what waits for AWS.
    pub aws: AwsSnapshot,
    /// The warm pool.
    pub pool: PoolSnapshot,
    /// DNS.
    pub resolver: ResolverStatus,
    /// The tasks that live as long as the process.
    pub tasks: Vec<TaskStatus>,
    /// Threads of the process.
    pub threads: usize,
    /// The log.
    pub log: LogSnapshot,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counts at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("pgpassport"),
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
        registry.register("connections", "Connections that have ended, by outcome", self.connections.clone());
        registry.register("logins_refused", "Refused logins, by the step that refused", self.refused.clone());
        registry.register("sessions_ended", "Sessions that have ended, by reason", self.ended.clone());
        let help = "Connections that never spoke PostgreSQL, by reason";
        registry.register("connections_dropped", help, self.dropped.clone());
        registry.register("cancels", "Cancel requests, by outcome", self.cancels.clone());
        let help = "Durations of the steps to a new session on a database: name, tcp, tls, login";
        registry.register("upstream_step_seconds", help, self.upstream_steps.clone());
        let help = "Bytes of ended sessions, by direction";
        registry.register("relayed_bytes", help, self.bytes.clone());
        let help = "Connections closed without a word, because even refusals had reached their limit";
        registry.register("closed_unheard", help, self.unheard.clone());
        let help = "Connections without a good token that have made room for others";
        registry.register("logins_evicted", help, self.logins_evicted.clone());
        let help = "Failures to accept a connection, for example for want of file descriptors";
        registry.register("accept_errors", help, self.accept_errors.clone());
        registry.register("reloads", "Reloads of the configuration, by outcome", self.reloads.clone());
        let help = "Whether the last reload was applied; 1 before the first";
        registry.register("config_last_reload_successful", help, self.reload_ok.clone());
        let now = self.now.get_mut().unwrap_or_else(PoisonError::into_inner);
        registry.register("cl_active", "Sessions", now.active.clone());
        registry.register("cl_waiting", "Connections that are not sessions yet", now.waiting.clone());
        registry.register("max_client_conn", "limits.max_client_conn", now.max_clients.clone());
        registry.register("ready", "Whether /readyz says yes", now.ready.clone());
        now.issuers.register(registry);
        let help = "When a listener's certificate expires, in seconds since 1970";
        registry.register("certificate_expiry_timestamp_seconds", help, now.certificate_expiry.clone());
        now.aws.register(registry);
        now.pool.register(registry);
        now.resolver.register(registry);
        now.tasks.register(registry);
        registry.register("threads", "Threads of the process", now.threads.clone());
        now.log.register(registry);
    }

    /// Counts a connection that has ended, with the bytes it carried to the server and to the client.
    pub fn connection_ended(&self, outcome: &SessionOutcome, to_server: u64, to_client: u64) {
        self.connections.get_or_create(&[("outcome", outcome.word)]).inc();
        match (outcome.word, outcome.stage, outcome.end) {
            ("refused", Some(stage), _) => self.refused.get_or_create(&[("stage", stage)]).inc(),
            ("cancel", _, Some(end)) => self.cancels.get_or_create(&[("outcome", end)]).inc(),
            ("dropped", _, Some(reason)) => self.dropped.get_or_create(&[("reason", reason)]).inc(),
            (_, _, Some(reason)) => self.ended.get_or_create(&[("reason", reason)]).inc(),
            _ => 0,
        };
        self.bytes.get_or_create(&TO_SERVER).inc_by(to_server);
        self.bytes.get_or_create(&TO_CLIENT).inc_by(to_client);
    }

    /// Counts a connection that a fault of ours has ended.
    pub fn connection_aborted(&self) {
        self.connections.get_or_create(&[("outcome", "aborted")]).inc();
    }

    /// Notes the durations of [`UPSTREAM_STEPS`] of one login.
    pub fn upstream_opened(&self, durations: [Duration; 4]) {
        for (step, duration) in UPSTREAM_STEPS.into_iter().zip(durations) {
            self.upstream_steps.get_or_create(&[("step", step)]).observe(duration.as_secs_f64());
        }
    }

    /// Counts a connection that was closed without a word.
    pub fn closed_unheard(&self) {
        self.unheard.inc();
    }

    /// Counts a connection that has made room for another.
    pub fn login_evicted(&self) {
        self.logins_evicted.inc();
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    /// Counts a reload.
    pub fn reloaded(&self, applied: bool) {
        self.reloads.get_or_create(if applied { &APPLIED } else { &REFUSED }).inc();
        self.reload_ok.set(i64::from(applied));
    }

    /// Everything, in the text format of `OpenMetrics` 1.0.
    pub fn text(&self, now: MetricsSnapshot) -> Result<String, std::fmt::Error> {
        // Held until the text is made: two who ask at once must not clear each other's names.
        let gauges = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.set(now);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
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
        self.issuers.set(&now.issuers);
        self.resolver.set(now.resolver);
        self.tasks.set(&now.tasks);
        self.threads.set(whole(now.threads));
        self.log.set(&now.log);
        // A reload can take names away.
        self.certificate_expiry.clear();
        for (name, expires) in now.certificates {
            self.certificate_expiry.get_or_create(&[("listener", name)]).set(expires);
        }
    }
}

/// A family with a series for each of `values`.
fn closed(label: &'static str, values: &[&'static str]) -> Family<Closed, Counter> {
    let family = Family::<Closed, Counter>::default();
    for value in values {
        drop(family.get_or_create(&[(label, *value)]));
    }
    family
}
