//! Values that a plan needs and the configuration does not have. Each stands in the documents as a text that lets nobody
//! in, and is asked for by forms that a program runs.

use crate::config::{ClusterSettings, EndpointKind};

/// Stands for the address under which STS sees the proxy. It is no address, so a policy with it lets nobody in.
pub(super) const PROXY_ADDRESS: &str = "PROXY-ADDRESS";

/// Text that stands in the documents for the resource id of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// The cluster.
    pub cluster: String,
    /// The text. It is no resource id, so a policy with it lets nobody in.
    pub text: String,
    /// Shell variable that a script takes the value from.
    pub variable: String,
    /// Arguments of `aws rds` that show the value.
    pub command: &'static str,
}

impl Placeholder {
    /// Name of the parameter of a `CloudFormation` template: letters and digits only.
    pub(super) fn parameter(&self) -> String {
        let words = self.variable.split('_').filter(|word| !word.is_empty());
        words.map(|word| word[..1].to_owned() + &word[1..].to_ascii_lowercase()).collect()
    }
}

/// Arguments of `aws rds` that show resource ids; none for DSQL, where the name holds the id.
pub(super) fn command(kind: EndpointKind) -> Option<&'static str> {
    match kind {
        EndpointKind::Aurora => {
            Some("describe-db-clusters --query 'DBClusters[].[Endpoint,DbClusterResourceId]'")
        }
        EndpointKind::Rds => {
            Some("describe-db-instances --query 'DBInstances[].[Endpoint.Address,DbiResourceId]'")
        }
        EndpointKind::RdsProxy => Some("describe-db-proxies --query 'DBProxies[].[Endpoint,DBProxyArn]'"),
        EndpointKind::Dsql => None,
    }
}

/// A placeholder for each cluster without `resource_id`; with the cluster's name in it where there are several.
pub(super) fn of(clusters: &[&ClusterSettings]) -> Vec<Placeholder> {
    let lacking = clusters.iter().filter(|cluster| cluster.resource_id.is_none());
    let lacking: Vec<_> = lacking.filter_map(|cluster| Some((cluster, command(cluster.kind)?))).collect();
    let several = lacking.len() > 1;
    let mut placeholders: Vec<Placeholder> = Vec::new();
    for (number, (cluster, command)) in lacking.into_iter().enumerate() {
        let (mut text, mut variable) = ("RESOURCE-ID".to_owned(), "RESOURCE_ID".to_owned());
        if several {
            // The number keeps names apart that differ in signs only.
            let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            let name: String = cluster.name.chars().map(legal).collect();
            text = format!("RESOURCE-ID-OF-{}", cluster.name);
            variable = format!("RESOURCE_ID_{}_{name}", number + 1);
        }
        placeholders.push(Placeholder { cluster: cluster.name.clone(), text, variable, command });
    }
    placeholders
}
