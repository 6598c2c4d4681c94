//! The values that a protocol and the session exchange during a login, and the errors of its steps.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Protocol;
use crate::names::SessionId;
use crate::names::source::Source;
use crate::net::buffers::ReadAhead;
use crate::net::client_stream::ClientStream;
use crate::net::dial::{DialError, DialerSet};
use crate::net::proxy_protocol::{HeaderError, OriginError};
use crate::net::tls_error;
use crate::refusal::{Fault, Refusal};
use crate::secret::IamToken;

/// Longest time for the TLS handshake, as part of the client's login time.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The listener's side of a new connection.
pub struct Entrance<'a, P: Protocol> {
    /// Accepts TLS with the listener's certificate; absent where the listener has no TLS.
    pub acceptor: Option<&'a TlsAcceptor>,
    /// The protocol's settings of the listener.
    pub listen: &'a P::Listen,
    /// The protocol's state.
    pub state: &'a Arc<P::State>,
    /// True if this client may log in without TLS.
    pub plaintext_allowed: bool,
    /// The connection's id.
    pub session: SessionId,
}

impl<P: Protocol> fmt::Debug for Entrance<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Kind of a connection, by its first packets.
#[derive(Debug)]
pub enum FirstPacket<P: Protocol> {
    /// A client that may be asked for its token.
    Login(P::Client),
    /// A cancel. Its sender waits until the connection is closed.
    Cancel(P::CancelRequest),
    /// A client that gets a refusal.
    Rejected(P::Rejected, Box<dyn ProtocolError>),
}

/// The request of a client, in the words of every protocol. It is unverified.
#[derive(Clone, Debug)]
pub struct StartupRequest<'a> {
    /// Requested user.
    pub user: &'a str,
    /// Requested database, if any.
    pub database: Option<&'a str>,
    /// Name of the program, if it sent one.
    pub application: Option<String>,
    /// Command-line options for the server, if the protocol has them.
    pub options: Option<String>,
    /// Canonical names of all settings that the client sets.
    pub settings: Vec<String>,
}

/// A fault that a protocol finds in a login. The text of the error is for the log.
pub trait ProtocolError: Error + Send + Sync + 'static {
    /// The answer to the client.
    fn refusal(&self) -> Refusal;
}

/// Reason why no token was received.
pub trait TokenRequestError: ProtocolError {
    /// The reason, if the client ended the connection to get a token. That is not a failed login.
    fn without_token(&self) -> Option<WithoutToken>;
}

/// Reason why a client ended the connection instead of sending a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutToken {
    /// The client left when it was asked. Some clients do so to prompt for a password.
    Left,
    /// The client asked for the issuer and got it.
    Discovery,
}

/// A token for a further login, or none.
pub type FurtherToken<'a> = Pin<Box<dyn Future<Output = Option<IamToken>> + Send + 'a>>;

/// Permission for further logins of a session's user at the session's cluster, as long as the credentials of its login are
/// good.
pub trait FurtherLogin: fmt::Debug + Send + Sync {
    /// The granted user.
    fn user(&self) -> &str;

    /// A token for one login, in its turn. `None` if the credentials have expired, or if too many logins wait.
    fn token(&self) -> FurtherToken<'_>;
}

/// Refusal of a login by the server.
pub trait ServerLoginError: ProtocolError {
    /// The party that has to act.
    fn fault(&self) -> Fault;

    /// Kind of places that ran out, if the server refused for that reason.
    fn shortage(&self) -> Option<Shortage>;

    /// True if the server rejected the IAM token.
    fn is_about_credentials(&self) -> bool;

    /// True if another address of the endpoint may work: the server is gone, starting or stopping.
    fn is_of_the_address(&self) -> bool;
}

/// Reason why a login at the database failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginFailure<E: ServerLoginError> {
    /// The server did not finish the login in time.
    #[error("{0} does not finish the login in time")]
    Silent(SocketAddr),
    /// The server could not be reached again.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server refused.
    #[error(transparent)]
    Server(E),
}

impl<E: ServerLoginError> LoginFailure<E> {
    /// True if another address of the endpoint may work.
    pub(crate) fn is_of_the_address(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Dial(error) => !error.is_distrust(),
            Self::Server(error) => error.is_of_the_address(),
        }
    }
}

/// The places that a server has too few of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Places of the whole server.
    Server,
    /// Places of the database user.
    Role,
    /// Places of the database.
    Database,
}

/// Scope of a client's cancel key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// Any replica with the same secret can carry out its cancels, as long as the server's process lives.
    AnyReplica,
    /// Only this process knows the key, and only for one session: the server process may serve another session
    /// later, which the key must not reach.
    ThisSession,
}

