//! What the clients of one listener meet: its certificate and its rules, as the steps of a login need them.

use std::fmt;

use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::proxy_protocol::Origin;

/// One listener's part in a login. Sessions share it; a reload makes a new one for new connections.
pub struct Listener {
    /// The operator's name for it, in logs and records.
    pub name: String,
    /// Its certificate and how TLS is spoken.
    pub acceptor: TlsAcceptor,
    /// Whether a client on the loopback interface may log in without TLS.
    pub plaintext_from_loopback: bool,
    /// Networks of balancers, whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<IpNet>,
}

impl Listener {
    /// Whether a connection from `origin` may go on without TLS.
    pub fn allows_plaintext(&self, origin: &Origin) -> bool {
        self.plaintext_from_loopback && origin.is_loopback()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}
