//! Listening sockets, and closing them without losing clients in their queues.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::time::Instant;

use super::client_listener::ClientListener;
use super::unix_socket::{SocketFile, SocketFileError};
use crate::config::{ListenAddr, UnixSocketSettings};
use crate::names::client_addr::ClientAddr;
use crate::net::client_socket::ClientSocket;

/// Length of the kernel's accept queue; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 1_024;

/// Most clients taken from the queue of a closing socket: its capacity, but no later arrivals.
const MAX_WAITING: usize = 1_024;

/// Time for which a socket is served after it has stopped accepting new handshakes: pending handshakes
/// complete within a round trip. A client whose SYN is dropped meanwhile repeats it after one second (RFC
/// 6298, section 2.1), when the socket is closed and the successor's, if any, answers.
const LAST_HANDSHAKES: Duration = Duration::from_millis(500);

/// A listening socket.
#[derive(Debug)]
pub struct ListeningSocket {
    pub(crate) listener: ClientListener,
    handover: SocketHandover,
    /// Time at which the socket closes or starts to drop new handshakes. Set once the service stops.
    pub(crate) closes_at: Option<Instant>,
    /// True if new handshakes are dropped first, while pending ones complete.
    delayed: bool,
}

/// Successor on the port after this process stops listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketHandover {
    /// No successor.
    None,
    /// Another process with its own socket on the same port (`SO_REUSEPORT`).
    OtherSocket,
    /// The service manager keeps this socket and the clients in its queue.
    SameSocket,
}

impl ListeningSocket {
    fn new(listener: ClientListener, handover: SocketHandover) -> Self {
        Self { listener, handover, closes_at: None, delayed: false }
    }

    /// Listens on `addr`; with `reuse_port`, next to other processes of this user that do the same.
    pub fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(reuse_port)?;
        socket.bind(addr)?;
        let handover = if reuse_port { SocketHandover::OtherSocket } else { SocketHandover::None };
        Ok(Self::new(ClientListener::Tcp(socket.listen(BACKLOG)?), handover))
    }

    /// Listens on a Unix socket at `path`.
    pub fn bind_unix(path: &Path, settings: &UnixSocketSettings) -> Result<Self, SocketFileError> {
        let (listener, file) = SocketFile::listen(path, settings, BACKLOG.cast_signed())?;
        let listener = ClientListener::Unix(UnixListener::from_std(listener)?, Some(file));
        Ok(Self::new(listener, SocketHandover::None))
    }

    /// Wraps a socket on which the service manager listens for this process.
    pub fn inherited(socket: InheritedSocket) -> io::Result<Self> {
        let listener = match socket {
            InheritedSocket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                ClientListener::Tcp(TcpListener::from_std(socket)?)
            }
            InheritedSocket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                ClientListener::Unix(UnixListener::from_std(socket)?, None)
            }
        };
        Ok(Self::new(listener, SocketHandover::SameSocket))
    }

    /// Local address.
    pub fn addr(&self) -> io::Result<ListenAddr> {
        self.listener.addr()
    }

    /// Starts closing. Without a successor the socket accepts clients for `delay`. With a successor it stops
    /// as soon as no connection can be lost between the two.
    pub(crate) fn close_after(&mut self, delay: Duration) {
        let now = Instant::now();
        match self.handover {
            SocketHandover::OtherSocket => self.finish_handshakes(now),
            SocketHandover::SameSocket => self.closes_at = Some(now),
            SocketHandover::None => (self.closes_at, self.delayed) = (Some(now + delay), !delay.is_zero()),
        }
    }

    /// Continues closing. Returns true if it is time to close.
    pub(crate) fn proceed(&mut self, now: Instant) -> bool {
        if self.closes_at.is_none_or(|at| at > now) {
            return false;
        }
        let delayed = std::mem::take(&mut self.delayed);
        if delayed {
            self.finish_handshakes(now);
        }
        !delayed
    }

    fn finish_handshakes(&mut self, now: Instant) {
        self.drop_syns();
        self.closes_at = Some(now + LAST_HANDSHAKES);
    }

    /// Closes the socket and returns the clients that the kernel has connected and that would otherwise be
    /// lost. A socket that the service manager keeps loses no clients.
    pub(crate) fn into_waiting(self) -> io::Result<Vec<(ClientSocket, ClientAddr)>> {
        if self.handover == SocketHandover::SameSocket {
            return Ok(Vec::new());
        }
        self.drop_syns();
        self.listener.into_waiting(MAX_WAITING)
    }

    /// Stops handshakes of TCP. A Unix socket has none.
    fn drop_syns(&self) {
        if let ClientListener::Tcp(listener) = &self.listener {
            drop_syns(listener);
        }
    }
}

