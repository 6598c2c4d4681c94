//! Errors of connecting to a database.

use std::io;
use std::net::SocketAddr;

use super::start_tls::TlsRequestError;

/// Reason why the upstream could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// DNS lookup failed.
    #[error("{host} cannot be resolved: {problem}")]
    Resolve {
        /// The endpoint's host.
        host: String,
        /// Error of the resolver.
        problem: String,
    },
    /// TCP connection failed. Holds the last of the addresses tried.
    #[error("{addr}: {error}")]
    Connect {
        /// The address.
        addr: SocketAddr,
        /// Error of the operating system.
        error: io::Error,
    },
    /// No address accepted a connection in time.
    #[error("no connection within server_connect_timeout")]
    TimedOut,
    /// The server accepted the connection, and the handshake was closed or timed out without an alert.
    #[error("TLS handshake with {addr}: {problem}")]
    Handshake {
        /// The address.
        addr: SocketAddr,
        /// Description of the failure.
        problem: String,
    },
    /// The server does not support TLS.
    #[error("{0} does not support TLS")]
    NoTls(SocketAddr),
    /// The server does not speak the cluster's protocol.
    #[error("{addr} {problem}")]
    WrongProtocol {
        /// The address.
        addr: SocketAddr,
        /// Predicate of a sentence about it.
        problem: &'static str,
    },
    /// Verification of the server's certificate or of its part of the handshake failed.
    #[error("TLS handshake with {addr}: {problem}")]
    Tls {
        /// The address.
        addr: SocketAddr,
        /// rustls's reason.
        problem: String,
    },
}

impl DialError {
    /// A server at `addr` did not agree to TLS.
    pub(super) fn of(addr: SocketAddr, error: TlsRequestError) -> Self {
        match error {
            TlsRequestError::NoTls => Self::NoTls(addr),
            TlsRequestError::WrongProtocol(problem) => Self::WrongProtocol { addr, problem },
            TlsRequestError::Failed(problem) => Self::Handshake { addr, problem },
        }
    }

    /// True if a server answered but failed verification.
    pub(crate) fn is_distrust(&self) -> bool {
        matches!(self, Self::NoTls(_) | Self::WrongProtocol { .. } | Self::Tls { .. })
    }
}
