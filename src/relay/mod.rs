//! Carrying a session: bytes in both directions on one task, with back-pressure, until one side ends or a rule
//! ends it. What the other side still has to get is flushed first. Nothing is decoded; words of our own are said
//! only between two messages of the server.

mod direction;
mod ending;
mod low_water;
mod time_limits;
mod timers;
mod wake_flag;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::direction::{CopyError, CopyState, Direction};
use self::low_water::{LowWaterMark, Towards};
use self::time_limits::LimitDecision;
pub use self::time_limits::{EndCause, TokenTimes};
use self::timers::RelayTimers;
use self::wake_flag::WakeFlag;
use crate::clock::Clock;
pub use crate::config::SessionSettings;
use crate::names::SessionId;
use crate::net::buffers::Buffer;
use crate::net::socket;
use crate::net::socket::OverTcp;
use crate::protocol::{ByteStream, ClientEnd, Protocol, SessionState, SessionTracker};

/// Time that each side has for the last words, and a statement to be cancelled.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a session that has to end may take to reach the end of a message.
const BOUNDARY_GRACE: Duration = Duration::from_secs(2);

/// What a session is carried under.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// `[session]`
    pub settings: SessionSettings,
    /// Of the token it was opened with.
    pub token: TokenTimes,
    /// Tells whether that has expired.
    pub clock: Clock,
    /// Ends sessions that are idle, now or once they are.
    pub drain: CancellationToken,
    /// Ends every session.
    pub now: CancellationToken,
    /// Ends this one; a child of `now`.
    pub ended: CancellationToken,
    /// Named in last words.
    pub session: SessionId,
    /// Whether the server's connection stays open when the client leaves it idle. Then its goodbye goes no further.
    pub keep: bool,
}

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
    /// We ended it.
    Ended {
        /// Why.
        cause: EndCause,
        /// Whether the client could be told; not in the middle of a message.
        told: bool,
    },
}

/// What was carried.
#[derive(Debug)]
pub struct RelayReport {
    /// Bytes from client to server.
    pub to_server: u64,
    /// Bytes from server to client, and those of a notice of ours.
    pub to_client: u64,
    /// How it ended.
    pub end: RelayEnd,
    /// The server's connection is open still, and as the client has left it.
    pub reusable: Option<ReusableServer>,
}

/// A server's connection whose client has left: nothing is under way, and there is no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReusableServer {
    /// The server has told the client of a parameter; so not all are as they were at the login.
    pub told_parameter: bool,
}

/// Carries a session until a side ends or a rule of `options` ends it. If a rule ends it while the server is at work,
/// `recall` tells the server to stop: it would not notice before it next writes.
pub async fn relay<P, C, S>(
    client: C,
    server: S,
    tracker: P::Tracker,
    options: &RelayOptions,
    recall: impl AsyncFnOnce(),
) -> RelayReport
where
    P: Protocol,
    C: ByteStream,
    S: ByteStream,
{
    let mut pair: RelayPair<P, C, S> = RelayPair {
        client: P::ClientEnd::new(client, options.keep),
        server,
        up: Direction::new(),
        down: Direction::new(),
        low_water: LowWaterMark::new(),
        tracker,
        server_told: false,
        reusable: None,
    };
    let mut timers = RelayTimers::new(options);
    let mut flags = WakeFlags::default();
    let mut at_work = false;
    let step = poll_fn(|cx| pair.poll_watched(cx, &mut flags, &mut timers, options)).await;
    pair.stop_batching();
    let end = match step {
        RelayStop::Over(end) => end,
        RelayStop::End(cause) => RelayEnd::Ended { cause, told: true },
        // Finish the message that is under way; a client that reads too slowly for that is cut off.
        RelayStop::Cut(cause) => {
            at_work = true;
            timeout(BOUNDARY_GRACE, poll_fn(|cx| pair.poll_to_boundary(cx, cause)))
                .await
                .unwrap_or(RelayEnd::Ended { cause, told: false })
        }
    };
    let recall = async {
        if at_work && matches!(end, RelayEnd::Ended { .. }) {
            let _ = timeout(LAST_WORDS_TIMEOUT, recall()).await; // it has been tried
        }
    };
    // Boxed, so that no session has to keep room for its end.
    Box::pin(async { tokio::join!(pair.finish(&end, options.session), recall) }).await;
    RelayReport { to_server: pair.up.bytes, to_client: pair.down.bytes, end, reusable: pair.reusable }
}

