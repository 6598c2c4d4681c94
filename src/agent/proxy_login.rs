//! The way to the proxy: TLS that is always verified, and the login with the person's token.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::framing::{WireMessage, length, message, read};
use crate::names::Endpoint;
use crate::net::address::{race, resolve};
use crate::net::dial::DialError;
use crate::net::resolver::Resolver;
use crate::net::socket;
use crate::net::tls::{TlsSetupError, upstream_config};
use crate::net::tls_error::describe;
use crate::secret::Jwt;

/// ALPN protocol name of direct TLS (PostgreSQL 17, `PG_ALPN_PROTOCOL`).
const ALPN: &[u8] = b"postgresql";

/// Longest time for name, TCP and TLS.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(15);

/// Longest time for the login: the proxy asks STS and the database, which may be paused.
pub(super) const LOGIN_TIME: Duration = Duration::from_secs(90);

/// Longest time of a cancel, answer included.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// Longest message of a login, and all of them together, in bytes. libpq reads errors of at most 30,000 bytes.
const MAX_MESSAGE: usize = 32_768;
const MAX_GREETING: usize = 262_144;

/// Methods of the Authentication messages (PostgreSQL manual, "Message Formats").
const OK: u32 = 0;
const CLEARTEXT_PASSWORD: u32 = 3;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;

/// A verified connection to the proxy.
pub(super) type ProxyStream = TlsStream<TcpStream>;

/// The proxy, and the authorities that its certificate is verified against.
pub struct ProxyAddress {
    endpoint: Endpoint,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    resolver: Resolver,
}

impl std::fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyAddress").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The proxy's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyAddressError {
    /// The authorities cannot be read.
    #[error("ca_file")]
    Authorities(#[from] TlsSetupError),
    /// No certificate can be for this name.
    #[error("proxy: {0} is not a name that a certificate can have")]
    Name(String),
}

/// Reasons why there is no session at the proxy.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyLoginError {
    /// Name, TCP, or no time left.
    #[error("{endpoint}: {problem}")]
    Unreachable { endpoint: String, problem: String },
    /// The TLS handshake failed: another certificate or name, or no TLS at all.
    #[error("{endpoint} is not trusted: {problem}")]
    Untrusted { endpoint: String, problem: String },
    /// The connection broke, or what came is not PostgreSQL's protocol.
    #[error("{endpoint} ended the login: {problem}")]
    Broken { endpoint: String, problem: String },
    /// The server asks for something that is no token.
    #[error("{endpoint} asks for something else than a token, so it is not a pgpassport proxy")]
    OtherMethod { endpoint: String },
    /// The proxy offers other features than the tool was told of.
    #[error("{endpoint} has other features than before")]
    Changed { endpoint: String },
    /// The proxy's own error, whole, which is passed on as it is.
    #[error("the proxy refuses the login")]
    Refused(Vec<u8>),
}

impl ProxyLoginError {
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Check the network and the VPN, and proxy in the profile.",
            Self::Untrusted { .. } => {
                "Check proxy and ca_file in the profile. If they are right, tell your administrators: the answer comes \
                 from another server."
            }
            Self::Broken { .. } => "Try again. If it goes on, ask the proxy's administrators for its log.",
            Self::OtherMethod { .. } => "Check proxy and protocol in the profile.",
            Self::Changed { .. } => "Connect again.",
            Self::Refused(_) => "Read the proxy's message.",
        }
    }
}

/// A session at the proxy, at its first ReadyForQuery.
pub(super) struct ProxySession {
    pub(super) stream: ProxyStream,
    /// Everything the tool has to hear, from AuthenticationOk to ReadyForQuery.
    pub(super) greeting: Vec<u8>,
    /// Body of the BackendKeyData.
    pub(super) key: Option<Vec<u8>>,
}

impl ProxyAddress {
    /// The proxy at `endpoint`, which speaks PostgreSQL. Its certificate is verified against `ca_file`, or the system's
    /// authorities.
    pub fn new(
        endpoint: Endpoint,
        ca_file: Option<&Path>,
        resolver: Resolver,
    ) -> Result<Self, ProxyAddressError> {
        Self::with_alpn(endpoint, ca_file, resolver, Some(ALPN))
    }

    /// As [`ProxyAddress::new`], for a proxy that speaks MySQL.
    pub fn for_mysql(
        endpoint: Endpoint,
        ca_file: Option<&Path>,
        resolver: Resolver,
    ) -> Result<Self, ProxyAddressError> {
        Self::with_alpn(endpoint, ca_file, resolver, None)
    }

    fn with_alpn(
        endpoint: Endpoint,
        ca_file: Option<&Path>,
        resolver: Resolver,
        alpn: Option<&[u8]>,
    ) -> Result<Self, ProxyAddressError> {
        let tls = Arc::new(upstream_config(ca_file, alpn)?);
        let server_name = ServerName::try_from(endpoint.host().to_owned())
            .map_err(|_| ProxyAddressError::Name(endpoint.host().to_owned()))?;
        Ok(Self { endpoint, server_name, tls, resolver })
    }

    /// Connects, and logs in with `token`. `startup` is the whole StartupMessage.
    pub(super) async fn log_in(&self, startup: &[u8], token: &Jwt) -> Result<ProxySession, ProxyLoginError> {
        let stream = self.connect().await?;
        let deadline = Instant::now() + LOGIN_TIME;
        match timeout_at(deadline, self.exchange(stream, startup, token)).await {
            Ok(session) => session,
            Err(_) => Err(self.broken(&late_answer())),
        }
    }

