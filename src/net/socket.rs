//! Socket options for both legs of a session.

use std::io;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::limits;

/// A connection that may use a TCP socket.
pub trait OverTcp {
    /// The socket, if any.
    fn tcp(&self) -> Option<&TcpStream>;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl<S: OverTcp> OverTcp for client::TlsStream<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        self.get_ref().0.tcp()
    }
}

impl<S: OverTcp> OverTcp for server::TlsStream<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        self.get_ref().0.tcp()
    }
}

impl<S: OverTcp> OverTcp for Box<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        self.as_ref().tcp()
    }
}

impl<S: OverTcp> OverTcp for &mut S {
    fn tcp(&self) -> Option<&TcpStream> {
        (**self).tcp()
    }
}

sockopt_impl!(
    /// The receive low-water mark (socket(7), `SO_RCVLOWAT`).
    ReceiveLowWater,
    Both,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    usize
);

/// Sets the number of bytes at which a reader is woken; the end of the stream wakes it too, and bytes that
/// are already there wake it at once (Linux 4.18 and newer). The kernel uses a smaller number if its buffer
/// cannot hold twice as much.
pub fn wake_at(tcp: &TcpStream, bytes: usize) {
    // Fails only on a closed connection, which wakes the reader anyway.
    let _ = setsockopt(tcp, ReceiveLowWater, &bytes);
}

/// Disables Nagle's algorithm and enables detection of a dead peer within about 90 s, with or without pending
/// data.
pub fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(limits::KEEPALIVE_IDLE)
        .with_interval(limits::KEEPALIVE_INTERVAL)
        .with_retries(limits::KEEPALIVE_RETRIES);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(limits::TCP_USER_TIMEOUT))
}

#[cfg(test)]
impl OverTcp for tokio::io::DuplexStream {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// Number of bytes at which a reader is woken.
#[cfg(test)]
pub fn wakes_at(tcp: &impl std::os::fd::AsFd) -> io::Result<usize> {
    Ok(nix::sys::socket::getsockopt(tcp, ReceiveLowWater)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn r3_the_kernel_is_told_when_a_silent_peer_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&tcp).unwrap();
        let socket = SockRef::from(&tcp);
        assert!(tcp.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_mins(1));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(90)));
    }
}
