//! Metrics of logins and sessions: duration of a login and of each step, successes, refusals by SQLSTATE, live sessions
//! and their lengths. Labels with names of clusters and listeners come from the configuration.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::labels::{LoginResult, UpstreamStep};
pub use super::login_step::LoginStep;
use super::login_totals::{LoginTally, LoginTotals};
use super::word_series::{WordSeries, registered};
use crate::config::DatabaseProtocol;
use crate::refusal::Stage;
use crate::sync::lock;

/// Labels with a cluster's and a listener's name, and their protocol.
type Route = [(&'static str, String); 3];

/// Labels with a SQLSTATE and the listener's protocol.
type RefusalLabels = [(&'static str, &'static str); 2];

/// Upper bounds of the duration buckets of a login and its steps, in seconds.
const LOGIN_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds of the buckets of session lengths, in seconds: from a second to a day.
const LENGTH_BUCKETS: [f64; 10] = [0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

/// Upper bounds of the duration buckets of an [`UpstreamStep`], in seconds.
const UPSTREAM_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// SQLSTATEs of refusals of a protocol: those of the proxy's own conditions, and those of servers that drivers treat
/// alike.
fn sqlstates(protocol: DatabaseProtocol) -> &'static [&'static str] {
    match protocol {
        DatabaseProtocol::PostgreSql => &[
            "08P01", "0A000", "28000", "28P01", "3D000", "42501", "53300", "55000", "57014", "57P01",
            "57P02", "57P03", "XX000", OTHER,
        ],
        DatabaseProtocol::MySql => &["08004", "08S01", "28000", "HY000", OTHER],
    }
}

/// Every other code of a server.
const OTHER: &str = "other";

/// The series of logins and sessions. A clone counts in the same series.
#[derive(Clone, Debug)]
pub struct LoginMetrics {
    durations: WordSeries<LoginResult, Histogram>,
    steps: WordSeries<LoginStep, Histogram>,
    upstream_steps: WordSeries<UpstreamStep, Histogram>,
    refused: WordSeries<Stage, Counter>,
    sqlstates: Family<RefusalLabels, Counter>,
    failed: WordSeries<DatabaseProtocol, Counter>,
    internal: WordSeries<DatabaseProtocol, Counter>,
    logins: Family<Route, Counter>,
    sessions: Family<Route, Gauge>,
    lengths: Histogram,
    tally: Arc<LoginTally>,
    /// Routes of which series exist.
    routes: Arc<Mutex<BTreeSet<Route>>>,
}

/// The series of the sessions of one cluster through one listener.
#[derive(Debug)]
pub struct SessionSeries {
    logins: Counter,
    sessions: Gauge,
    durations: Histogram,
    lengths: Histogram,
    tally: Arc<LoginTally>,
}

/// A refused login.
#[derive(Clone, Copy, Debug)]
pub struct RefusedLogin<'a> {
    /// The listener's protocol.
    pub protocol: DatabaseProtocol,
    /// Stage that refused.
    pub stage: Stage,
    /// SQLSTATE that the client gets.
    pub sqlstate: &'a str,
    /// True if neither the person nor the client can change it.
    pub is_failure: bool,
    /// True if it is a fault of the proxy.
    pub is_internal: bool,
}

/// A cluster, and a listener through which its sessions can come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRoute {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the listener.
    pub listener: String,
    /// Protocol of both.
    pub protocol: DatabaseProtocol,
}

/// Live sessions of one cluster through one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSessions {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the listener.
    pub listener: String,
    /// Live sessions.
    pub sessions: u64,
    /// Logins since the start.
    pub logins: u64,
}

/// A live session in the metrics, until it is dropped.
#[derive(Debug)]
pub struct CountedSession {
    sessions: Gauge,
    lengths: Histogram,
    since: Instant,
}

