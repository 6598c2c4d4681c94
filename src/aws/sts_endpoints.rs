//! The STS endpoints of a configuration: one client for all clusters that have the same.

use std::sync::Arc;

use super::retry::StsTimes;
use super::sts::StsEndpoint;
use super::sts_status::StsStatus;
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::net::outgoing::{Outgoing, OutgoingError};

/// The endpoint of each of `clusters`, in their order. An endpoint of `before` with the same URL hands on its breaker,
/// its counts and its queue.
pub fn of_clusters(
    clusters: &[Arc<ClusterSettings>],
    before: &[&Arc<StsEndpoint>],
    times: StsTimes,
    (clock, outgoing): (&Clock, &Outgoing),
) -> Result<Vec<Arc<StsEndpoint>>, OutgoingError> {
    let mut endpoints: Vec<Arc<StsEndpoint>> = Vec::with_capacity(clusters.len());
    for cluster in clusters {
        let is_same = |other: &&ClusterSettings| {
            other.sts_endpoint_url == cluster.sts_endpoint_url && other.sts_ca_file == cluster.sts_ca_file
        };
        let shared = clusters.iter().zip(&endpoints).find(|(other, _)| is_same(&&***other));
        let endpoint = match shared {
            Some((_, endpoint)) => Arc::clone(endpoint),
            None => {
                let known = before.iter().find(|sts| sts.is_at(&cluster.sts_endpoint_url));
                let known = known.map(|sts| &***sts);
                Arc::new(StsEndpoint::new(cluster, times, clock.clone(), outgoing, known)?)
            }
        };
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// The state of each endpoint, once for those with the same URL, in the order of the URLs.
pub fn status<'a>(endpoints: impl Iterator<Item = &'a Arc<StsEndpoint>>) -> Vec<StsStatus> {
    let mut status: Vec<StsStatus> = endpoints.map(|sts| sts.status()).collect();
    status.sort_unstable_by(|one, other| one.endpoint.cmp(&other.endpoint));
    status.dedup_by(|one, other| one.endpoint == other.endpoint);
    status
}
