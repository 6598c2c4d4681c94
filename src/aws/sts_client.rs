//! The SDK's client for one STS endpoint. It signs nothing, uses no credential provider of the machine, and
//! does not retry.

use std::sync::Arc;

use aws_sdk_sts::Client;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Region};

use super::retry::StsTimes;
use super::sts_http::{MAX_ANSWER_BYTES, StsHttp};
use crate::config::ClusterSettings;
use crate::net::https::{HttpsClient, HttpsLimits};
use crate::net::outgoing::{Outgoing, OutgoingError};

/// Concurrent calls to one endpoint; further calls wait.
pub const MAX_IN_FLIGHT: usize = 64;

/// HTTPS client for the STS of `cluster`, shared by logins and `doctor`.
pub fn https_client(
    cluster: &ClusterSettings,
    times: &StsTimes,
    outgoing: &Outgoing,
) -> Result<HttpsClient, OutgoingError> {
    let limits = HttpsLimits {
        body: MAX_ANSWER_BYTES,
        connect: times.connect,
        request: times.attempt,
        // Enough connections that a burst of logins does not pay for a TLS handshake per call.
        connections: MAX_IN_FLIGHT,
    };
    // VPC endpoints have private addresses.
    outgoing.client(cluster.sts_ca_file.as_deref(), true, limits)
}

/// SDK client for the STS of `cluster`.
pub(super) fn build(
    cluster: &ClusterSettings,
    times: &StsTimes,
    outgoing: &Outgoing,
) -> Result<Client, OutgoingError> {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(cluster.region.as_str().to_owned()))
        .endpoint_url(cluster.sts_endpoint_url.as_str())
        .http_client(StsHttp(Arc::new(https_client(cluster, times, outgoing)?)))
        .allow_no_auth()
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled()); // the client has its own limits
    Ok(Client::from_conf(config.build()))
}
