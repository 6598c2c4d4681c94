//! Filter on the client's side of a session whose server is kept: withholds Terminate.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::frames::Frames;
use super::message::TERMINATE;
use crate::net::filtered_stream::{FilteredStream, ReadFilter};
use crate::protocol::{ByteStream, ClientEnd};

/// A client whose Terminate may be withheld.
pub type TerminatingClient<C> = FilteredStream<C, TerminateFilter>;

/// Ends the stream at the client's Terminate, if that is its last message.
#[derive(Debug)]
pub struct TerminateFilter {
    /// Framing of the client's messages; `None` if every byte is passed on.
    frames: Option<Frames>,
    goodbye: bool,
}

impl TerminateFilter {
    /// The filter of a session that begins. `keep` is true if its server connection may be kept.
    pub fn new(keep: bool) -> Self {
        Self { frames: keep.then(Frames::default), goodbye: false }
    }
}

impl<C: ByteStream> ClientEnd<C> for TerminatingClient<C> {
    fn take_permission_to_keep(&mut self) -> bool {
        self.filter.frames.take().is_some()
    }

    fn saw_terminate(&self) -> bool {
        self.filter.goodbye
    }

    fn get_mut(&mut self) -> &mut C {
        &mut self.stream
    }
}

impl ReadFilter for TerminateFilter {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goodbye {
            return Poll::Ready(Ok(())); // the end of the stream, although bytes may follow
        }
        let before = space.filled().len();
        let read = ready!(Pin::new(stream).poll_read(cx, space));
        if let (Ok(()), Some(frames)) = (&read, &mut self.frames) {
            let mut last = 0;
            let new = space.filled().get(before..).unwrap_or_default();
            frames.feed(new, |tag, _| last = tag);
            // Only a complete Terminate at the end of a read; one that arrives in pieces is forwarded.
            if last == b'X' && frames.at_boundary() && new.ends_with(TERMINATE) {
                self.goodbye = true;
                space.set_filled(space.filled().len() - TERMINATE.len());
            }
        }
        Poll::Ready(read)
    }
}
