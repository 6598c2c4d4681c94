//! From an endpoint's name to a verified TLS connection: a new DNS query, all addresses, one deadline.
//! Upstream connections without TLS or without verification do not exist.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{ADDRESS_TIMEOUT, part_of, race, resolve};
use super::buffers::ReadAhead;
use super::certificate::CertificateFacts;
use super::cluster_id::ClusterId;
pub use super::dial_error::DialError;
use super::dial_permission::DialPermission;
use super::recent_addresses::RecentAddresses;
use super::resolver::Resolver;
use super::start_tls::StartTls;
use super::tls::TlsSetupError;
use super::{socket, tls, tls_error};
use crate::config::{ClusterRoute, ClusterSettings};
use crate::names::Endpoint;

/// Most concurrent cancels that the proxy sends for sessions of one cluster that ended in mid-statement. Each
/// takes an extra connection for a moment; further ones wait.
const MAX_RECALLS: usize = 64;

/// Most concurrent cancels of one cluster's clients whose key is proven. Each takes a connection to a server;
/// further ones wait.
const MAX_CANCELS: usize = 64;

/// Dialers of all clusters of a protocol, for cancel requests, which have no grant.
#[derive(Debug)]
pub struct DialerSet<P: StartTls>(Vec<Arc<Dialer<P>>>);

impl<P: StartTls> FromIterator<Arc<Dialer<P>>> for DialerSet<P> {
    fn from_iter<T: IntoIterator<Item = Arc<Dialer<P>>>>(dialers: T) -> Self {
        Self(dialers.into_iter().collect())
    }
}

impl<P: StartTls> DialerSet<P> {
    /// Dialer of the cluster that a cancel key names.
    pub(crate) fn of(&self, cluster: ClusterId) -> Option<&Arc<Dialer<P>>> {
        self.0.iter().find(|dialer| dialer.cluster == cluster)
    }

    /// Dialers of all clusters that a connection to `listener` with this server name can reach.
    pub(crate) fn behind(&self, listener: &str, server_name: Option<&str>) -> Vec<&Arc<Dialer<P>>> {
        self.0.iter().filter(|dialer| dialer.route.admits(listener, server_name)).collect()
    }
}

/// Connects to the servers of one cluster, which speak protocol `P`.
#[derive(Debug)]
pub struct Dialer<P: StartTls> {
    pub(crate) cluster: ClusterId,
    route: ClusterRoute,
    endpoint: Endpoint,
    hostaddr: Vec<SocketAddr>,
    recent: RecentAddresses,
    server_name: ServerName<'static>,
    direct_tls: bool,
    takes_cancels: bool,
    pub(crate) recalls: Semaphore,
    pub(crate) cancels: Semaphore,
    connect_timeout: Duration,
    resolver: Resolver,
    tls: TlsConnectorDebug,
    protocol: PhantomData<fn() -> P>,
}

/// Facts of a verified connection, for display.
#[derive(Debug)]
pub struct DialedFacts {
    /// Address of the server.
    pub addr: SocketAddr,
    /// TLS version, for example `TLSv1.3`.
    pub protocol: String,
    /// The server's certificate chain, leaf first.
    pub certificates: Vec<CertificateFacts>,
}

/// A verified TLS connection to a server. Boxed, because every future that holds it would otherwise reserve
/// space for it.
pub type ServerStream = Box<TlsStream<ReadAhead<TcpStream>>>;

/// A verified TLS connection to the upstream before the first message. Only [`Dialer`] constructs it.
#[derive(Debug)]
pub struct Dialed<P: StartTls> {
    pub(crate) dialer: Arc<Dialer<P>>,
    pub(crate) stream: ServerStream,
    /// The server's words before TLS.
    pub(crate) opening: P::Opening,
    hello: P::Hello,
    pub(crate) addr: SocketAddr,
    /// Addresses of the endpoint that have not failed and were not tried.
    pub(crate) others: VecDeque<SocketAddr>,
    durations: DialDurations,
}

/// Durations of the steps of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct DialDurations {
    /// DNS lookup of the endpoint's name.
    pub name: Duration,
    /// From the first TCP connect to the successful one.
    pub tcp: Duration,
    /// Request for TLS and TLS handshake with the address in use.
    pub tls: Duration,
}

impl<P: StartTls> Dialed<P> {
    /// Connects again to the same server.
    pub(crate) async fn connect_again(&mut self) -> Result<(), DialError> {
        let again = self.route().dial().await?;
        (self.stream, self.opening) = (again.stream, again.opening);
        Ok(())
    }

