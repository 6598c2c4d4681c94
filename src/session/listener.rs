//! A listener's side of its sessions: settings, and the service that runs them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::permits::ConnectionAdmission;
use super::{ProtocolContext, serve};
use crate::names::client_addr::ClientAddr;
use crate::net::allowed_peers::AllowedPeers;
use crate::net::client_socket::ClientSocket;
use crate::net::proxy_protocol::ClientOrigin;
use crate::protocol::Protocol;

/// Settings of one listener. Shared by its sessions; a reload makes a new one for new connections.
pub struct Listener<P: Protocol> {
    /// The operator's name for the listener, in logs and records.
    pub name: String,
    /// TLS acceptor with the listener's certificate; absent at a Unix socket.
    pub acceptor: Option<TlsAcceptor>,
    /// Users and groups that may use a Unix socket; all that can open it if absent.
    pub peers: Option<AllowedPeers>,
    /// True if a client on the loopback interface may log in without TLS.
    pub plaintext_from_loopback: bool,
    /// Networks of load balancers, whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Settings that only the protocol has.
    pub protocol: P::Listen,
}

impl<P: Protocol> Listener<P> {
    /// True if a connection from `origin` may continue without TLS. Bytes on a Unix socket never leave the kernel.
    pub fn allows_plaintext(&self, origin: &ClientOrigin) -> bool {
        origin.is_unix()
            || self.plaintext_from_loopback
                && P::token_may_go_in_clear(&self.protocol)
                && origin.is_loopback()
    }
}

impl<P: Protocol> fmt::Debug for Listener<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A running session.
pub type RunningSession = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The service behind a listening socket, of any protocol. The choice of the protocol costs one dynamic call per
/// connection; inside the session all calls are static.
pub trait ListenerService: fmt::Debug + Send + Sync {
    /// The listener's name.
    fn name(&self) -> &str;

    /// Serves one connection to its end. The session keeps what it needs, and not the service.
    fn serve(&self, connection: (ClientSocket, ClientAddr), admission: ConnectionAdmission)
    -> RunningSession;
}

/// A listener with the context of its protocol.
#[derive(Debug)]
pub struct ProtocolService<P: Protocol> {
    /// The context.
    pub context: Arc<ProtocolContext<P>>,
    /// The listener.
    pub listener: Arc<Listener<P>>,
}

impl<P: Protocol> ListenerService for ProtocolService<P> {
    fn name(&self) -> &str {
        &self.listener.name
    }

    fn serve(
        &self,
        connection: (ClientSocket, ClientAddr),
        admission: ConnectionAdmission,
    ) -> RunningSession {
        let (context, listener) = (Arc::clone(&self.context), Arc::clone(&self.listener));
        Box::pin(async move { serve(context, &listener, connection, admission).await })
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::server::ResolvesServerCertUsingSni;

    use super::*;
    use crate::names::client_addr::PeerProcess;
    use crate::postgres::Postgres;
    use crate::postgres::oauthbearer::Discovery;
    use crate::postgres::token_method::TokenMethod;

    #[test]
    fn c2_j16_only_passwords_from_this_very_machine_may_be_plain() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        let discovery = Discovery::new("https://idp.example", "openid").unwrap();
        let direct = |addr: &str| ClientOrigin::Direct(ClientAddr::Tcp(addr.parse().unwrap()));
        let (here, there) = (direct("127.0.0.1:1"), direct("10.0.0.1:1"));
        let unix = ClientOrigin::Direct(ClientAddr::Unix(PeerProcess { uid: 1, gid: 1, pid: Some(1) }));
        let mut listener = Listener::<Postgres> {
            name: "x".into(),
            acceptor: Some(TlsAcceptor::from(Arc::new(config))),
            peers: None,
            plaintext_from_loopback: true,
            proxy_protocol_from: Vec::new(),
            protocol: TokenMethod::Password,
        };
        assert!(listener.allows_plaintext(&here) && !listener.allows_plaintext(&there));
        listener.protocol = TokenMethod::OAuthBearer(Arc::new(discovery));
        assert!(!listener.allows_plaintext(&here));
        listener.protocol = TokenMethod::Password;
        listener.plaintext_from_loopback = false;
        assert!(!listener.allows_plaintext(&here) && listener.allows_plaintext(&unix));
    }
}
