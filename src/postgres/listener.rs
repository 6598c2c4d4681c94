//! What the clients of one listener meet: its certificate and its rules, as the steps of a login need them.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::oauthbearer::Discovery;
use crate::net::proxy_protocol::ClientOrigin;

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
    /// How clients are asked for their token.
    pub token_method: TokenMethod,
}

/// How a client is asked for its token. The protocol lets a server ask in one way only.
#[derive(Clone, Debug)]
pub enum TokenMethod {
    /// As a cleartext password.
    Password,
    /// By SASL OAUTHBEARER; clients without a token are told where to get one.
    OAuthBearer(Arc<Discovery>),
}

impl Listener {
    /// Whether a connection from `origin` may go on without TLS. OAUTHBEARER never may: clients trust it with
    /// tokens, and it protects nothing itself (RFC 7628, section 5).
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
