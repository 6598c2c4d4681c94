//! The SDK's client for one STS endpoint: it signs nothing, asks no credential provider of the machine, and makes no
//! second try of its own.

use std::sync::Arc;

use aws_sdk_sts::Client;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Region};

use super::retry::StsTimes;
use super::sts::MAX_IN_FLIGHT;
use super::sts_http::{MAX_ANSWER_BYTES, StsHttp};
use crate::config::ClusterSettings;
use crate::net::https::{HttpsClient, HttpsLimits};
use crate::net::outgoing::{Outgoing, OutgoingError};

/// The client for the STS of `cluster`, as it is used here and by `doctor`.
pub fn https_client(
    cluster: &ClusterSettings,
    times: &StsTimes,
    outgoing: &Outgoing,
) -> Result<HttpsClient, OutgoingError> {
    let limits = HttpsLimits {
        body: MAX_ANSWER_BYTES,
        connect: times.connect,
        request: times.attempt,
        // A burst of new people must not pay a TLS handshake for each call.
        connections: MAX_IN_FLIGHT,
    };
    // VPC endpoints have private addresses.
    outgoing.client(cluster.sts_ca_file.as_deref(), true, limits)
}

/// A client for the STS of `cluster`.
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