/// What each direction waits for.
#[derive(Default)]
struct WakeFlags {
    up: WakeFlag,
    down: WakeFlag,
}

/// Why carrying stops.
enum RelayStop {
    /// A side has ended.
    Over(RelayEnd),
    /// A rule ends it here.
    End(EndCause),
    /// A rule ends it at the next end of a message.
    Cut(EndCause),
}

struct RelayPair<P: Protocol, C: ByteStream, S> {
    client: P::ClientEnd<C>,
    server: S,
    up: Direction,
    down: Direction,
    low_water: LowWaterMark,
    tracker: P::Tracker,
    /// The server knows that the client will send no more.
    server_told: bool,
    reusable: Option<ReusableServer>,
}

impl<P, C, S> RelayPair<P, C, S>
where
    P: Protocol,
    C: ByteStream,
    S: ByteStream,
{
    fn poll_watched(
        &mut self,
        cx: &mut Context<'_>,
        flags: &mut WakeFlags,
        timers: &mut RelayTimers,
        options: &RelayOptions,
    ) -> Poll<RelayStop> {
        let before = (self.up.bytes, self.down.bytes);
        if let Poll::Ready(end) = self.poll(cx, flags) {
            return Poll::Ready(RelayStop::Over(end));
        }
        let carried = (self.up.bytes - before.0, self.down.bytes - before.1);
        self.low_water
            .poll(cx, carried, |towards, bytes| wake_at(towards, bytes, &self.client, &self.server));
        match timers.poll(cx, carried.0 > 0, || self.state()) {
            LimitDecision::GoOn => {}
            LimitDecision::End(cause) => return Poll::Ready(RelayStop::End(cause)),
            LimitDecision::EndAtBoundary(cause) => return Poll::Ready(RelayStop::Cut(cause)),
        }
        // Not into a COPY: the protocol allows it there too, but not every driver expects it.
        if timers.limits.notice && self.server_at_rest() && !self.tracker.is_transferring() {
            timers.limits.notice = false;
            let notice = P::token_expires(options.token.expires, options.clock.now(), options.session);
            self.down.held = Some(Buffer::holding(&notice));
            flags.down.raise();
        }
        Poll::Pending
    }

    fn stop_batching(&mut self) {
        self.low_water.stop(|towards, bytes| wake_at(towards, bytes, &self.client, &self.server));
    }

    /// Moves the directions that have been called.
    fn poll(&mut self, cx: &Context<'_>, flags: &mut WakeFlags) -> Poll<RelayEnd> {
        if flags.up.take(cx)
            && let Some(flag) = flags.up.waker()
            && let Poll::Ready(Some(end)) = self.poll_up(&mut Context::from_waker(flag))
        {
            return Poll::Ready(end);
        }
        if flags.down.take(cx)
            && let Some(flag) = flags.down.waker()
        {
            return self.poll_down(&mut Context::from_waker(flag));
        }
        Poll::Pending
    }

    /// Server to client. Its end is the session's.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let tracker = &mut self.tracker;
        let polled = self.down.poll(cx, &mut self.server, &mut self.client, |bytes| tracker.to_client(bytes));
        let end = ready!(polled);
        Poll::Ready(match end {
            Err(CopyError::Write(error)) => RelayEnd::ClientLost(error),
            // The server's last message was an error: it has said why.
            _ if self.tracker.server_ended_with_error() => RelayEnd::ServerEnded,
            _ if matches!(self.up.flow, CopyState::Done) || self.tracker.terminated() => RelayEnd::ClientLeft,
            Ok(()) => RelayEnd::ServerLost(None),
            Err(CopyError::Read(error)) => RelayEnd::ServerLost(Some(error)),
        })
    }

    /// Client to server. Its end is not the session's: the server may still be answering.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Option<RelayEnd>> {
        if !self.up.is_over() {
            let tracker = &mut self.tracker;
            let polled =
                self.up.poll(cx, &mut self.client, &mut self.server, |bytes| tracker.to_server(bytes));
            match ready!(polled) {
                Err(CopyError::Read(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Some(RelayEnd::ClientLost(error)));
                }
                // A server that takes no more may have sent a reason, which the other direction brings.
                Err(CopyError::Write(_)) => {
                    self.up.flow = CopyState::Broken;
                    self.server_told = true;
                }
                Ok(()) | Err(CopyError::Read(_)) => self.up.flow = CopyState::Done,
            }
            if matches!(self.up.flow, CopyState::Done) && self.client.take_permission_to_keep() {
                if self.state() == SessionState::Idle && self.tracker.owes_nothing() {
                    self.reusable = Some(ReusableServer { told_parameter: self.tracker.told_parameter() });
                    return Poll::Ready(Some(RelayEnd::ClientLeft));
                }
                if self.client.saw_terminate() {
                    self.up.held = Some(Buffer::holding(P::TERMINATE)); // it is the server's after all
                    self.up.flow = CopyState::Ended(None);
                    return self.poll_up(cx);
                }
            }
        }
        if !self.server_told {
            // Whether it hears us or not, it ends; its own direction tells how.
            let _ = ready!(Pin::new(&mut self.server).poll_shutdown(cx));
            self.server_told = true;
        }
        Poll::Ready(None)
    }

    /// Brings the message to its end that is under way to the client, and nothing behind it.
    fn poll_to_boundary(&mut self, cx: &mut Context<'_>, cause: EndCause) -> Poll<RelayEnd> {
        loop {
            let next = self.down.held.as_ref().map_or(&[][..], Buffer::filled);
            let rest = self.tracker.rest_of_server_message(next);
            if rest > 0 {
                let tracker = &mut self.tracker;
                let note = |bytes: &[u8]| tracker.to_client(bytes);
                if let Err(error) = ready!(self.down.poll_write(cx, &mut self.client, rest, note)) {
                    return Poll::Ready(RelayEnd::ClientLost(error));
                }
                continue;
            }
            if let Err(error) = ready!(self.down.poll_flush(cx, &mut self.client)) {
                return Poll::Ready(RelayEnd::ClientLost(error));
            }
            if self.tracker.server_between_messages() {
                self.down.held = None; // whole messages that the client will not get
                return Poll::Ready(RelayEnd::Ended { cause, told: true });
            }
            match &mut self.down.flow {
                CopyState::Open => {
                    let _ = ready!(self.down.poll_read(cx, &mut self.server)); // it is asked again in any case
                }
                CopyState::Ended(error) => return Poll::Ready(RelayEnd::ServerLost(error.take())),
                CopyState::Done | CopyState::Broken => return Poll::Ready(RelayEnd::ServerLost(None)),
            }
        }
    }

    /// How the session stands, what has been read and not sent yet included.
    fn state(&self) -> SessionState {
        if self.up.is_empty() && self.down.is_empty() { self.tracker.state() } else { SessionState::Busy }
    }

    /// Whether the client has whole messages.
    fn server_at_rest(&self) -> bool {
        self.down.is_empty() && self.tracker.server_between_messages()
    }
}

/// Sets how much has to be there of what goes one way before its reader is woken.
fn wake_at(towards: Towards, bytes: usize, client: &impl OverTcp, server: &impl OverTcp) {
    let reads_from = match towards {
        Towards::Server => client.tcp(),
        Towards::Client => server.tcp(),
    };
    if let Some(tcp) = reads_from {
        socket::wake_at(tcp, bytes);
    }
}

#[cfg(test)]
mod tests;
