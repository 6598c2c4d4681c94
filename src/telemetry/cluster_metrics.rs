//! Metrics of clusters, set at each scrape: work of their sessions, and clusters that an operator has paused or drained.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::RelayedDirection;
use crate::config::DatabaseProtocol;

/// Label with a cluster's name, from the configuration.
type Cluster = [(&'static str, String); 1];

/// A cluster at a scrape.
#[derive(Clone, Debug)]
pub struct ClusterSnapshot {
    /// Name.
    pub name: String,
    /// Protocol of its servers.
    pub protocol: DatabaseProtocol,
    /// True while new logins wait for RESUME.
    pub paused: bool,
    /// True while sessions end and new logins are refused, unless they wait.
    pub draining: bool,
    /// Logins that wait for RESUME.
    pub waiting: usize,
}

impl ClusterSnapshot {
    /// True for a cluster of MySQL.
    pub fn is_mysql(&self) -> bool {
        self.protocol == DatabaseProtocol::MySql
    }
}

/// Work of all sessions of a cluster since the start, ended and live.
#[derive(Clone, Debug, Default)]
pub struct WorkSnapshot {
    /// Name of the cluster.
    pub cluster: String,
    /// Queries.
    pub queries: u64,
    /// Transactions.
    pub transactions: u64,
    /// Bytes from clients to servers.
    pub to_server: u64,
    /// Bytes from servers to clients.
    pub to_client: u64,
}

/// Labels with a cluster's name and a direction.
type Bytes = [(&'static str, String); 2];

/// The series of clusters.
#[derive(Debug, Default)]
pub(super) struct ClusterMetrics {
    queries: Family<Cluster, Counter>,
    transactions: Family<Cluster, Counter>,
    bytes: Family<Bytes, Counter>,
    paused: Family<Cluster, Gauge>,
    draining: Family<Cluster, Gauge>,
    waiting: Family<Cluster, Gauge>,
}

impl ClusterMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Queries of all sessions, ended and live: requests of clients up to the end of the answer";
        registry.register("queries", help, self.queries.clone());
        let help = "Transactions of all sessions, ended and live, those of single statements included";
        registry.register("transactions", help, self.transactions.clone());
        let help = "Bytes of all sessions, ended and live, by direction";
        registry.register("relayed_bytes", help, self.bytes.clone());
        let help = "1 while an operator has paused the cluster: new logins wait";
        registry.register("cluster_paused", help, self.paused.clone());
        let help = "1 while an operator drains the cluster: sessions end";
        registry.register("cluster_draining", help, self.draining.clone());
        let help = "Logins that wait because an operator has paused the cluster";
        registry.register("cluster_logins_waiting", help, self.waiting.clone());
    }

    pub(super) fn set(&self, clusters: &[ClusterSnapshot]) {
        // A reload can remove names.
        for family in [&self.paused, &self.draining, &self.waiting] {
            family.clear();
        }
        for cluster in clusters {
            let name = [("cluster", cluster.name.clone())];
            self.paused.get_or_create(&name).set(i64::from(cluster.paused));
            self.draining.get_or_create(&name).set(i64::from(cluster.draining));
            self.waiting.get_or_create(&name).set(i64::try_from(cluster.waiting).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn set_work(&self, work: &[WorkSnapshot]) {
        self.queries.clear();
        self.transactions.clear();
        self.bytes.clear();
        for of in work {
            let name = [("cluster", of.cluster.clone())];
            self.queries.get_or_create(&name).inc_by(of.queries);
            self.transactions.get_or_create(&name).inc_by(of.transactions);
            for (direction, count) in
                [(RelayedDirection::ToServer, of.to_server), (RelayedDirection::ToClient, of.to_client)]
            {
                let labels = [("cluster", of.cluster.clone()), ("direction", direction.word().to_owned())];
                self.bytes.get_or_create(&labels).inc_by(count);
            }
        }
    }
}
