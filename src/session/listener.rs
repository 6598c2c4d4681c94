//! A listener's side of its sessions: settings, and the service that runs them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use super::permits::ConnectionAdmission;
use super::{ProtocolContext, serve};
use crate::config::{DatabaseProtocol, ListenSettings};
use crate::names::client_addr::ClientAddr;
use crate::net::allowed_peers::AllowedPeers;
use crate::net::client_socket::ClientSocket;
use crate::net::proxy_protocol::ClientOrigin;
use crate::protocol::Protocol;

/// A listener. Shared by its sessions; a reload makes a new one for new connections.
pub struct Listener<P: Protocol> {
    /// The settings.
    pub settings: ListenSettings,
    /// TLS acceptor with the listener's certificate; absent at a Unix socket.
    pub acceptor: Option<TlsAcceptor>,
    /// Users and groups that may use a Unix socket, by number; all that can open it if absent.
    pub peers: Option<AllowedPeers>,
    /// Properties that only the protocol has.
    pub protocol: P::Listen,
}

impl<P: Protocol> Listener<P> {
    /// True if a connection from `origin` may continue without TLS. Bytes on a Unix socket never leave the kernel.
    pub fn allows_plaintext(&self, origin: &ClientOrigin) -> bool {
        origin.is_unix()
            || self.settings.plaintext_from_loopback
                && P::token_may_go_in_clear(&self.protocol)
                && origin.is_loopback()
    }
}

impl<P: Protocol> fmt::Debug for Listener<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

/// A running session.
pub type RunningSession = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The service behind a listening socket, of any protocol. The choice of the protocol costs one dynamic call per
/// connection; inside the session all calls are static.
pub trait ListenerService: fmt::Debug + Send + Sync {
    /// The listener's name.
    fn name(&self) -> &str;

    /// Protocol of its clients.
    fn protocol(&self) -> DatabaseProtocol;

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
        &self.listener.settings.name
    }

    fn protocol(&self) -> DatabaseProtocol {
        self.listener.settings.protocol
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
    use crate::config::Config;
    use crate::names::client_addr::PeerProcess;
    use crate::postgres::Postgres;
    use crate::postgres::oauthbearer::Discovery;
    use crate::postgres::token_method::TokenMethod;

    fn listener_settings() -> ListenSettings {
        let config = Config::from_toml(include_str!("../../proxy.toml"), "proxy.toml").unwrap();
        config.listeners.into_iter().next().unwrap()
    }

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
            settings: ListenSettings { plaintext_from_loopback: true, ..listener_settings() },
            acceptor: Some(TlsAcceptor::from(Arc::new(config))),
            peers: None,
            protocol: TokenMethod::Password,
        };
        assert!(listener.allows_plaintext(&here) && !listener.allows_plaintext(&there));
        listener.protocol = TokenMethod::OAuthBearer(Arc::new(discovery));
        assert!(!listener.allows_plaintext(&here));
        listener.protocol = TokenMethod::Password;
        listener.settings.plaintext_from_loopback = false;
        assert!(!listener.allows_plaintext(&here) && listener.allows_plaintext(&unix));
    }
}
