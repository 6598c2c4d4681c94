//! Components of one configuration for its sessions.

use std::sync::Arc;

use super::cluster::{Cluster, ReachableCluster};
use super::shared::Shared;
use crate::config::{LimitSettings, SessionSettings};
use crate::identity::{AccessPolicy, ConsolePolicy, Verifier};
use crate::net::dial::DialerSet;
use crate::pool::{IdleConnections, Pool};
use crate::protocol::Protocol;
use crate::telemetry::audit_file::AuditGate;
use crate::telemetry::login_trace::TraceSink;

/// Components of one configuration for the sessions of all protocols, built by `app.rs`.
#[derive(Debug)]
pub struct SessionContext {
    /// The state that outlives this configuration.
    pub(crate) shared: Arc<Shared>,
    /// Timeouts and counts.
    pub(crate) limits: LimitSettings,
    pub(crate) verifier: Verifier,
    /// The rules of the console.
    pub(crate) console: ConsolePolicy,
    /// The clusters of all protocols.
    pub(crate) clusters: Vec<Arc<Cluster>>,
    /// The connection pools of all protocols, if enabled.
    pub(crate) pools: Vec<Arc<dyn IdleConnections>>,
    pub(crate) audit: AuditGate,
    /// The way of traces to the collector.
    pub(crate) traces: TraceSink,
    pub(crate) settings: SessionSettings,
}

/// Components of one configuration for the sessions of one protocol. It has only clusters that speak the protocol.
#[derive(Debug)]
pub struct ProtocolContext<P: Protocol> {
    /// The components for all protocols.
    pub(crate) common: Arc<SessionContext>,
    /// The protocol's state, which outlives this configuration.
    pub(crate) state: Arc<P::State>,
    /// The clusters and their access rules.
    pub(crate) policy: AccessPolicy<Arc<ReachableCluster<P>>>,
    /// Dialers of all clusters, for cancels.
    pub(crate) dialers: DialerSet<P>,
    /// Connection pool, if enabled.
    pub(crate) pool: Option<Arc<Pool<P>>>,
}

impl SessionContext {
    /// Closes the idle connections of a cluster.
    pub fn close_idle(&self, cluster: &str) {
        for pool in &self.pools {
            pool.close_cluster(cluster);
        }
    }

    /// Closes idle connections and keeps none from now on.
    pub fn close_pool(&self) {
        for pool in &self.pools {
            pool.close();
        }
    }
}
