//! Carrying a session: bytes in both directions on one task, with back-pressure, until one side ends. What
//! the other side still has to get is flushed first. Nothing is decoded; a last word of our own is said only
//! between two messages of the server.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::names::SessionId;
use crate::refusal::Refusal;
use crate::wire::frames::FrameTracker;
use crate::wire::{error_response, limits};

/// Bytes read at once from the client: queries are small.
const CLIENT_BUFFER: usize = 8 * 1024;

/// Bytes read at once from the server: results are large, and two TLS records fit.
const SERVER_BUFFER: usize = 32 * 1024;

/// How long a session that has to end may take to reach the end of a message.
const BOUNDARY_GRACE: Duration = Duration::from_secs(1);

/// Terminate, as a client would send it (PostgreSQL manual, "Message Formats").
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// How a relayed session ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// The client said goodbye or closed, and the server finished.
    ClientLeft,
    /// The client's connection broke.
    ClientLost(io::Error),
    /// The server ended it with an error message of its own.
    ServerEnded,
    /// The server closed or broke without a word.
    ServerLost(Option<io::Error>),
    /// We had to end it; the client was told unless a message was under way.
    Stopped,
}

/// What was carried.
#[derive(Debug)]
pub struct Carried {
    /// Bytes from client to server.
    pub to_server: u64,
    /// Bytes from server to client.
    pub to_client: u64,
    /// How it ended.
    pub end: RelayEnd,
}

/// Carries a session until a side ends or `stop` is cancelled.
pub async fn relay<C, S>(
    client: C,
    server: S,
    stop: &CancellationToken,
    farewell: &Refusal,
    session: SessionId,
) -> Carried
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pair = Pair {
        client,
        server,
        up: Direction::new(CLIENT_BUFFER),
        down: Direction::new(SERVER_BUFFER),
        server_told: false,
    };
    let mut stopped = pin!(stop.cancelled());
    let carried = poll_fn(|cx| match pair.poll(cx) {
        Poll::Ready(end) => Poll::Ready(Some(end)),
        Poll::Pending => stopped.as_mut().poll(cx).map(|()| None),
    });
    let end = match carried.await {
        Some(end) => end,
        // Finish the message that is under way; a client that reads too slowly for that is cut off.
        None => timeout(BOUNDARY_GRACE, poll_fn(|cx| pair.poll_to_boundary(cx)))
            .await
            .unwrap_or(RelayEnd::Stopped),
    };
    pair.finish(&end, farewell, session).await;
    Carried { to_server: pair.up.bytes, to_client: pair.down.bytes, end }
}

struct Pair<C, S> {
    client: C,
    server: S,
    up: Direction,
    down: Direction,
    /// The server knows that the client will send no more.
    server_told: bool,
}

