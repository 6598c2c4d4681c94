//! Filter on the client's side of a session whose server is kept: withholds Terminate.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::frames::Frames;
use super::message::TERMINATE;
use crate::net::socket::OverTcp;
use crate::protocol::{ByteStream, ClientEnd};

/// Reads a client up to its Terminate, if it ends with one.
#[derive(Debug)]
pub struct TerminateFilter<C> {
    client: C,
    /// Framing of the client's messages; `None` if every byte is passed on.
    frames: Option<Frames>,
    goodbye: bool,
}

impl<C> TerminateFilter<C> {
    /// Wraps a client. `keep` is true if its server connection may be kept.
    pub fn new(client: C, keep: bool) -> Self {
        Self { client, frames: keep.then(Frames::default), goodbye: false }
    }
}

impl<C: ByteStream> ClientEnd<C> for TerminateFilter<C> {
    fn take_permission_to_keep(&mut self) -> bool {
        self.frames.take().is_some()
    }

    fn saw_terminate(&self) -> bool {
        self.goodbye
    }

    fn get_mut(&mut self) -> &mut C {
        &mut self.client
    }
}

impl<C: OverTcp> OverTcp for TerminateFilter<C> {
    fn tcp(&self) -> Option<&TcpStream> {
        self.client.tcp()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for TerminateFilter<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goodbye {
            return Poll::Ready(Ok(())); // its end, whatever comes behind
        }
        let before = space.filled().len();
        let read = ready!(Pin::new(&mut self.client).poll_read(cx, space));
        let this = &mut *self;
        if let (Ok(()), Some(frames)) = (&read, &mut this.frames) {
            let mut last = 0;
            let new = space.filled().get(before..).unwrap_or_default();
            frames.feed(new, |tag, _| last = tag);
            // Only a complete Terminate at the end of a read; one that arrives in pieces is forwarded.
            if last == b'X' && frames.at_boundary() && new.ends_with(TERMINATE) {
                this.goodbye = true;
                space.set_filled(space.filled().len() - TERMINATE.len());
            }
        }
        Poll::Ready(read)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for TerminateFilter<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.client.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(cx)
    }
}
