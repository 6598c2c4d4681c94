//! The client's side of a live session. It passes on every byte, with three exceptions: a `KILL` of one of the proxy's
//! clients, whose id is replaced, or which another server carries out; a `COM_CHANGE_USER`, which becomes a command that the
//! server rejects with error 1047; and a `COM_QUIT` to a server connection that is kept.
//!
//! A packet that may be an exception is held back until it is complete; a server could do nothing with a part of it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::command::{CHANGE_USER, PING, PROCESS_KILL, QUERY, QUIT, SLEEP};
use super::connection_ids::{ConnectionIds, KillTarget};
use super::file_transfer::FileTransfer;
use super::kill::{self, KillErrand, RemoteKill};
use super::limits::MAX_PAYLOAD;
use super::packet::{HEADER, split_header};
use crate::net::filtered_stream::{FilteredStream, ReadFilter};
use crate::protocol::{ByteStream, ClientEnd};

/// `COM_PING`, which a server answers like a `KILL`.
const PING_PACKET: [u8; HEADER + 1] = [1, 0, 0, 0, PING];

/// The server of a session, and the ids of all clients.
#[derive(Clone, Debug)]
pub struct KillScope {
    /// The ids.
    pub ids: Arc<ConnectionIds>,
    /// Address of the session's server.
    pub server: SocketAddr,
    /// Carries out a `KILL` at other servers, if there is a way.
    pub remote: Option<Arc<dyn RemoteKill>>,
    /// True if the servers know the ids of other replicas' clients.
    pub replicas: bool,
}

/// A `KILL` that another server carries out. The packets behind it wait for its end.
struct Errand {
    under_way: KillErrand,
    /// The `KILL`, and all bytes that were read with it.
    bytes: Vec<u8>,
    /// Length of the `KILL`.
    length: usize,
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Finds commands in the bytes of a client and rewrites them in place. The bytes do not become more.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, in all combinations")]
pub struct CommandFilter {
    scope: KillScope,
    transfer: FileTransfer,
    /// True if a `COM_QUIT` is withheld.
    keep: bool,
    /// True if a `COM_QUIT` was withheld.
    quit: bool,
    /// Remaining bytes of the current packet.
    remaining: usize,
    /// True if the current message continues in another packet.
    continues: bool,
    /// True if the current message is left out.
    dropping: bool,
    /// Beginning of a packet that may be a `KILL`, so less than [`kill::LONGEST`] and a header.
    held: Vec<u8>,
    /// A `KILL` that is carried out at another server.
    errand: Option<Errand>,
    /// Bytes that were read and are not filtered yet: those of an errand that has ended.
    unread: Vec<u8>,
}

/// Decision about a packet.
enum Verdict {
    /// The packet passes.
    Pass,
    /// The decision needs more of the packet.
    Hold,
    /// [`SLEEP`] replaces the packet.
    Refuse,
    /// The packet is complete and may be a `KILL`.
    Kill,
    /// The packet is withheld.
    Withhold,
}

impl CommandFilter {
    /// The filter of a session that begins.
    pub fn new(scope: KillScope, transfer: FileTransfer, keep: bool) -> Self {
        Self {
            scope,
            transfer,
            keep,
            quit: false,
            remaining: 0,
            continues: false,
            dropping: false,
            held: Vec::new(),
            errand: None,
            unread: Vec::new(),
        }
    }

    /// Filters `bytes`, of which [`Self::held`] were the first ones. Returns the number of bytes to pass on; the rest of a
    /// packet that is held is kept here.
    fn filter(&mut self, bytes: &mut [u8]) -> usize {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() && !self.quit {
            let rest = bytes.get(from..).unwrap_or_default();
            let mut count = self.remaining.min(rest.len());
            if count == 0 {
                let Some(header) = rest.first_chunk::<HEADER>() else {
                    self.hold(rest);
                    break;
                };
                let (length, sequence) = split_header(*header);
                let verdict = self.judge(length, sequence, rest);
                count = HEADER;
                match verdict {
                    Verdict::Hold => {
                        self.hold(rest);
                        break;
                    }
                    Verdict::Withhold => {
                        self.quit = true;
                        break;
                    }
                    Verdict::Pass => self.begin(length),
                    Verdict::Refuse => {
                        for byte in [1, 0, 0, 0, SLEEP] {
                            put(bytes, &mut to, byte);
                        }
                        self.begin(length);
                        self.dropping = true;
                    }
                    Verdict::Kill => {
                        let end = from + HEADER + length;
                        let (packet, behind) = bytes
                            .get_mut(from..)
                            .and_then(|rest| rest.split_at_mut_checked(HEADER + length))
                            .unwrap_or_default();
                        let Some(kept) = self.kill(packet, behind) else { break };
                        bytes.copy_within(from..from + kept, to);
                        (from, to) = (end, to + kept);
                        continue;
                    }
                }
            } else {
                self.remaining -= count;
            }
            if !self.dropping {
                if from != to {
                    bytes.copy_within(from..from + count, to);
                }
                to += count;
            }
            from += count;
            self.dropping &= self.remaining > 0 || self.continues;
        }
        to
    }

