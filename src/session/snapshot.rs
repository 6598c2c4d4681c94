//! Snapshots of the session's components for health and metrics.

use std::sync::Arc;

use super::SessionContext;
use super::cluster::Cluster;
use super::gate::GateStatus;
use super::registry::ClusterTotals;
use crate::aws::breaker::BreakerState;
use crate::aws::sts_endpoints;
use crate::config::DatabaseProtocol;
use crate::identity::KeyStatus;
use crate::protocol::WorkCounts;
use crate::relay::SessionWork;
use crate::telemetry::aws_metrics::{AwsSnapshot, StsSnapshot};
use crate::telemetry::cluster_metrics::{ClusterSnapshot, WorkSnapshot};
use crate::telemetry::issuer_metrics::IssuerSnapshot;
use crate::telemetry::labels::{KeyFetchResult, RefetchReason};
use crate::telemetry::pool_metrics::PoolSnapshot;

impl SessionContext {
    /// True if the audit log allows logins.
    pub fn admits_records(&self) -> bool {
        self.audit.admits().is_ok()
    }

    /// Names of the clusters.
    pub fn cluster_names(&self) -> Vec<String> {
        self.clusters.iter().map(|cluster| cluster.settings.name.clone()).collect()
    }

    /// The gates of the clusters.
    pub fn gates(&self) -> Vec<ClusterSnapshot> {
        let snapshot = |cluster: &Arc<Cluster>| {
            let GateStatus { paused, draining, waiting, .. } = cluster.gate.status();
            let name = cluster.settings.name.clone();
            ClusterSnapshot { name, protocol: cluster.settings.engine, paused, draining, waiting }
        };
        self.clusters.iter().map(snapshot).collect()
    }

    /// Names of the clusters of a protocol.
    pub fn clusters_of(&self, protocol: DatabaseProtocol) -> impl Iterator<Item = &str> {
        let clusters = self.clusters.iter().filter(move |cluster| cluster.settings.engine == protocol);
        clusters.map(|cluster| cluster.settings.name.as_str())
    }

    /// Work of sessions by cluster, of the configuration's clusters and of others that have had sessions.
    pub fn work(&self) -> Vec<WorkSnapshot> {
        let mut totals = self.shared.registry.totals();
        for name in self.cluster_names() {
            totals.entry(name).or_default();
        }
        let snapshot = |(cluster, total): (String, ClusterTotals)| {
            let SessionWork { to_server, to_client, counts } = total.work;
            let WorkCounts { queries, transactions } = counts;
            WorkSnapshot { cluster, queries, transactions, to_server, to_client }
        };
        totals.into_iter().map(snapshot).collect()
    }

    /// Name and key status of each issuer.
    pub fn key_sets(&self) -> impl Iterator<Item = (&str, KeyStatus)> {
        self.verifier.issuers().map(|(settings, keys)| (settings.name.as_str(), keys.status()))
    }

    /// The issuers, for metrics.
    pub fn issuers(&self) -> Vec<IssuerSnapshot> {
        let snapshot = |(name, status): (&str, KeyStatus)| IssuerSnapshot {
            name: name.to_owned(),
            keys: status.keys,
            left_out: status.left_out,
            age: status.age,
            max_age: status.max_age,
            usable: status.usable,
            fetches: vec![
                (KeyFetchResult::Good, status.fetches.good),
                (KeyFetchResult::Failed, status.fetches.failed),
            ],
            refetches: vec![
                (RefetchReason::UnknownKey, status.fetches.for_unknown_key),
                (RefetchReason::BadSignature, status.fetches.for_bad_signature),
            ],
            clock_ahead: status.clock_ahead,
        };
        self.key_sets().map(snapshot).collect()
    }

    /// STS, the credentials cache and the login queues, for metrics.
    pub fn aws(&self) -> AwsSnapshot {
        let endpoints = sts_endpoints::status(self.clusters.iter().map(|cluster| &cluster.sts));
        let sts = endpoints.into_iter().map(|sts| StsSnapshot {
            paused: sts.breaker != BreakerState::Closed,
            tries: sts.tries.iter().map(|(outcome, count)| (outcome.word(), *count)).collect(),
            clock_ahead: sts.clock_ahead,
            host: sts.host,
        });
        let queues = self.clusters.iter().filter_map(|cluster| cluster.login_rate.as_ref());
        let queued = queues.map(|queue| queue.queued()).sum();
        let memory = self.shared.federation.memory();
        AwsSnapshot {
            sts: sts.collect(),
            cache_hits: self.shared.federation.cache_hits(),
            cache_entries: memory.entries,
            cache_bytes: memory.bytes,
            forgotten: memory.forgotten,
            queued,
        }
    }

    /// The pool, for metrics.
    pub fn pool(&self) -> PoolSnapshot {
        let (hits, misses) = self.shared.pool_stats.hits_and_misses();
        PoolSnapshot {
            hits,
            misses,
            kept: self.shared.pool_stats.all_kept(),
            closed: self.shared.pool_stats.all_closed().collect(),
            idle: self.pools.iter().map(|pool| pool.idle()).sum(),
        }
    }
}
