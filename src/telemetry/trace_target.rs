//! Destination of traces: what a reload reads anew while traces are on their way.

use std::fmt;

use hyper::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::net::https::HttpsClient;

/// The collector, as the files of one configuration describe it.
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without the exporter there is no target"))]
pub(super) struct TraceTarget {
    /// Client with the collector's authorities.
    pub client: HttpsClient,
    /// URL of the requests.
    pub endpoint: String,
    /// Further headers of the requests.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Time at which the files were read.
    pub since: Instant,
}

impl fmt::Debug for TraceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceTarget").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
