//! An idle server connection: check for activity of the server, transfer to another thread's runtime, and
//! termination. No task waits on it while it is idle.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::thread::{self, ThreadId};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::dial::ServerStream;

/// An idle connection.
#[derive(Debug)]
pub(super) struct IdleConnection {
    stream: ServerStream,
    /// Address of the server; `None` if the connection broke before it was returned.
    server: Option<SocketAddr>,
    /// Thread whose runtime the socket is registered with.
    thread: ThreadId,
}

impl IdleConnection {
    /// Call on the thread that used the connection.
    pub(super) fn new(stream: ServerStream) -> Self {
        let server = stream.get_ref().0.get_ref().peer_addr().ok();
        Self { stream, server, thread: thread::current().id() }
    }

    /// True if the server has sent nothing and has not closed the connection. Asks the kernel, because the
    /// runtime learns of events only when it polls.
    pub(super) fn is_quiet(&mut self) -> bool {
        let (socket, tls) = self.stream.get_mut();
        let decrypted = tls.process_new_packets().map(|state| state.plaintext_bytes_to_read());
        if !socket.is_empty() || !matches!(decrypted, Ok(0)) {
            return false;
        }
        let peeked = SockRef::from(socket.get_ref()).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// True if the connection is to this address.
    pub(super) fn leads_to(&self, server: SocketAddr) -> bool {
        self.server == Some(server)
    }

    /// Address of the server.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// Prepares the connection for the current thread. A socket stays registered with one runtime for life,
    /// so another runtime gets a duplicate of the file descriptor.
    pub(super) fn wake(mut self) -> io::Result<ServerStream> {
        if self.thread != thread::current().id() {
            let tcp = self.stream.get_mut().0.get_mut();
            let again = SockRef::from(&*tcp).try_clone()?;
            *tcp = TcpStream::from_std(again.into())?;
        }
        Ok(self.stream)
    }

    /// Sends Terminate and waits until the server's process has ended, for `limit` at most. PostgreSQL keeps the
    /// socket open until the process ends, and its connection slot is free before that (`socket_close`,
    /// src/backend/libpq/pqcomm.c).
    pub(super) async fn end(self, goodbye: &[u8], limit: Duration) {
        let ended = async {
            let mut stream = self.wake()?;
            stream.write_all(goodbye).await?;
            stream.flush().await?;
            let mut scratch = [0; 512];
            // TLS ends before the connection does.
            while stream.read(&mut scratch).await.is_ok_and(|read| read > 0) {}
            let tcp = stream.get_mut().0.get_mut();
            while tcp.read(&mut scratch).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(limit, ended).await; // a server that is gone has no place to free
    }

    /// Sends Terminate without waiting. The few bytes fit into the socket buffer; otherwise closing has to
    /// suffice.
    pub(super) fn terminate(mut self, goodbye: &[u8]) {
        let (socket, tls) = self.stream.get_mut();
        let socket = SockRef::from(socket.get_ref());
        let mut socket: &Socket = &socket;
        let _ = tls.writer().write_all(goodbye);
        tls.send_close_notify();
        while tls.wants_write() && tls.write_tls(&mut socket).is_ok_and(|written| written > 0) {}
    }
}
