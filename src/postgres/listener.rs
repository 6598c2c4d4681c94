//! Settings of a listener in the form that logins need: certificate, networks, token method.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::oauthbearer::Discovery;
use crate::net::proxy_protocol::ClientOrigin;

/// Settings of one listener. Shared by its sessions; a reload makes a new one for new connections.
pub struct Listener {
    /// The operator's name for the listener, in logs and records.
    pub name: String,
    /// TLS acceptor with the listener's certificate.
    pub acceptor: TlsAcceptor,
    /// True if a client on the loopback interface may log in without TLS.
    pub plaintext_from_loopback: bool,
    /// Networks of load balancers, whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Method of requesting the token.
    pub token_method: TokenMethod,
}

/// Method of requesting the token. The protocol allows a server only one.
#[derive(Clone, Debug)]
pub enum TokenMethod {
    /// Cleartext password.
    Password,
    /// SASL OAUTHBEARER. Clients without a token are told the issuer.
    OAuthBearer(Arc<Discovery>),
}

impl Listener {
    /// True if a connection from `origin` may continue without TLS. Never with OAUTHBEARER: the mechanism
    /// sends the token unprotected (RFC 7628, section 5).
    pub fn allows_plaintext(&self, origin: &ClientOrigin) -> bool {
        self.plaintext_from_loopback
            && matches!(self.token_method, TokenMethod::Password)
            && origin.is_loopback()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}
