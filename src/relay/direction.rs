//! One direction of a session: from a reader to a writer, with back-pressure. It reads again only when all it
//! has read was taken, so that it never holds more than one buffer.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;

use crate::net::buffers::Buffer;

/// Reason why one direction cannot continue.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

#[derive(Debug)]
pub(super) enum CopyState {
    Open,
    /// The reader has ended or broken; bytes read before are sent first.
    Ended(Option<io::Error>),
    /// Everything was sent.
    Done,
    /// The writer has failed.
    Broken,
}

/// Result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadState {
    /// There may be more bytes.
    More,
    /// The reader is empty and has registered the waker; polling again before a wake-up is useless.
    Drained,
}

/// State of one direction.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) held: Option<Buffer>,
    pub(super) flow: CopyState,
    unflushed: bool,
    /// Bytes written.
    pub(super) bytes: u64,
}

impl Direction {
    pub(super) fn new() -> Self {
        Self { held: None, flow: CopyState::Open, unflushed: false, bytes: 0 }
    }

    /// True if everything that was read has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_none() && !self.unflushed
    }

    /// True if no more bytes will pass.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.flow, CopyState::Done | CopyState::Broken)
    }

    /// Copies until the reader has no more bytes. Ready when the reader has ended and everything was written.
    /// `note` is called with the written bytes.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        mut note: impl FnMut(&[u8]),
    ) -> Poll<Result<(), CopyError>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut source = ReadState::More;
        loop {
            let moved = self.held.is_some();
            ready!(self.poll_send(cx, writer, &mut note)).map_err(CopyError::Write)?;
            match &mut self.flow {
                CopyState::Open if source == ReadState::Drained => return Poll::Pending,
                CopyState::Open if moved => break,
                CopyState::Open => source = ready!(self.poll_read(cx, reader)),
                CopyState::Ended(error) => {
                    return Poll::Ready(error.take().map_or(Ok(()), |e| Err(CopyError::Read(e))));
                }
                CopyState::Done | CopyState::Broken => return Poll::Ready(Ok(())),
            }
        }
        // One buffer per turn, so that other sessions of the thread get theirs. With an immediate wake-up,
        // the task would be polled dozens of times before the thread sees their bytes.
        let _ = pin!(yield_now()).poll(cx); // the first time is always pending
        Poll::Pending
    }

    /// Writes and flushes the buffered bytes.
    fn poll_send<W>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        mut note: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while let Some(buffer) = &self.held {
            let length = buffer.filled().len();
            ready!(self.poll_write(cx, writer, length, &mut note))?;
        }
        self.poll_flush(cx, writer)
    }

    /// Writes part of the first `length` buffered bytes.
    pub(super) fn poll_write<W>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        length: usize,
        mut note: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        let Some(buffer) = &mut self.held else { return Poll::Ready(Ok(())) };
        let next = buffer.filled().get(..length).unwrap_or_default();
        if !next.is_empty() {
            let written = ready!(Pin::new(writer).poll_write(cx, next))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            note(next.get(..written).unwrap_or_default());
            self.bytes += written as u64;
            self.unflushed = true;
            buffer.consume(written);
        }
        if buffer.filled().is_empty() {
            self.held = None;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_flush<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the available bytes, up to one buffer: one write for all is cheaper than one per record.
    pub(super) fn poll_read<R>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<ReadState>
    where
        R: AsyncRead + Unpin,
    {
        let mut source = ReadState::More;
        let mut buffer = Buffer::take();
        while !buffer.is_full() {
            match buffer.poll_fill(cx, reader) {
                Poll::Ready(Ok(0)) => self.flow = CopyState::Ended(None),
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) => self.flow = CopyState::Ended(Some(error)),
                Poll::Pending if buffer.filled().is_empty() => return Poll::Pending,
                Poll::Pending => source = ReadState::Drained,
            }
            break;
        }
        if !buffer.filled().is_empty() {
            self.held = Some(buffer);
        }
        Poll::Ready(source)
    }
}