/// The surroundings of a cancel. Listener and server name equal those of its session, which narrows down the clusters.
#[derive(Debug)]
pub struct CancelContext<'a, P: Protocol> {
    /// The protocol's state.
    pub state: &'a Arc<P::State>,
    /// The clusters of the protocol.
    pub dialers: &'a DialerSet<P>,
    /// The listener's name.
    pub listener: &'a str,
    /// The sender.
    pub source: Source,
}

/// Result of the check of a cancel's key, if the key is or was valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidKey {
    /// The key identifies the server of a session.
    Live,
    /// The session of the key has ended.
    Ended,
}

/// Result of a cancel. Its sender sees only the end of the connection.
#[derive(Debug)]
pub enum CancelOutcome {
    /// Forwarded to these servers.
    Forwarded(Vec<SocketAddr>),
    /// Covered by another cancel of the same session.
    Together,
    /// Ignored, for this reason.
    Ignored(Box<dyn Error + Send + Sync>),
    /// Not delivered, for this reason.
    Failed(Box<dyn Error + Send + Sync>),
}

/// Reason why a connection ended without an answer: the peer did not speak the listener's protocol.
#[derive(Debug, thiserror::Error)]
pub enum NegotiationError {
    /// The peer closed before sending anything: a port check.
    #[error("the peer closed without a word")]
    Silent,
    /// Health check of a load balancer.
    #[error("a balancer's health check")]
    HealthCheck,
    /// A missing or invalid PROXY protocol header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A first packet with an invalid length.
    #[error("the first packet has an impossible length of {0}")]
    Length(u32),
    /// A PROXY protocol header that no listener setting announces. Holds its beginning, read as a length.
    #[error("the first packet has an impossible length of {0}")]
    UnexpectedHeader(u32),
    /// Plaintext bytes after a request for TLS.
    #[error("pre_tls_bytes: the peer sent bytes in clear ahead of the TLS handshake")]
    PreTlsBytes,
    /// More than one request for the same encryption.
    #[error("the peer asked for encryption again and again")]
    Repeated,
    /// A TLS handshake where the listener has no TLS.
    #[error("the peer began a TLS handshake at a Unix socket, which has no TLS")]
    NoTls,
    /// The TLS handshake failed.
    #[error("TLS handshake: {0}")]
    Tls(String),
    /// The TLS handshake took too long.
    #[error("the TLS handshake took longer than {} s", TLS_HANDSHAKE_TIMEOUT.as_secs())]
    TlsTimeout,
    /// No complete packet arrived in time.
    #[error("the peer said too little for too long")]
    TimedOut,
    /// TLS without a request for it and without this protocol name.
    #[error("direct TLS without ALPN protocol \"{0}\"")]
    NoAlpn(&'static str),
    /// The connection limit and the limit of refusals are reached.
    #[error("there is no place for it, and none to tell it so")]
    TooManyRefusals,
    /// The socket failed.
    #[error("{}", tls_error::describe(.0))]
    Io(io::Error),
}

impl From<io::Error> for NegotiationError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<OriginError> for NegotiationError {
    fn from(why: OriginError) -> Self {
        match why {
            OriginError::Silent => Self::Silent,
            OriginError::Header(why) => Self::Header(why),
            OriginError::Io(why) => Self::Io(why),
        }
    }
}

impl NegotiationError {
    /// True if the error can be caused by a misconfigured client, load balancer or certificate. The rest is
    /// usual for port checks and scanners.
    pub fn tells_an_operator_something(&self) -> bool {
        match self {
            Self::Header(_)
            | Self::UnexpectedHeader(_)
            | Self::PreTlsBytes
            | Self::NoTls
            | Self::Tls(_)
            | Self::TlsTimeout
            | Self::NoAlpn(_) => true,
            Self::Silent
            | Self::HealthCheck
            | Self::Length(_)
            | Self::Repeated
            | Self::TimedOut
            | Self::TooManyRefusals
            | Self::Io(_) => false,
        }
    }
}

/// Completes the client's TLS handshake within [`TLS_HANDSHAKE_TIMEOUT`]. `head` contains the bytes of its first record
/// that were already read, at most four.
pub(crate) async fn accept_tls<S>(
    stream: S,
    acceptor: &TlsAcceptor,
    head: &[u8],
) -> Result<ClientStream<S>, NegotiationError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let feed = |connection: &mut rustls::ServerConnection| {
        let mut head = head;
        // Reading from memory cannot fail, and four bytes always fit rustls's buffer.
        while !head.is_empty() && matches!(connection.read_tls(&mut head), Ok(read) if read > 0) {}
    };
    match timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept_with(ReadAhead::new(stream), feed)).await {
        Ok(Ok(tls)) => Ok(ClientStream::Tls(Box::new(tls))),
        Ok(Err(error)) => Err(NegotiationError::Tls(tls_error::describe(&error))),
        Err(_) => Err(NegotiationError::TlsTimeout),
    }
}