impl LoginMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let help = "Durations of logins, from the accepted connection to the welcome or the refusal";
        let by_outcome: (_, fn() -> Histogram) = ("outcome", || Histogram::new(LOGIN_BUCKETS));
        let durations = WordSeries::new(registry, "login_seconds", help, by_outcome);
        let help =
            "Durations of the steps of logins, also of steps that fail; connect and sts run at the same time";
        let by_step: (_, fn() -> Histogram) = ("step", || Histogram::new(LOGIN_BUCKETS));
        let steps = WordSeries::new(registry, "login_step_seconds", help, by_step);
        let help = "Durations of the steps to a new database session: name, tcp, tls, login";
        let by_upstream_step: (_, fn() -> Histogram) = ("step", || Histogram::new(UPSTREAM_BUCKETS));
        let upstream_steps = WordSeries::new(registry, "upstream_step_seconds", help, by_upstream_step);
        let help = "Refused logins, by the step that refused";
        let refused = WordSeries::new(registry, "logins_refused", help, ("stage", Counter::default));
        let help = "Refused logins, by the SQLSTATE that the client gets";
        let sqlstates = registered(registry, "refusals", help, Family::default());
        for protocol in DatabaseProtocol::ALL {
            for sqlstate in self::sqlstates(protocol) {
                drop(sqlstates.get_or_create(&refusal_labels(protocol, sqlstate)));
            }
        }
        let help = "Refused logins that neither person nor client can change, by the listener's protocol";
        let failed = WordSeries::new(registry, "logins_failed", help, ("protocol", Counter::default));
        let help = "Logins refused by a fault of the proxy, by the listener's protocol";
        let internal = WordSeries::new(registry, "internal_errors", help, ("protocol", Counter::default));
        let help = "Logins that became sessions, counted when the session starts";
        let logins = registered(registry, "logins", help, Family::default());
        let help = "Lengths of ended sessions";
        let lengths = registered(registry, "session_seconds", help, Histogram::new(LENGTH_BUCKETS));
        Self {
            durations,
            steps,
            upstream_steps,
            refused,
            sqlstates,
            failed,
            internal,
            logins,
            sessions: registered(registry, "sessions", "Live sessions", Family::default()),
            lengths,
            tally: Arc::default(),
            routes: Arc::default(),
        }
    }

    /// Records the duration of one step.
    pub fn step(&self, step: LoginStep, duration: Duration) {
        self.tally.step(step, duration);
        self.steps.of(step).observe(duration.as_secs_f64());
    }

    /// Records the durations of the steps to a new session on a server.
    pub fn upstream_opened(&self, durations: [(UpstreamStep, Duration); UpstreamStep::ALL.len()]) {
        for (step, duration) in durations {
            self.upstream_steps.of(step).observe(duration.as_secs_f64());
        }
    }

    /// Counts a refused login.
    pub fn refused(&self, login: RefusedLogin<'_>, duration: Duration) {
        let RefusedLogin { protocol, stage, sqlstate, is_failure, is_internal } = login;
        self.tally.refused(is_failure);
        self.refused.of(stage).inc();
        if is_failure {
            self.failed.of(protocol).inc();
        }
        if is_internal {
            self.internal.of(protocol).inc();
        }
        let known = sqlstates(protocol).iter().find(|known| **known == sqlstate).copied().unwrap_or(OTHER);
        self.sqlstates.get_or_create(&refusal_labels(protocol, known)).inc();
        self.durations.of(LoginResult::Refused).observe(duration.as_secs_f64());
    }

    /// The series of the sessions of a cluster through a listener of its protocol.
    pub fn session_series(&self, route: &SessionRoute) -> SessionSeries {
        let route = route.labels();
        SessionSeries {
            logins: self.logins.get_or_create_owned(&route),
            sessions: self.sessions.get_or_create_owned(&route),
            durations: self.durations.of(LoginResult::Session),
            lengths: self.lengths.clone(),
            tally: Arc::clone(&self.tally),
        }
    }

    /// Counts of logins since the start.
    pub fn totals(&self) -> LoginTotals {
        self.tally.totals(Stage::ALL.map(|stage| (stage.word(), self.refused.of(stage).get())).to_vec())
    }

    /// Begins a new period of [`LoginTotals::slowest`].
    pub fn forget_slowest_steps(&self) {
        self.tally.forget_slowest();
    }

    /// Sessions by cluster and listener, of these routes and of others that have sessions.
    pub fn routes(&self, configured: &[SessionRoute]) -> Vec<RouteSessions> {
        self.set_routes(configured);
        let known = lock(&self.routes);
        let sessions = |route: &Route| {
            let [(_, cluster), (_, listener), _] = route.clone();
            RouteSessions {
                cluster,
                listener,
                sessions: u64::try_from(self.sessions.get_or_create(route).get()).unwrap_or(0),
                logins: self.logins.get_or_create(route).get(),
            }
        };
        known.iter().map(sessions).collect()
    }

    /// Creates the series of all configured routes, and removes those of routes that a reload has removed and that have
    /// no session.
    pub(super) fn set_routes(&self, configured: &[SessionRoute]) {
        let mut known = lock(&self.routes);
        let configured: HashSet<_> = configured.iter().map(SessionRoute::labels).collect();
        known.retain(|route| {
            let stays = configured.contains(route) || self.sessions.get_or_create(route).get() > 0;
            if !stays {
                self.sessions.remove(route);
                self.logins.remove(route);
            }
            stays
        });
        for route in configured {
            drop(self.sessions.get_or_create(&route));
            drop(self.logins.get_or_create(&route));
            known.insert(route);
        }
    }
}

