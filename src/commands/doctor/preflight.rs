//! Doctor without a token: everything that a login needs from the network, up to the database's certificate.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport};
use super::{sts, upstream};
use crate::aws::retry::StsTimes;
use crate::config::{ClusterSettings, DatabaseProtocol};
use crate::mysql::Mysql;
use crate::mysql::response::ClientFeatures;
use crate::names::printable;
use crate::net::dial_permission::OperatorCheck;
use crate::net::outgoing::Outgoing;
use crate::net::resolver::Resolver;
use crate::postgres::Postgres;

/// Time limits of a preflight.
pub(super) struct PreflightLimits {
    pub(super) sts: StsTimes,
    pub(super) connect: Duration,
}

/// Checks STS and the database of `wanted`, or of every cluster.
pub(super) async fn examine(
    clusters: &[ClusterSettings],
    wanted: Option<&str>,
    limits: PreflightLimits,
    (now, outgoing, resolver): (SystemTime, &Outgoing, &Resolver),
    report: &mut DoctorReport<'_>,
) {
    let chosen: Vec<_> = clusters.iter().filter(|one| wanted.is_none_or(|name| one.name == name)).collect();
    if chosen.is_empty() {
        let known: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        let found = format!("there is no cluster \"{}\"", printable(wanted.unwrap_or_default(), 63));
        let remedy = format!("Name one with --cluster: {}.", known.join(", "));
        report.fail(ChainLink::Cluster, LinkProblem::new(found, remedy));
        report.skip(ChainLink::StsEndpoint, "not tried: the cluster is not known");
        return report.skip_all(&upstream::LINKS, "not tried: the cluster is not known");
    }
    let mut asked = HashSet::new();
    for cluster in &chosen {
        report.set_subject(if chosen.len() > 1 {
            format!("cluster {}: ", cluster.name)
        } else {
            String::new()
        });
        let (endpoint, region) = (&cluster.endpoint, cluster.region.as_str());
        report.ok(ChainLink::Cluster, format!("{} at {endpoint} in {region}", cluster.name));
        // Clusters of one Region usually share their endpoint of STS.
        if asked.insert((cluster.sts_endpoint_url.as_str(), cluster.sts_ca_file.as_deref())) {
            sts::preflight(cluster, limits.sts, outgoing, report).await;
        } else {
            report.ok(ChainLink::StsEndpoint, "the same as for an earlier cluster");
        }
        let permission = OperatorCheck::from_command_line();
        let network = (resolver.clone(), now);
        match cluster.engine {
            DatabaseProtocol::PostgreSql => {
                upstream::dial::<Postgres>(cluster, &permission, (&(), limits.connect), network, report)
                    .await;
            }
            DatabaseProtocol::MySql => {
                let hello = ClientFeatures::default();
                upstream::dial::<Mysql>(cluster, &permission, (&hello, limits.connect), network, report)
                    .await;
            }
        }
    }
    report.set_subject(String::new());
}
