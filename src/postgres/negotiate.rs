//! First packets of a connection: TLS in either of its two forms, a cancel, or a startup. Every read is
//! exact, and plaintext is never taken for something sent within TLS.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::client::PendingLogin;
use super::limits;
use super::startup::{StartupError, StartupParams};
use crate::net::buffers::{ReadAhead, has_early_bytes};
use crate::net::client_stream::ClientStream;
use crate::net::proxy_protocol::{HeaderError, OriginError};
use crate::net::{tls, tls_error};
use crate::postgres::cancel::key::CancelKey;

/// Request codes of untagged packets (PostgreSQL manual, "Message Formats").
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// First byte of a TLS handshake record (RFC 8446, section 5.1): a client that skips the SSLRequest.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// Lengths in the first packet if it is an unexpected header of a load balancer: PROXY protocol, versions 1
/// and 2.
const PROXY_1: u32 = u32::from_be_bytes(*b"PROX");
const PROXY_2: u32 = u32::from_be_bytes(*b"\r\n\r\n");

/// Kind of a connection.
#[derive(Debug)]
pub enum FirstPacket<S> {
    /// A client that may be asked for its token.
    Login(PendingLogin<S>),
    /// A cancel request. Its sender waits until the connection is closed.
    Cancel(ClientStream<S>, CancelKey),
    /// A client that gets a refusal.
    Rejected(ClientStream<S>, StartupError),
}

/// Reason why a connection ended without an answer: the peer did not speak PostgreSQL.
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
    /// Plaintext bytes after an SSLRequest.
    #[error("pre_tls_bytes: the peer sent bytes in clear ahead of the TLS handshake")]
    PreTlsBytes,
    /// More than one SSLRequest or GSSENCRequest.
    #[error("the peer asked for encryption again and again")]
    Repeated,
    /// The TLS handshake failed.
    #[error("TLS handshake: {0}")]
    Tls(String),
    /// The TLS handshake took too long.
    #[error("the TLS handshake took longer than {} s", limits::TLS_HANDSHAKE_TIMEOUT.as_secs())]
    TlsTimeout,
    /// No complete packet arrived in time.
    #[error("the peer said too little for too long")]
    TimedOut,
    /// TLS without an SSLRequest and without the protocol name `postgresql`.
    #[error("direct TLS without ALPN protocol \"postgresql\"")]
    NoAlpn,
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

impl NegotiationError {
    /// Stable word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Silent | Self::HealthCheck => "silent",
            Self::Header(_) | Self::Length(PROXY_1 | PROXY_2) => "proxy_header",
            Self::Length(_) => "junk",
            Self::PreTlsBytes => "pre_tls_bytes",
            Self::Repeated => "repeated",
            Self::Tls(_) => "tls",
            Self::TlsTimeout => "tls_timeout",
            Self::TimedOut => "timeout",
            Self::NoAlpn => "no_alpn",
            Self::TooManyRefusals => "crowded",
            Self::Io(_) => "io",
        }
    }

    /// True if the error can be caused by a misconfigured client, load balancer or certificate. The rest is
    /// usual for port checks and scanners.
    pub fn tells_an_operator_something(&self) -> bool {
        match self {
            Self::Header(_)
            | Self::Length(PROXY_1 | PROXY_2)
            | Self::PreTlsBytes
            | Self::Tls(_)
            | Self::TlsTimeout
            | Self::NoAlpn => true,
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

impl From<OriginError> for NegotiationError {
    fn from(why: OriginError) -> Self {
        match why {
            OriginError::Silent => Self::Silent,
            OriginError::Header(why) => Self::Header(why),
            OriginError::Io(why) => Self::Io(why),
        }
    }
}

/// Reads the first packets of `stream`. `plaintext_allowed` tells whether this peer may log in without TLS.
/// `stepped` is called whenever the peer has completed a step and has to take the next one: a request for
/// TLS, the handshake.
pub async fn negotiate<S>(
    mut stream: S,
    acceptor: &TlsAcceptor,
    plaintext_allowed: bool,
    stepped: impl Fn(),
) -> Result<FirstPacket<S>, NegotiationError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut gss_asked = false;
    loop {
        let head = read_head(&mut stream).await?;
        if head[0] == TLS_HANDSHAKE_RECORD {
            let stream = accept_tls(stream, acceptor, &head).await?;
            require_alpn(&stream)?;
            stepped();
            return first_packet(stream).await;
        }
        match read_packet(&mut stream, head).await? {
            PacketKind::Ssl => {
                if has_early_bytes(&mut stream).await {
                    return Err(NegotiationError::PreTlsBytes);
                }
                stream.write_all(b"S").await?;
                stream.flush().await?;
                stepped();
                let stream = accept_tls(stream, acceptor, &[]).await?;
                stepped();
                return first_packet(stream).await;
            }
            PacketKind::GssEnc if gss_asked => return Err(NegotiationError::Repeated),
            PacketKind::GssEnc => {
                gss_asked = true;
                stream.write_all(b"N").await?;
                stream.flush().await?;
            }
            PacketKind::Cancel(key) => return Ok(FirstPacket::Cancel(ClientStream::Plain(stream), key)),
            PacketKind::Startup(packet) => {
                let stream = ClientStream::Plain(stream);
                // The packet is not parsed: without TLS the only answer is to require it.
                return Ok(if plaintext_allowed {
                    startup(stream, &packet)
                } else {
                    FirstPacket::Rejected(stream, StartupError::TlsRequired)
                });
            }
        }
    }
}

/// Reads the first packet within TLS: a startup or a cancel. PostgreSQL treats another request for encryption
/// as an unknown protocol version.
async fn first_packet<S>(mut stream: ClientStream<S>) -> Result<FirstPacket<S>, NegotiationError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = read_head(&mut stream).await?;
    Ok(match read_packet(&mut stream, head).await? {
        PacketKind::Cancel(key) => FirstPacket::Cancel(stream, key),
        PacketKind::Startup(packet) => startup(stream, &packet),
        PacketKind::Ssl => startup(stream, &SSL_REQUEST.to_be_bytes()),
        PacketKind::GssEnc => startup(stream, &GSSENC_REQUEST.to_be_bytes()),
    })
}