impl SessionSeries {
    /// Counts a session that starts after a login of this duration.
    pub fn starts(&self, login: Duration) -> CountedSession {
        self.logins.inc();
        self.tally.logged_in();
        self.sessions.inc();
        self.durations.observe(login.as_secs_f64());
        CountedSession {
            sessions: self.sessions.clone(),
            lengths: self.lengths.clone(),
            since: Instant::now(),
        }
    }
}

impl Drop for CountedSession {
    fn drop(&mut self) {
        self.sessions.dec();
        self.lengths.observe(self.since.elapsed().as_secs_f64());
    }
}

impl SessionRoute {
    fn labels(&self) -> Route {
        let protocol = self.protocol.word().to_owned();
        [("cluster", self.cluster.clone()), ("listener", self.listener.clone()), ("protocol", protocol)]
    }
}

fn refusal_labels(protocol: DatabaseProtocol, sqlstate: &'static str) -> RefusalLabels {
    [("sqlstate", sqlstate), ("protocol", protocol.word())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(cluster: &str, listener: &str) -> SessionRoute {
        let protocol = DatabaseProtocol::PostgreSql;
        SessionRoute { cluster: cluster.to_owned(), listener: listener.to_owned(), protocol }
    }

    fn metrics() -> (LoginMetrics, Registry) {
        let mut registry = Registry::default();
        (LoginMetrics::new(&mut registry), registry)
    }

    fn encoded(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn series_of_removed_clusters_leave_with_their_last_session() {
        let (metrics, registry) = metrics();
        metrics.set_routes(&[route("old", "main"), route("kept", "main")]);
        let session = metrics.session_series(&route("old", "main")).starts(Duration::from_millis(3));
        metrics.set_routes(&[route("kept", "main"), route("kept", "new")]);
        let of = |cluster: &str, value: usize| {
            encoded(&registry).contains(&format!(
                "sessions{{cluster=\"{cluster}\",listener=\"main\",protocol=\"postgresql\"}} {value}\n"
            ))
        };
        assert!(of("old", 1) && of("kept", 0), "{}", encoded(&registry));
        assert!(
            encoded(&registry)
                .contains("sessions{cluster=\"kept\",listener=\"new\",protocol=\"postgresql\"} 0\n")
        );
        drop(session);
        metrics.set_routes(&[route("kept", "main")]);
        assert!(!encoded(&registry).contains("\"old\""), "{}", encoded(&registry));
        assert!(encoded(&registry).contains("session_seconds_count 1\n"));
    }

    #[test]
    fn codes_that_a_server_makes_up_share_one_series() {
        let (metrics, registry) = metrics();
        let series = encoded(&registry).lines().count();
        let refused = |protocol, sqlstate| {
            let is_failure = protocol == DatabaseProtocol::MySql;
            let login =
                RefusedLogin { protocol, stage: Stage::Token, sqlstate, is_failure, is_internal: false };
            metrics.refused(login, Duration::from_millis(30));
        };
        for sqlstate in ["28P01", "P0001", "ZZZZZ", "28P01\"", ""] {
            refused(DatabaseProtocol::PostgreSql, sqlstate);
        }
        for sqlstate in ["28000", "28P01"] {
            refused(DatabaseProtocol::MySql, sqlstate);
        }
        let text = encoded(&registry);
        assert_eq!(text.lines().count(), series);
        for (protocol, sqlstate, count) in [
            ("postgresql", "28P01", 1),
            ("postgresql", "other", 4),
            ("mysql", "28000", 1),
            ("mysql", "other", 1),
        ] {
            let line = format!("refusals_total{{sqlstate=\"{sqlstate}\",protocol=\"{protocol}\"}} {count}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
        assert!(text.contains("login_seconds_count{outcome=\"refused\"} 7\n"), "{text}");
        for line in [
            "logins_failed_total{protocol=\"mysql\"} 2\n",
            "logins_failed_total{protocol=\"postgresql\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!((metrics.totals().rejected, metrics.totals().failed), (5, 2));
    }
}
