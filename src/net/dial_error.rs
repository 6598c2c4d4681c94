//! The reasons why a database cannot be reached.

use std::io;
use std::net::SocketAddr;

/// Why the upstream could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name does not resolve.
    #[error("{host} cannot be resolved: {problem}")]
    Resolve {
        /// The endpoint's host.
        host: String,
        /// The resolver's words.
        problem: String,
    },
    /// The last of the addresses that refused or failed.
    #[error("{addr}: {source}")]
    Connect {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// No address took a connection in time.
    #[error("no connection within server_connect_timeout")]
    TimedOut,
    /// The server took the connection, and the handshake ended or stopped without a word of why.
    #[error("TLS handshake with {addr}: {problem}")]
    Handshake {
        /// The address.
        addr: SocketAddr,
        /// The end that it came to.
        problem: String,
    },
    /// The server does not look at cancel requests.
    #[error("RDS Proxy takes no CancelRequest")]
    NoCancels,
    /// The server has no TLS.
    #[error("{0} answers that it has no TLS")]
    NoTls(SocketAddr),
    /// The answer to the SSLRequest is not one, or brings bytes that come too early.
    #[error("{0} does not answer an SSLRequest as PostgreSQL does")]
    NotPostgres(SocketAddr),
    /// The server's certificate, or its part of the handshake, is not that of the database.
    #[error("TLS handshake with {addr}: {problem}")]
    Tls {
        /// The address.
        addr: SocketAddr,
        /// rustls's reason.
        problem: String,
    },
}

impl DialError {
    /// Whether someone answered, and not as the database would.
    pub(crate) fn is_distrust(&self) -> bool {
        matches!(self, Self::NoTls(_) | Self::NotPostgres(_) | Self::Tls { .. })
    }
}