/// A listening socket of the service manager.
#[derive(Debug)]
pub enum InheritedSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket, whose file the service manager keeps.
    Unix(std::os::unix::net::UnixListener),
}

/// Makes the kernel drop every SYN for this socket. When a socket is closed, the kernel resets all
/// connections in its queue or about to enter it, so no new ones may arrive.
fn drop_syns(socket: &TcpListener) {
    // Classic BPF on the TCP header (linux/filter.h): byte 13 has the flags (RFC 9293, section 3.1), 0x02 is SYN.
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let attached = SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]);
    if let Err(error) = attached {
        tracing::warn!(%error, "connections that arrive while the listener closes may be reset");
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::time::{sleep_until, timeout};

    use super::*;

    const ROUNDS: usize = 5;

    /// Four clients connect as fast as they can; each expects one byte.
    fn crowd(
        addr: SocketAddr,
        over: &Arc<AtomicBool>,
        served: &Arc<AtomicUsize>,
    ) -> Vec<std::thread::JoinHandle<io::Result<()>>> {
        let client = |_| {
            let (over, served) = (Arc::clone(over), Arc::clone(served));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::net::TcpStream::connect(addr)?.read_exact(&mut [0])?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        (0..4).map(client).collect()
    }

    fn serve(client: ClientSocket) {
        let ClientSocket::Tcp(client) = client else { panic!("{client:?}") };
        client.into_std().unwrap().write_all(b"x").unwrap();
    }

    /// Serves one client, if one arrives soon.
    async fn accept(socket: &ListeningSocket) {
        if let Ok(accepted) =
            timeout(Duration::from_millis(5), poll_fn(|cx| socket.listener.poll_accept(cx))).await
        {
            serve(accepted.unwrap().0);
        }
    }

    /// All clients in the queue are found when it closes, up to its capacity.
    #[tokio::test]
    async fn r25_every_connection_in_the_queue_is_accepted() {
        for (handover, found) in
            [(SocketHandover::None, 7), (SocketHandover::OtherSocket, 7), (SocketHandover::SameSocket, 0)]
        {
            let socket = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
            let socket = ListeningSocket { handover, ..socket };
            let addr = socket.addr().unwrap().tcp().unwrap();
            // No turn of the runtime in between.
            let clients: Vec<_> = (0..7).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
            let waiting = socket.into_waiting().unwrap();
            assert_eq!(waiting.len(), found, "{handover:?}");
            for (client, peer) in waiting {
                assert!(clients.iter().any(|known| ClientAddr::Tcp(known.local_addr().unwrap()) == peer));
                serve(client);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn r25_between_two_sockets_on_one_port_no_connection_is_lost() {
        let mut old = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let addr = old.addr().unwrap().tcp().unwrap();
        let (over, served) = (Arc::default(), Arc::default());
        let clients = crowd(addr, &over, &served);
        for _ in 0..ROUNDS {
            let new = Arc::new(ListeningSocket::bind(addr, true).unwrap());
            let successor = Arc::clone(&new);
            let serving = tokio::spawn(async move {
                loop {
                    accept(&successor).await;
                }
            });
            old.close_after(Duration::from_hours(1));
            let closes = old.closes_at.unwrap();
            while Instant::now() < closes {
                tokio::select! {
                    () = accept(&old) => {}
                    () = sleep_until(closes) => {}
                }
            }
            for (client, _) in old.into_waiting().unwrap() {
                serve(client);
            }
            let before = served.load(Ordering::Relaxed);
            while served.load(Ordering::Relaxed) < before + 100
                && !clients.iter().any(std::thread::JoinHandle::is_finished)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            serving.abort();
            let _ = serving.await;
            old = Arc::into_inner(new).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        let last = tokio::spawn(async move {
            loop {
                accept(&old).await;
            }
        });
        for client in clients {
            let ended = tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
            ended.expect("nobody is refused or reset");
        }
        last.abort();
    }
}
