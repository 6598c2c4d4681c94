//! A listening socket of either kind, and the clients that it accepts.

use std::io;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::unix_socket::SocketFile;
use crate::config::ListenAddr;
use crate::names::client_addr::ClientAddr;
use crate::net::client_socket::{ClientSocket, peer_process};

/// A listening socket.
#[derive(Debug)]
pub(crate) enum ClientListener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, with its file unless the service manager owns it.
    Unix(UnixListener, Option<SocketFile>),
}

impl ClientListener {
    /// Accepts a client, once one waits.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(ClientSocket, ClientAddr)>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map(|accepted| accepted.map(of_tcp)),
            Self::Unix(listener, _) => {
                listener.poll_accept(cx).map(|accepted| accepted.and_then(|(unix, _)| of_unix(unix)))
            }
        }
    }

    /// Local address.
    pub(super) fn addr(&self) -> io::Result<ListenAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddr::Tcp),
            Self::Unix(listener, _) => {
                let addr = listener.local_addr()?;
                Ok(ListenAddr::Unix(addr.as_pathname().map(Into::into).unwrap_or_default()))
            }
        }
    }

    /// Accepts waiting clients, at most `most`, until the queue is empty, and closes the socket.
    pub(super) fn into_waiting(self, most: usize) -> io::Result<Vec<(ClientSocket, ClientAddr)>> {
        match self {
            // Polls the kernel, because the runtime may not know about the last clients yet.
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                waiting(most, || {
                    let (client, peer) = listener.accept()?;
                    client.set_nonblocking(true)?;
                    Ok(of_tcp((client.try_into()?, peer)))
                })
            }
            Self::Unix(listener, file) => {
                drop(file); // from here on clients find no socket
                let listener = listener.into_std()?;
                // A client that found the socket before is refused from here on, and those in the queue are kept.
                SockRef::from(&listener).shutdown(std::net::Shutdown::Read)?;
                waiting(most, || {
                    let (client, _) = listener.accept()?;
                    client.set_nonblocking(true)?;
                    of_unix(client.try_into()?)
                })
            }
        }
    }
}

fn of_tcp((tcp, peer): (tokio::net::TcpStream, std::net::SocketAddr)) -> (ClientSocket, ClientAddr) {
    (ClientSocket::Tcp(tcp), peer.into())
}

fn of_unix(unix: UnixStream) -> io::Result<(ClientSocket, ClientAddr)> {
    let peer = peer_process(&unix)?;
    Ok((ClientSocket::Unix(unix), ClientAddr::Unix(peer)))
}

fn waiting<C>(most: usize, accept: impl Fn() -> io::Result<C>) -> io::Result<Vec<C>> {
    let mut waiting = Vec::new();
    while waiting.len() < most {
        match accept() {
            Ok(client) => waiting.push(client),
            // A Unix socket that is shut down answers so when its queue is empty.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput) => {
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(waiting)
}
