//! The client's connection after negotiation: TLS, or plain from loopback.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::buffers::ReadAhead;
use super::certificate;
use super::socket::OverTcp;
use super::tls;

/// Size of a read of bytes that are discarded.
const SCRATCH_BYTES: usize = 1024;

/// A connection to a client.
#[derive(Debug)]
pub enum ClientStream<S> {
    /// A TLS connection.
    Tls(Box<TlsStream<ReadAhead<S>>>),
    /// A plaintext connection. Passwords are requested on it only if the configuration allows it for
    /// loopback.
    Plain(S),
}

impl<S> ClientStream<S> {
    /// TLS version; `None` on a plaintext connection.
    pub fn tls_version(&self) -> Option<&'static str> {
        match self {
            Self::Tls(stream) => Some(tls::version_name(stream.get_ref().1.protocol_version())),
            Self::Plain(_) => None,
        }
    }

    /// Server name in the client's TLS handshake (SNI, RFC 6066 section 3).
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Tls(tls) => tls.get_ref().1.server_name(),
            Self::Plain(_) => None,
        }
    }

    /// Subject of the client's certificate, verified in the handshake.
    pub fn client_certificate(&self) -> Option<String> {
        match self {
            Self::Tls(tls) => tls.get_ref().1.peer_certificates()?.first().map(certificate::subject),
            Self::Plain(_) => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientStream<S> {
    /// Writes `last`, closes this side, and discards at most `limit` bytes until the client closes, too. The kernel
    /// answers a close with unread bytes by a reset, which can overtake `last`.
    pub async fn close_with(&mut self, last: &[u8], limit: usize) -> io::Result<()> {
        self.write_all(last).await?;
        self.flush().await?;
        self.shutdown().await?;
        let mut scratch = [0; SCRATCH_BYTES];
        let mut left = limit;
        while left > 0 {
            match self.read(&mut scratch).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }
}

impl<S: OverTcp> OverTcp for ClientStream<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tls(tls) => tls.tcp(),
            Self::Plain(plain) => plain.tcp(),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Tls(tls) => {
                let $stream = Pin::new(tls.as_mut());
                $call
            }
            ClientStream::Plain(plain) => {
                let $stream = Pin::new(plain);
                $call
            }
        }
    };
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}