impl<C, S> Pair<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if let Poll::Ready(Some(end)) = self.poll_up(cx) {
            return Poll::Ready(end);
        }
        let end = ready!(self.down.poll(cx, &mut self.server, &mut self.client));
        Poll::Ready(match end {
            Err(Broken::Write(error)) => RelayEnd::ClientLost(error),
            // The server's last message was an error: it has said why.
            _ if self.down.frames.last_tag() == Some(b'E') => RelayEnd::ServerEnded,
            _ if self.up.done() => RelayEnd::ClientLeft,
            Ok(()) => RelayEnd::ServerLost(None),
            Err(Broken::Read(error)) => RelayEnd::ServerLost(Some(error)),
        })
    }

    /// Client to server. Its end is not the session's: the server may still be answering.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Option<RelayEnd>> {
        if !self.up.done() {
            match ready!(self.up.poll(cx, &mut self.client, &mut self.server)) {
                Err(Broken::Read(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Some(RelayEnd::ClientLost(error)));
                }
                // A server that takes no more may have sent a reason, which the other direction brings.
                Err(Broken::Write(_)) => {
                    self.up.flow = Flow::Broken;
                    self.server_told = true;
                }
                Ok(()) | Err(Broken::Read(_)) => self.up.flow = Flow::Done,
            }
        }
        if !self.server_told {
            // Whether it hears us or not, it ends; its own direction tells how.
            let _ = ready!(Pin::new(&mut self.server).poll_shutdown(cx));
            self.server_told = true;
        }
        Poll::Ready(None)
    }

    /// Goes on only until the client has whole messages.
    fn poll_to_boundary(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if self.down.at_rest() {
            return Poll::Ready(RelayEnd::Stopped);
        }
        self.poll(cx)
    }

    async fn finish(&mut self, end: &RelayEnd, farewell: &Refusal, session: SessionId) {
        let last_word = match end {
            RelayEnd::Stopped => Some(error_response::encode(farewell, session)),
            RelayEnd::ServerLost(_) => {
                Some(error_response::encode(&Refusal::server_connection_lost(), session))
            }
            RelayEnd::ClientLeft | RelayEnd::ClientLost(_) | RelayEnd::ServerEnded => None,
        };
        let goodbye = async {
            if let Some(word) = last_word.filter(|_| self.down.at_rest()) {
                self.client.write_all(&word).await?;
            }
            self.client.shutdown().await
        };
        let _ = timeout(limits::REFUSE_TIMEOUT, goodbye).await; // whoever is gone needs no goodbye
        let leave = async {
            if matches!(end, RelayEnd::Stopped) && self.up.at_rest() {
                self.server.write_all(TERMINATE).await?;
            }
            self.server.shutdown().await
        };
        let _ = timeout(limits::REFUSE_TIMEOUT, leave).await;
    }
}

/// Why one direction cannot go on.
enum Broken {
    Read(io::Error),
    Write(io::Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// The reader has ended; what is buffered goes out first.
    Ended,
    Done,
    /// The writer takes no more.
    Broken,
}

struct Direction {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    flow: Flow,
    unflushed: bool,
    bytes: u64,
    frames: FrameTracker,
}

impl Direction {
    fn new(size: usize) -> Self {
        Self {
            buffer: vec![0; size].into_boxed_slice(),
            start: 0,
            end: 0,
            flow: Flow::Open,
            unflushed: false,
            bytes: 0,
            frames: FrameTracker::default(),
        }
    }

    fn done(&self) -> bool {
        matches!(self.flow, Flow::Done | Flow::Broken)
    }

    /// Whether everything read has been written and was whole messages.
    fn at_rest(&self) -> bool {
        self.start == self.end && self.frames.at_boundary()
    }

    /// Copies until the reader has nothing; ready when it has ended and everything is flushed.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while let Some(pending) = self.buffer.get(self.start..self.end).filter(|bytes| !bytes.is_empty())
            {
                let written =
                    ready!(Pin::new(&mut *writer).poll_write(cx, pending)).map_err(Broken::Write)?;
                if written == 0 {
                    return Poll::Ready(Err(Broken::Write(io::ErrorKind::WriteZero.into())));
                }
                self.frames.feed(pending.get(..written).unwrap_or_default());
                self.start += written;
                self.bytes += written as u64;
                self.unflushed = true;
            }
            if self.flow == Flow::Ended {
                ready!(self.poll_flush(cx, writer))?;
                return Poll::Ready(Ok(()));
            }
            let mut space = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *reader).poll_read(cx, &mut space) {
                Poll::Ready(Ok(())) => {
                    let read = space.filled().len();
                    (self.start, self.end) = (0, read);
                    if read == 0 {
                        self.flow = Flow::Ended;
                    }
                }
                Poll::Ready(Err(error)) => {
                    ready!(self.poll_flush(cx, writer))?;
                    return Poll::Ready(Err(Broken::Read(error)));
                }
                Poll::Pending => {
                    ready!(self.poll_flush(cx, writer))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_flush<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<Result<(), Broken>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(cx)).map_err(Broken::Write)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
