//! Identity of a cluster in keys and records: the same for every replica and after every reload.

use aws_lc_rs::digest::{SHA256, digest};

use crate::names::Endpoint;

/// Identifier of a cluster, derived from its endpoint: the same for every replica and after every reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(pub(crate) [u8; 8]);

impl ClusterId {
    /// The identifier of the cluster at this endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        let digest = digest(&SHA256, endpoint.to_string().as_bytes());
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default()) // it has 32 bytes
    }
}
