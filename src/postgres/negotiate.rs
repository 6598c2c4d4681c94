//! First packets of a connection: TLS in either of its two forms, a cancel, or a startup. Every read is
//! exact, and plaintext is never taken for something sent within TLS.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::client::PendingLogin;
use super::startup::{StartupError, StartupParams};
use super::{ALPN, limits};
use crate::net::buffers::has_early_bytes;
use crate::net::client_stream::ClientStream;
use crate::postgres::cancel::key::CancelKey;
use crate::protocol::{NegotiationError, accept_tls};

/// Request codes of untagged packets (PostgreSQL manual, "Message Formats").
pub(super) const SSL_REQUEST: u32 = 80_877_103;
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

/// Reads the first packets of `stream`. Without an `acceptor` a request for TLS is declined, as PostgreSQL does on Unix
/// sockets. `plaintext_allowed` tells whether this peer may log in without TLS.
/// `stepped` is called whenever the peer has completed a step and has to take the next one: a request for
/// TLS, the handshake.
pub async fn negotiate<S>(
    mut stream: S,
    acceptor: Option<&TlsAcceptor>,
    plaintext_allowed: bool,
    stepped: impl Fn(),
) -> Result<FirstPacket<S>, NegotiationError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut gss_asked, mut tls_declined) = (false, false);
    loop {
        let head = read_head(&mut stream).await?;
        if head[0] == TLS_HANDSHAKE_RECORD {
            let acceptor = acceptor.ok_or(NegotiationError::NoTls)?;
            let stream = accept_tls(stream, acceptor, &head).await?;
            require_alpn(&stream)?;
            stepped();
            return first_packet(stream).await;
        }
        match read_packet(&mut stream, head).await? {
            PacketKind::Ssl if tls_declined => return Err(NegotiationError::Repeated),
            PacketKind::Ssl => {
                let Some(acceptor) = acceptor else {
                    tls_declined = true;
                    stream.write_all(b"N").await?;
                    stream.flush().await?;
                    continue;
                };
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
        .ok_or_else(|| impossible(length))?
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

/// Error for the length of a first packet.
fn impossible(length: u32) -> NegotiationError {
    match length {
        PROXY_1 | PROXY_2 => NegotiationError::UnexpectedHeader(length),
        _ => NegotiationError::Length(length),
    }
}

fn require_alpn<S>(stream: &ClientStream<S>) -> Result<(), NegotiationError> {
    match stream {
        ClientStream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN.as_bytes()) => Ok(()),
        _ => Err(NegotiationError::NoAlpn(ALPN)),
    }
}

#[cfg(test)]
mod tests;