    /// Connects to the next address of the endpoint, after a login at this one failed with `error`.
    pub(crate) async fn connect_to_next(
        &mut self,
        error: &impl std::fmt::Display,
        deadline: Instant,
    ) -> Result<(), DialError> {
        self.dialer.record_failure(self.addr, error);
        let others = std::mem::take(&mut self.others);
        *self = self.dialer.first_to_answer(others, &self.hello, deadline).await?;
        Ok(())
    }

    /// Records that a login at this address has succeeded.
    pub(crate) fn record_success(&self) {
        self.dialer.recent.record_success(self.addr);
    }

    /// Durations of the steps.
    pub fn durations(&self) -> DialDurations {
        self.durations
    }

    /// Route to the same server, for further connections.
    pub fn route(&self) -> ServerRoute<P> {
        ServerRoute { dialer: Arc::clone(&self.dialer), addr: self.addr, hello: self.hello.clone() }
    }
}

/// Route to one server to which the proxy has connected before.
#[derive(Debug)]
pub struct ServerRoute<P: StartTls> {
    dialer: Arc<Dialer<P>>,
    addr: SocketAddr,
    hello: P::Hello,
}

impl<P: StartTls> ServerRoute<P> {
    /// The server's address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Opens another connection to the server.
    pub async fn dial(&self) -> Result<Dialed<P>, DialError> {
        self.dialer.dial_addr(self.addr, &self.hello, Instant::now() + ADDRESS_TIMEOUT).await
    }
}

struct TlsConnectorDebug(TlsConnector);

impl std::fmt::Debug for TlsConnectorDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<P: StartTls> Dialed<P> {
    /// Facts of the connection.
    pub fn facts(&self) -> DialedFacts {
        let (_, tls) = self.stream.get_ref();
        let certificates = tls.peer_certificates().unwrap_or_default();
        DialedFacts {
            addr: self.addr,
            protocol: tls::version_name(tls.protocol_version()).to_owned(),
            certificates: certificates.iter().map_while(CertificateFacts::read).collect(),
        }
    }
}

impl<P: StartTls> Dialer<P> {
    /// Reads the certificate authorities of the cluster. `connect_timeout` covers all addresses together.
    pub fn new(
        cluster: &ClusterSettings,
        connect_timeout: Duration,
        resolver: Resolver,
    ) -> Result<Self, TlsSetupError> {
        let alpn = P::ALPN.filter(|_| cluster.direct_tls);
        let config = tls::cluster_config(&cluster.authorities, alpn)?;
        let server_name = ServerName::try_from(cluster.endpoint.host().to_owned()).map_err(|_| {
            let path = cluster.endpoint.host().into();
            TlsSetupError::Pem { path, problem: "the endpoint is not a valid server name".into() }
        })?;
        Ok(Self {
            cluster: ClusterId::of(&cluster.endpoint),
            route: cluster.route.clone(),
            endpoint: cluster.endpoint.clone(),
            hostaddr: cluster.hostaddr.clone(),
            recent: RecentAddresses::default(),
            server_name,
            direct_tls: cluster.direct_tls,
            takes_cancels: cluster.kind.takes_cancels(),
            recalls: Semaphore::new(MAX_RECALLS),
            cancels: Semaphore::new(MAX_CANCELS),
            connect_timeout,
            resolver,
            tls: TlsConnectorDebug(TlsConnector::from(Arc::new(config))),
            protocol: PhantomData,
        })
    }

    /// Connects to the first address of the endpoint that answers, within `server_connect_timeout` and until
    /// `deadline`. Each call makes a new DNS query, because the name changes within seconds of a failover
    /// (Aurora's DNS TTL is 5 s).
    pub async fn dial(
        self: &Arc<Self>,
        _: &impl DialPermission,
        hello: &P::Hello,
        deadline: Instant,
    ) -> Result<Dialed<P>, DialError> {
        let begun = Instant::now();
        let deadline = deadline.min(begun + self.connect_timeout);
        let addresses = self.recent.failed_last(self.addresses(deadline).await?, Instant::now());
        let name = begun.elapsed();
        let mut dialed = self.first_to_answer(addresses.into(), hello, deadline).await?;
        dialed.durations.name = name;
        let DialDurations { tcp, tls, .. } = dialed.durations;
        tracing::debug!(addr = %dialed.addr, ?name, ?tcp, ?tls, "connected to the database");
        Ok(dialed)
    }