fn startup<S>(stream: ClientStream<S>, packet: &[u8]) -> FirstPacket<S> {
    match StartupParams::parse(packet) {
        Ok(startup) => FirstPacket::Login(PendingLogin { stream, startup, open_exchange: None }),
        Err(error) => FirstPacket::Rejected(stream, error),
    }
}

enum PacketKind {
    Ssl,
    GssEnc,
    Cancel(CancelKey),
    /// Everything after the length field.
    Startup(Vec<u8>),
}

/// Reads four bytes: a length, or the beginning of a TLS record.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; 4], NegotiationError> {
    let mut head = [0; 4];
    let read = stream.read(&mut head).await?;
    if read == 0 {
        return Err(NegotiationError::Silent);
    }
    if let Some(rest) = head.get_mut(read..) {
        stream.read_exact(rest).await?;
    }
    Ok(head)
}

async fn read_packet<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: [u8; 4],
) -> Result<PacketKind, NegotiationError> {
    let length = u32::from_be_bytes(head);
    let body = usize::try_from(length)
        .ok()
        .filter(|length| (8..=limits::MAX_STARTUP_LENGTH).contains(length))
        .ok_or(NegotiationError::Length(length))?
        - 4;
    let mut code = [0; 4];
    stream.read_exact(&mut code).await?;
    let (code, whole) = (u32::from_be_bytes(code), body + 4);
    match code {
        SSL_REQUEST if whole == 8 => Ok(PacketKind::Ssl),
        GSSENC_REQUEST if whole == 8 => Ok(PacketKind::GssEnc),
        CANCEL_REQUEST if limits::CANCEL_LENGTHS.contains(&whole) => {
            let pid = stream.read_i32().await?;
            let mut secret = vec![0; whole - 12];
            stream.read_exact(&mut secret).await?;
            Ok(PacketKind::Cancel(CancelKey::new(pid, secret)))
        }
        SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST => Err(NegotiationError::Length(length)),
        code => {
            let mut packet = vec![0; body];
            let (version, rest) = packet.split_at_mut(4);
            version.copy_from_slice(&code.to_be_bytes());
            stream.read_exact(rest).await?;
            Ok(PacketKind::Startup(packet))
        }
    }
}

/// Completes the handshake. `head` contains the bytes of its first record that were already read.
async fn accept_tls<S>(
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
    match timeout(limits::TLS_HANDSHAKE_TIMEOUT, acceptor.accept_with(ReadAhead::new(stream), feed)).await {
        Ok(Ok(tls)) => Ok(ClientStream::Tls(Box::new(tls))),
        Ok(Err(error)) => Err(NegotiationError::Tls(tls_error::describe(&error))),
        Err(_) => Err(NegotiationError::TlsTimeout),
    }
}

fn require_alpn<S>(stream: &ClientStream<S>) -> Result<(), NegotiationError> {
    match stream {
        ClientStream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(tls::ALPN) => Ok(()),
        _ => Err(NegotiationError::NoAlpn),
    }
}

#[cfg(test)]
mod tests;
