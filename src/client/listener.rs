//! What the clients of one listener meet: its certificate and its rules, as the steps of a login need them.

use std::fmt;

use tokio_rustls::TlsAcceptor;

/// One listener's part in a login. Sessions share it; a reload makes a new one for new connections.
pub struct Listener {
    /// The operator's name for it, in logs and records.
    pub name: String,
    /// Its certificate and how TLS is spoken.
    pub acceptor: TlsAcceptor,
    /// Whether a client on the loopback interface may log in without TLS.
    pub plaintext_from_loopback: bool,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}