    /// Puts the server's number into `packet` if it is a `KILL`, and returns the new length. `None` if another server
    /// carries it out: the packet and the bytes `behind` it wait for that.
    fn kill(&mut self, packet: &mut [u8], behind: &[u8]) -> Option<usize> {
        let KillScope { ids, server, remote, replicas } = &self.scope;
        let mut elsewhere = None;
        let kept = kill::rewrite(packet, |id| match ids.kill(id, *server)? {
            KillTarget::Here(number) => Some(number),
            target => {
                elsewhere = Some(target);
                None
            }
        });
        let target = elsewhere.filter(|target| *replicas || !matches!(target, KillTarget::Unknown(_)));
        let (Some(target), Some(remote)) = (target, remote) else { return Some(kept) };
        let under_way = Arc::clone(remote).kill(packet.to_vec(), target);
        let bytes = [&*packet, behind].concat();
        self.errand = Some(Errand { under_way, bytes, length: packet.len() });
        None
    }

    /// Ends the errand. If the `KILL` was `done`, the session's own server gets a command to which it says OK. Otherwise it
    /// gets the `KILL` as it is, and says that it knows no such connection.
    fn settle(&mut self, done: bool) {
        let Some(Errand { mut bytes, length, .. }) = self.errand.take() else { return };
        self.remaining = length;
        if done {
            drop(bytes.splice(..length, PING_PACKET));
            self.remaining = PING_PACKET.len();
        }
        bytes.append(&mut self.unread); // of an errand before, read in pieces
        self.unread = bytes;
    }

    /// Decides about the packet at the beginning of `bytes`.
    fn judge(&mut self, length: usize, sequence: u8, bytes: &[u8]) -> Verdict {
        if self.continues {
            return Verdict::Pass;
        }
        if self.transfer.is_open() {
            if length == 0 {
                self.transfer.end();
            }
            return Verdict::Pass;
        }
        if sequence != 0 || length == 0 {
            return Verdict::Pass;
        }
        let complete = bytes.len() >= HEADER + length;
        match bytes.get(HEADER) {
            None => Verdict::Hold,
            Some(&CHANGE_USER) => Verdict::Refuse,
            Some(&QUIT) if self.keep && length == 1 => Verdict::Withhold,
            Some(&QUERY) if length <= kill::LONGEST && complete => Verdict::Kill,
            Some(&PROCESS_KILL) if length == 5 && complete => Verdict::Kill,
            Some(&QUERY) if length <= kill::LONGEST => Verdict::Hold,
            Some(&PROCESS_KILL) if length == 5 => Verdict::Hold,
            Some(_) => Verdict::Pass,
        }
    }

    fn begin(&mut self, length: usize) {
        (self.remaining, self.continues) = (length, length == MAX_PAYLOAD);
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held = bytes.to_vec();
    }
}

/// Writes one byte of a replacement, which is shorter than what it replaces.
fn put(bytes: &mut [u8], to: &mut usize, byte: u8) {
    if let Some(slot) = bytes.get_mut(*to) {
        *slot = byte;
        *to += 1;
    }
}

/// A client whose commands are filtered.
pub type FilteredClient<C> = FilteredStream<C, CommandFilter>;

impl<C: ByteStream> ClientEnd<C> for FilteredClient<C> {
    fn take_permission_to_keep(&mut self) -> bool {
        std::mem::take(&mut self.filter.keep)
    }

    fn saw_terminate(&self) -> bool {
        self.filter.quit
    }

    fn get_mut(&mut self) -> &mut C {
        &mut self.stream
    }
}

impl ReadFilter for CommandFilter {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = space.filled().len();
        while !self.quit {
            if let Some(errand) = &mut self.errand {
                let done = ready!(errand.under_way.as_mut().poll(cx));
                self.settle(done);
            }
            let held = self.held.len();
            if space.remaining() <= held {
                // The end of a buffer. The reader comes back with an empty one, which is larger.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            space.put_slice(&self.held);
            if self.unread.is_empty() {
                let polled = Pin::new(&mut *stream).poll_read(cx, space);
                if !matches!(polled, Poll::Ready(Ok(()))) {
                    space.set_filled(before);
                }
                ready!(polled)?;
            } else {
                let count = self.unread.len().min(space.remaining());
                space.put_slice(self.unread.get(..count).unwrap_or_default());
                self.unread.drain(..count);
            }
            self.held.clear();
            let Some(new) = space.filled_mut().get_mut(before..) else { return Poll::Ready(Ok(())) };
            if new.len() == held {
                return Poll::Ready(Ok(())); // the client's end; a part of a packet passes as it is
            }
            let passed = self.filter(new);
            space.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(Ok(())) // the end of the stream, although bytes may follow
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
