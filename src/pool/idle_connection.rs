//! A connection that nobody uses: whether the server has left it alone, how it comes to another thread, and how it
//! ends. Nothing waits for it meanwhile.

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
use crate::postgres::message::TERMINATE;

/// A connection at rest.
#[derive(Debug)]
pub(super) struct IdleConnection {
    stream: ServerStream,
    /// The server's address; `None` when the connection broke before it came here.
    server: Option<SocketAddr>,
    /// Whose runtime it is registered with: each session thread has one of its own.
    thread: ThreadId,
}

impl IdleConnection {
    /// To be called by the thread that has used it.
    pub(super) fn new(stream: ServerStream) -> Self {
        let server = stream.get_ref().0.get_ref().peer_addr().ok();
        Self { stream, server, thread: thread::current().id() }
    }

    /// Whether the server has neither said anything since, nor closed it. Asks the kernel, not the runtime, which
    /// learns of such things only when it comes to it.
    pub(super) fn is_quiet(&mut self) -> bool {
        let (socket, tls) = self.stream.get_mut();
        let decrypted = tls.process_new_packets().map(|state| state.plaintext_bytes_to_read());
        if !socket.is_empty() || !matches!(decrypted, Ok(0)) {
            return false;
        }
        let peeked = SockRef::from(socket.get_ref()).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether it leads to the server at this address.
    pub(super) fn leads_to(&self, server: SocketAddr) -> bool {
        self.server == Some(server)
    }

    /// The server's address.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// For use by the present thread: a socket is registered with one runtime for life, so another one gets it under
    /// another number.
    pub(super) fn wake(mut self) -> io::Result<ServerStream> {
        if self.thread != thread::current().id() {
            let tcp = self.stream.get_mut().0.get_mut();
            let again = SockRef::from(&*tcp).try_clone()?;
            *tcp = TcpStream::from_std(again.into())?;
        }
        Ok(self.stream)
    }

    /// Ends it as a client would, and waits until the server's process is gone, for `limit` at most. PostgreSQL leaves the
    /// socket open until the process ends, and its place is free before (`socket_close`, src/backend/libpq/pqcomm.c).
    pub(super) async fn end(self, limit: Duration) {
        let ended = async {
            let mut stream = self.wake()?;
            stream.write_all(TERMINATE).await?;
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

    /// Ends it as a client would, without waiting for anything: what little is to be said fits into the socket, or
    /// closing has to do.
    pub(super) fn terminate(mut self) {
        let (socket, tls) = self.stream.get_mut();
        let socket = SockRef::from(socket.get_ref());
        let mut socket: &Socket = &socket;
        let _ = tls.writer().write_all(TERMINATE);
        tls.send_close_notify();
        while tls.wants_write() && tls.write_tls(&mut socket).is_ok_and(|written| written > 0) {}
    }
}
