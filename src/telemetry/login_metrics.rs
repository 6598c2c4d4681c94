//! Metrics of logins and sessions: duration of a login and of each step, successes, refusals by SQLSTATE, live sessions
//! and their lengths. Labels with names of clusters and listeners come from the configuration.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

pub use super::login_step::LoginStep;
use super::login_totals::{LoginTally, LoginTotals};

/// Label with a word from a closed list.
type Closed = [(&'static str, &'static str); 1];

/// Labels with a cluster's and a listener's name.
type Route = [(&'static str, String); 2];

type Histograms = Family<Closed, Histogram, fn() -> Histogram>;

/// Upper bounds of the duration buckets of a login and its steps, in seconds.
const LOGIN_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds of the buckets of session lengths, in seconds: from a second to a day.
const LENGTH_BUCKETS: [f64; 10] = [0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

/// SQLSTATEs of refusals: those of the proxy's own conditions, and those of servers that drivers treat alike.
const SQLSTATES: [&str; 14] = [
    "08P01", "0A000", "28000", "28P01", "3D000", "42501", "53300", "55000", "57014", "57P01", "57P02",
    "57P03", "XX000", OTHER,
];

/// Every other code of a server.
const OTHER: &str = "other";

/// The series of logins and sessions.
#[derive(Debug)]
pub(super) struct LoginMetrics {
    durations: Histograms,
    steps: Histograms,
    refusals: Family<Closed, Counter>,
    logins: Family<Route, Counter>,
    sessions: Family<Route, Gauge>,
    lengths: Histogram,
    tally: Arc<LoginTally>,
    /// Routes of which series exist.
    routes: Mutex<BTreeSet<Route>>,
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

impl Default for LoginMetrics {
    fn default() -> Self {
        let durations = || Histograms::new_with_constructor(|| Histogram::new(LOGIN_BUCKETS));
        let metrics = Self {
            durations: durations(),
            steps: durations(),
            refusals: Family::default(),
            logins: Family::default(),
            sessions: Family::default(),
            lengths: Histogram::new(LENGTH_BUCKETS),
            tally: Arc::default(),
            routes: Mutex::default(),
        };
        for outcome in ["session", "refused"] {
            drop(metrics.durations.get_or_create(&[("outcome", outcome)]));
        }
        for step in LoginStep::ALL {
            drop(metrics.steps.get_or_create(&[("step", step.word())]));
        }
        for sqlstate in SQLSTATES {
            drop(metrics.refusals.get_or_create(&[("sqlstate", sqlstate)]));
        }
        metrics
    }
}

impl LoginMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Durations of logins, from the accepted connection to the welcome or the refusal";
        registry.register("login_seconds", help, self.durations.clone());
        let help =
            "Durations of the steps of logins, also of steps that fail; connect and sts run at the same time";
        registry.register("login_step_seconds", help, self.steps.clone());
        let help = "Refused logins, by the SQLSTATE that the client gets";
        registry.register("refusals", help, self.refusals.clone());
        let help = "Logins that became sessions, counted when the session starts";
        registry.register("logins", help, self.logins.clone());
        registry.register("sessions", "Live sessions", self.sessions.clone());
        registry.register("session_seconds", "Lengths of ended sessions", self.lengths.clone());
    }

    /// Records the duration of one step.
    pub(super) fn step(&self, step: LoginStep, duration: Duration) {
        self.tally.step(step, duration);
        self.steps.get_or_create(&[("step", step.word())]).observe(duration.as_secs_f64());
    }

    /// Counts a refused login.
    pub(super) fn refused(&self, sqlstate: &str, duration: Duration) {
        self.tally.refused(sqlstate);
        let known = SQLSTATES.into_iter().find(|known| *known == sqlstate).unwrap_or(OTHER);
        self.refusals.get_or_create(&[("sqlstate", known)]).inc();
        self.durations.get_or_create(&[("outcome", "refused")]).observe(duration.as_secs_f64());
    }

    /// The series of a cluster and a listener.
    pub(super) fn series(&self, cluster: &str, listener: &str) -> SessionSeries {
        let route = route(cluster, listener);
        SessionSeries {
            logins: self.logins.get_or_create_owned(&route),
            sessions: self.sessions.get_or_create_owned(&route),
            durations: self.durations.get_or_create_owned(&[("outcome", "session")]),
            lengths: self.lengths.clone(),
            tally: Arc::clone(&self.tally),
        }
    }

    /// Counts since the start, with the refusals by step that are counted elsewhere.
    pub(super) fn totals(&self, refused: Vec<(&'static str, u64)>) -> LoginTotals {
        self.tally.totals(refused)
    }

    /// Begins a new period of the slowest steps.
    pub(super) fn forget_slowest(&self) {
        self.tally.forget_slowest();
    }

    /// Sessions by cluster and listener.
    pub(super) fn routes(&self) -> Vec<RouteSessions> {
        let known = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let sessions = |route: &Route| {
            let [(_, cluster), (_, listener)] = route.clone();
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
    pub(super) fn set_routes(&self, clusters: &[String], listeners: &[String]) {
        let mut known = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let configured: BTreeSet<_> = clusters
            .iter()
            .flat_map(|cluster| listeners.iter().map(move |listener| route(cluster, listener)))
            .collect();
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

fn route(cluster: &str, listener: &str) -> Route {
    [("cluster", cluster.to_owned()), ("listener", listener.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn text(metrics: &LoginMetrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn series_of_removed_clusters_leave_with_their_last_session() {
        let metrics = LoginMetrics::default();
        metrics.set_routes(&names(&["old", "kept"]), &names(&["main"]));
        let session = metrics.series("old", "main").starts(Duration::from_millis(3));
        metrics.set_routes(&names(&["kept"]), &names(&["main", "new"]));
        let of = |cluster: &str, value: usize| {
            text(&metrics).contains(&format!("sessions{{cluster=\"{cluster}\",listener=\"main\"}} {value}\n"))
        };
        assert!(of("old", 1) && of("kept", 0), "{}", text(&metrics));
        assert!(text(&metrics).contains("sessions{cluster=\"kept\",listener=\"new\"} 0\n"));
        drop(session);
        metrics.set_routes(&names(&["kept"]), &names(&["main"]));
        assert!(!text(&metrics).contains("\"old\""), "{}", text(&metrics));
        assert!(text(&metrics).contains("session_seconds_count 1\n"));
    }

    #[test]
    fn codes_that_a_server_makes_up_share_one_series() {
        let metrics = LoginMetrics::default();
        let series = text(&metrics).lines().count();
        for sqlstate in ["28P01", "P0001", "ZZZZZ", "28P01\"", ""] {
            metrics.refused(sqlstate, Duration::from_millis(30));
        }
        let text = text(&metrics);
        assert_eq!(text.lines().count(), series);
        assert!(text.contains("refusals_total{sqlstate=\"28P01\"} 1\n"), "{text}");
        assert!(text.contains("refusals_total{sqlstate=\"other\"} 4\n"), "{text}");
        assert!(text.contains("login_seconds_count{outcome=\"refused\"} 5\n"), "{text}");
    }
}