    /// Passes a cancel on, and waits until the proxy has read it: it answers by closing.
    pub(super) async fn cancel(&self, key: &[u8]) -> Result<(), ProxyLoginError> {
        let mut stream = self.connect().await?;
        let body = [&[0x04, 0xd2, 0x16, 0x2e][..], key].concat();
        let packet = [&length(body.len())[..], &body].concat();
        let deliver = async {
            stream.write_all(&packet).await?;
            stream.flush().await?;
            copy(&mut stream, &mut sink()).await
        };
        match timeout_at(Instant::now() + CANCEL_TIME, deliver).await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(self.broken(&error)),
            _ => Ok(()),
        }
    }

    /// A TLS connection whose certificate is verified for the proxy's name.
    async fn connect(&self) -> Result<ProxyStream, ProxyLoginError> {
        let deadline = Instant::now() + CONNECT_TIME;
        let tcp = self.reach(deadline).await?;
        self.secure(tcp, deadline).await
    }

    /// A TCP connection.
    pub(super) async fn reach(&self, deadline: Instant) -> Result<TcpStream, ProxyLoginError> {
        let host = (self.endpoint.host(), self.endpoint.port());
        let unreachable = |error| self.unreachable(&error);
        let mut addresses = resolve(&self.resolver, host, deadline).await.map_err(unreachable)?;
        let (tcp, _) = race(&mut addresses, deadline, |_, _| {}).await.map_err(unreachable)?;
        socket::tune(&tcp).map_err(|error| self.broken(&error))?;
        Ok(tcp)
    }

    /// TLS on a connection, verified for the proxy's name.
    pub(super) async fn secure(
        &self,
        tcp: TcpStream,
        deadline: Instant,
    ) -> Result<ProxyStream, ProxyLoginError> {
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(self.server_name.clone(), tcp);
        match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                Err(ProxyLoginError::Untrusted { endpoint: self.name(), problem: describe(&error) })
            }
            Err(_) => Err(self.unreachable(&DialError::TimedOut)),
        }
    }

    fn unreachable(&self, error: &DialError) -> ProxyLoginError {
        let problem = match error {
            DialError::TimedOut => "no connection in time".to_owned(),
            error => error.to_string(),
        };
        ProxyLoginError::Unreachable { endpoint: self.name(), problem }
    }

    /// Host and port, for messages.
    pub(super) fn name(&self) -> String {
        self.endpoint.to_string()
    }

    async fn exchange(
        &self,
        mut stream: ProxyStream,
        startup: &[u8],
        token: &Jwt,
    ) -> Result<ProxySession, ProxyLoginError> {
        let broken = |error: io::Error| self.broken(&error);
        stream.write_all(startup).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let (mut greeting, mut key, mut is_in) = (Vec::new(), None, false);
        loop {
            let message = read(&mut stream, MAX_MESSAGE).await.map_err(broken)?;
            match (message.tag, is_in) {
                (b'E', _) => return Err(ProxyLoginError::Refused(message.bytes())),
                (b'R', false) => {
                    is_in = self.answer(&mut stream, &message, token).await?;
                    if is_in {
                        greeting.extend(message.bytes());
                    }
                }
                (b'N', _) | (b'S', true) => greeting.extend(message.bytes()),
                (b'K', true) => {
                    greeting.extend(message.bytes());
                    key = Some(message.body.clone());
                }
                (b'Z', true) => {
                    greeting.extend(message.bytes());
                    return Ok(ProxySession { stream, greeting, key });
                }
                (tag, _) => return Err(self.broken(&unexpected(tag))),
            }
            if greeting.len() > MAX_GREETING {
                return Err(self.broken(&io::Error::other("it says too much")));
            }
        }
    }

    /// Answers an Authentication message. Whether it was AuthenticationOk. The token is given only to a server that asks
    /// for one: as a clear password, or by OAUTHBEARER (RFC 7628).
    async fn answer(
        &self,
        stream: &mut ProxyStream,
        question: &WireMessage,
        token: &Jwt,
    ) -> Result<bool, ProxyLoginError> {
        let other = || ProxyLoginError::OtherMethod { endpoint: self.endpoint.to_string() };
        let (method, rest) = question.body.split_first_chunk::<4>().ok_or_else(other)?;
        let body = match u32::from_be_bytes(*method) {
            OK => return Ok(true),
            CLEARTEXT_PASSWORD => Zeroizing::new([token.expose(), b"\0"].concat()),
            SASL if rest.split(|byte| *byte == 0).any(|offered| offered == b"OAUTHBEARER") => {
                let bearer = Zeroizing::new([b"n,,\x01auth=Bearer ", token.expose(), b"\x01\x01"].concat());
                let size = u32::try_from(bearer.len()).unwrap_or(u32::MAX).to_be_bytes();
                Zeroizing::new([b"OAUTHBEARER\0", &size[..], &bearer].concat())
            }
            SASL_CONTINUE => Zeroizing::new(vec![1]), // the refusal follows (RFC 7628, section 3.2.3)
            _ => return Err(other()),
        };
        let answer = Zeroizing::new(message(b'p', &body));
        stream.write_all(&answer).await.map_err(|error| self.broken(&error))?;
        stream.flush().await.map_err(|error| self.broken(&error))?;
        Ok(false)
    }

    pub(super) fn broken(&self, error: &io::Error) -> ProxyLoginError {
        let problem = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        };
        ProxyLoginError::Broken { endpoint: self.endpoint.to_string(), problem }
    }
}

/// The error of a proxy that does not finish the login.
pub(super) fn late_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", LOGIN_TIME.as_secs()))
}

fn unexpected(tag: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected message {:?}", char::from(tag)))
}
