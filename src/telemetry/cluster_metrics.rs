//! Metrics of clusters, set at each scrape: clusters that an operator has paused or drained.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label with a cluster's name, from the configuration.
type Cluster = [(&'static str, String); 1];

/// A cluster at a scrape.
#[derive(Clone, Debug, Default)]
pub struct ClusterSnapshot {
    /// Name.
    pub name: String,
    /// True while new logins wait for RESUME.
    pub paused: bool,
    /// True while sessions end and new logins are refused, unless they wait.
    pub draining: bool,
    /// Logins that wait for RESUME.
    pub waiting: usize,
}

/// The series of clusters.
#[derive(Debug, Default)]
pub(super) struct ClusterMetrics {
    paused: Family<Cluster, Gauge>,
    draining: Family<Cluster, Gauge>,
    waiting: Family<Cluster, Gauge>,
}

impl ClusterMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
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
}
