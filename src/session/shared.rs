//! State of the process that outlives a configuration.

use std::sync::Arc;

use super::gate::ClusterGates;
use super::permits::PermitCounters;
use super::registry::SessionRegistry;
use crate::aws::federation::Federation;
use crate::clock::Clock;
use crate::console::ConsoleDoor;
use crate::lifecycle::{ReloadRequests, ShutdownTokens};
use crate::net::peer_clocks::PeerClocks;
use crate::net::resolver::Resolver;
use crate::pool::stats::PoolStats;
use crate::supervisor::TaskSupervisor;
use crate::telemetry::logging::LogControl;
use crate::telemetry::metrics::Metrics;

/// The state that all configurations of the process share, built once at the start.
#[derive(Debug)]
pub struct Shared {
    /// The wall clock.
    pub clock: Clock,
    /// The name resolver.
    pub resolver: Resolver,
    /// The clocks of issuers and STS, by their answers.
    pub peer_clocks: PeerClocks,
    /// The degrees of stopping.
    pub shutdown: ShutdownTokens,
    /// The owner of the tasks that live as long as the process.
    pub supervisor: TaskSupervisor,
    /// The counts of connections, logins and sessions.
    pub permits: PermitCounters,
    /// The gates of clusters, which operators close.
    pub gates: ClusterGates,
    /// The live sessions, and the entries of `[denied]`.
    pub registry: Arc<SessionRegistry>,
    /// The way to the console, and its connections.
    pub console: ConsoleDoor,
    /// Reloads that the console requests.
    pub reloads: ReloadRequests,
    /// The metrics.
    pub metrics: Metrics,
    /// The running log.
    pub log: LogControl,
    /// The cache of role credentials.
    pub federation: Federation,
    /// The pool's counts.
    pub pool_stats: Arc<PoolStats>,
}
