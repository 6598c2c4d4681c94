//! One direction of a session: from a reader to a writer, with back-pressure. It reads again only when all it
//! has read was taken, so that it never holds more than one buffer.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;

use crate::net::buffers::Buffer;

/// Why one direction cannot go on.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

#[derive(Debug)]
pub(super) enum CopyState {
    Open,
    /// The reader has ended or broken; what was read before goes out first.
    Ended(Option<io::Error>),
    /// All is done.
    Done,
    /// The writer takes no more.
    Broken,
}

/// What a read has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadState {
    /// There may be more.
    More,
    /// Nothing, and the reader wakes the task when more is there: to ask it again before that is for nothing.
    Drained,
}

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) held: Option<Buffer>,
    pub(super) flow: CopyState,
    unflushed: bool,
    /// Bytes that the writer has taken.
    pub(super) bytes: u64,
}

impl Direction {
    pub(super) fn new() -> Self {
        Self { held: None, flow: CopyState::Open, unflushed: false, bytes: 0 }
    }

    /// Whether everything that was read has gone out.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_none() && !self.unflushed
    }

    /// Whether nothing more will go through it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.flow, CopyState::Done | CopyState::Broken)
    }

    /// Copies until the reader has nothing more; ready when it has ended and everything has gone out. `note`
    /// sees the bytes that the writer took.
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
        // One buffer a turn: then the thread's other sessions get theirs. Woken at once, it would be polled dozens of
        // times before the thread hears of their bytes.
        let _ = pin!(yield_now()).poll(cx); // the first time is always pending
        Poll::Pending
    }

    /// Writes and flushes what is held.
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

    /// Writes some of the first `length` bytes that are held.
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

    /// Reads as much as there is, up to a buffer: one write for all of it is cheaper than one for each record.
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
