//! State of the process that the status page shows.

use std::time::Duration;

use tokio::time::Instant;

use super::history::HistorySample;
use crate::telemetry::login_metrics::RouteSessions;
use crate::telemetry::metrics::MetricsSnapshot;

/// Everything that the page shows.
#[derive(Debug)]
pub(super) struct StatusView {
    pub(super) now: Instant,
    /// Wall clock, in seconds since 1970.
    pub(super) unix_seconds: i64,
    pub(super) uptime: Duration,
    /// The reason why new clients are not accepted, if they are not.
    pub(super) ready: Result<(), &'static str>,
    /// Faults of tasks.
    pub(super) faults: Vec<String>,
    pub(super) reload_applied: bool,
    pub(super) snapshot: MetricsSnapshot,
    pub(super) routes: Vec<RouteSessions>,
    /// The last hour; the last sample is of now.
    pub(super) samples: Vec<HistorySample>,
}
