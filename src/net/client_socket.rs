//! The client's socket: TCP, or a Unix socket of this machine.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::socket::{self, OverTcp};
use crate::names::client_addr::PeerProcess;

/// A connection of a client, before TLS.
#[derive(Debug)]
pub enum ClientSocket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl ClientSocket {
    /// Registers the socket with the current runtime.
    pub fn reregister(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(tcp) => Self::Tcp(TcpStream::from_std(tcp.into_std()?)?),
            Self::Unix(unix) => Self::Unix(UnixStream::from_std(unix.into_std()?)?),
        })
    }

    /// Sets the options of [`socket::tune`]. A Unix socket needs none: the kernel knows when its peer is gone.
    pub fn tune(&self) -> io::Result<()> {
        self.tcp().map_or(Ok(()), socket::tune)
    }
}

impl OverTcp for ClientSocket {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Unix(_) => None,
        }
    }
}

/// The process that connected to a Unix socket.
pub fn peer_process(unix: &UnixStream) -> io::Result<PeerProcess> {
    let peer = unix.peer_cred()?;
    Ok(PeerProcess { uid: peer.uid(), gid: peer.gid(), pid: peer.pid().filter(|pid| *pid > 0) })
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            ClientSocket::Tcp(tcp) => {
                let $stream = Pin::new(tcp);
                $call
            }
            ClientSocket::Unix(unix) => {
                let $stream = Pin::new(unix);
                $call
            }
        }
    };
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true // both kinds are
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}