    /// Connects to the first of `addresses` with which verified TLS succeeds. Each address gets an equal part
    /// of the remaining time.
    async fn first_to_answer(
        self: &Arc<Self>,
        mut addresses: VecDeque<SocketAddr>,
        hello: &P::Hello,
        deadline: Instant,
    ) -> Result<Dialed<P>, DialError> {
        loop {
            let begun = Instant::now();
            let failed = |addr, error: &DialError| self.record_failure(addr, error);
            let (tcp, addr) = race(&mut addresses, deadline, failed).await?;
            let connected = Instant::now();
            let until = part_of(deadline, addresses.len(), ADDRESS_TIMEOUT);
            match self.secure(tcp, addr, hello, until).await {
                Ok(mut dialed) => {
                    self.recent.remember(addr);
                    dialed.durations = DialDurations {
                        tcp: connected - begun,
                        tls: connected.elapsed(),
                        ..DialDurations::default()
                    };
                    dialed.others = addresses;
                    return Ok(dialed);
                }
                // A server that fails verification must not be hidden by another address.
                Err(error) if error.is_distrust() => return Err(error),
                Err(error) => {
                    self.record_failure(addr, &error);
                    if addresses.is_empty() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Records that an address failed, and logs it if that is new.
    fn record_failure(&self, addr: SocketAddr, error: &impl std::fmt::Display) {
        if self.recent.record_failure(addr, Instant::now()) {
            let host = self.endpoint.host();
            tracing::warn!(host, %addr, %error, "database address failed; other addresses are tried first");
        }
    }

    /// True if servers of this kind accept cancel requests.
    pub(crate) fn takes_cancels(&self) -> bool {
        self.takes_cancels
    }

    /// Connects to one address, for a cancel that has to reach the server of a session.
    pub(crate) async fn dial_addr(
        self: &Arc<Self>,
        addr: SocketAddr,
        hello: &P::Hello,
        deadline: Instant,
    ) -> Result<Dialed<P>, DialError> {
        let connecting = timeout_at(deadline, TcpStream::connect(addr)).await;
        let tcp = connecting.map_err(|_| DialError::TimedOut)?;
        self.secure(tcp.map_err(|error| DialError::Connect { addr, error })?, addr, hello, deadline).await
    }

    /// Asks for TLS on a new TCP connection and performs the handshake.
    async fn secure(
        self: &Arc<Self>,
        tcp: TcpStream,
        addr: SocketAddr,
        hello: &P::Hello,
        deadline: Instant,
    ) -> Result<Dialed<P>, DialError> {
        let handshake = async {
            let mut tcp = tcp;
            socket::tune(&tcp).map_err(|error| DialError::Connect { addr, error })?;
            let opening = P::request_tls(&mut tcp, hello, self.direct_tls).await;
            let opening = opening.map_err(|error| DialError::of(addr, error))?;
            let stream = self.tls.0.connect(self.server_name.clone(), ReadAhead::new(tcp)).await;
            let stream = stream.map_err(|error| match tls_error::describe(&error) {
                problem if tls::is_distrust(&error) => DialError::Tls { addr, problem },
                problem => DialError::Handshake { addr, problem },
            })?;
            // Without the check, a server of another protocol could be made to read ours (PostgreSQL manual,
            // "SSL Session Encryption": direct connections).
            if self.direct_tls && stream.get_ref().1.alpn_protocol() != P::ALPN {
                let problem = format!("the server does not support direct TLS for {} (ALPN)", P::NAME);
                return Err(DialError::Tls { addr, problem });
            }
            Ok(Dialed {
                dialer: Arc::clone(self),
                stream: Box::new(stream),
                opening,
                hello: hello.clone(),
                addr,
                others: VecDeque::new(),
                durations: DialDurations::default(),
            })
        };
        let timed_out = || DialError::Handshake { addr, problem: "no answer in time".to_owned() };
        timeout_at(deadline, handshake).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Addresses at which a session of the cluster may be: the endpoint's current addresses and those of
    /// earlier sessions.
    pub(crate) async fn candidates(&self, deadline: Instant) -> Vec<SocketAddr> {
        let soon = deadline.min(Instant::now() + ADDRESS_TIMEOUT);
        self.recent.add_to(self.addresses(soon).await.unwrap_or_default())
    }

    /// Removes an address until a session uses it again.
    pub(crate) fn forget(&self, addr: SocketAddr) {
        self.recent.forget(addr);
    }

    /// Addresses that [`Dialer::dial`] would try now.
    pub async fn resolve(&self, _: &impl DialPermission) -> Result<Vec<SocketAddr>, DialError> {
        self.addresses(Instant::now() + self.connect_timeout).await
    }

    async fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, DialError> {
        if !self.hostaddr.is_empty() {
            return Ok(self.hostaddr.clone());
        }
        let name = (self.endpoint.host(), self.endpoint.port());
        Ok(resolve(&self.resolver, name, deadline).await?.into())
    }
}
