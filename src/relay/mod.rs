//! Relay of a session: copies bytes in both directions on one task, with back-pressure, until a side or a
//! time limit ends it. Bytes for the other side are flushed first. Bytes are never modified; the proxy adds
//! its own messages only between two messages of the server.

mod activity;
mod direction;
mod drain_order;
mod ending;
mod low_water;
mod time_limits;
mod timers;
mod wake_flag;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::activity::{SessionActivity, SessionWork};
use self::direction::{CopyError, CopyState, Direction};
pub use self::drain_order::DrainOrder;
use self::low_water::{FlowDirection, LowWaterMark};
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
pub use crate::protocol::SessionState;
use crate::protocol::{ByteStream, ClientEnd, Protocol, SessionTracker};

/// Longest time for the last message to each side, and for cancelling a statement.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest time for a session that has to end to reach a message boundary.
const BOUNDARY_GRACE: Duration = Duration::from_secs(2);

/// Parameters of a relayed session.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// `[session]`
    pub settings: SessionSettings,
    /// Expiry of the token that opened the session.
    pub token: TokenTimes,
    /// Wall clock for the expiry.
    pub clock: Clock,
    /// Ends the session at its next idle moment.
    pub drain: CancellationToken,
    /// Ends the sessions of the cluster at their next idle moment.
    pub order: DrainOrder,
    /// Ends all sessions.
    pub now: CancellationToken,
    /// Ends this session; a child of `now`.
    pub ended: CancellationToken,
    /// Identifier in the last message.
    pub session: SessionId,
    /// The live view of the session.
    pub activity: Arc<SessionActivity>,
}

/// End of a relayed session.
#[derive(Debug)]
pub enum RelayEnd {
    /// The client sent Terminate or closed, and the server finished.
    ClientLeft,
    /// The client's connection broke.
    ClientLost(io::Error),
    /// The server ended the session with its own error message.
    ServerEnded,
    /// The server connection closed or broke without an error message.
    ServerLost(Option<io::Error>),
    /// The proxy ended the session.
    Ended {
        /// Reason.
        cause: EndCause,
        /// True if the client got the last error; false within a message.
        told: bool,
    },
}

/// Result of a relayed session.
#[derive(Debug)]
pub struct RelayReport {
    /// Bytes from client to server.
    pub to_server: u64,
    /// Bytes from server to client, including the proxy's notice.
    pub to_client: u64,
    /// End of the session.
    pub end: RelayEnd,
    /// The open server connection that the client left idle.
    pub reusable: Option<ReusableServer>,
    /// True if the statement that ran when the proxy ended the session was cancelled, false if that failed; absent if none
    /// ran.
    pub statement_cancelled: Option<bool>,
}

/// An open server connection without a client, idle and outside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReusableServer {
    /// True if the server has reported a parameter to the client, so that not all parameters have their
    /// values from the login.
    pub told_parameter: bool,
}

/// Relays a session until a side or a time limit ends it. If a limit ends it while the server is busy,
/// `recall` cancels the statement, because the server would not notice the closed connection before its next
/// write. It tells whether it has.
pub async fn relay<P, C, S>(
    client: P::ClientEnd<C>,
    server: S,
    tracker: P::Tracker,
    options: &RelayOptions,
    recall: impl AsyncFnOnce() -> bool,
) -> RelayReport
where
    P: Protocol,
    C: ByteStream,
    S: ByteStream,
{
    let mut pair: RelayPair<P, C, S> = RelayPair {
        client,
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
        // Completes the current message; a client that reads too slowly is disconnected.
        RelayStop::Cut(cause) => {
            at_work = true;
            timeout(BOUNDARY_GRACE, poll_fn(|cx| pair.poll_to_boundary(cx, cause)))
                .await
                .unwrap_or(RelayEnd::Ended { cause, told: false })
        }
    };
    let recall = async {
        if !at_work || !matches!(end, RelayEnd::Ended { .. }) {
            return None;
        }
        Some(timeout(LAST_WORDS_TIMEOUT, recall()).await.unwrap_or(false)) // best effort
    };
    // Boxed, so that sessions do not reserve space for their end.
    let ((), statement_cancelled) =
        Box::pin(async { tokio::join!(pair.finish(&end, options.session), recall) }).await;
    options.activity.note(pair.state(), pair.work());
    RelayReport {
        to_server: pair.up.bytes,
        to_client: pair.down.bytes,
        end,
        reusable: pair.reusable,
        statement_cancelled,
    }
}

/// Wakers of the directions.
#[derive(Default)]
struct WakeFlags {
    up: WakeFlag,
    down: WakeFlag,
}

/// Reason for leaving the relay loop.
enum RelayStop {
    /// A side has ended.
    Over(RelayEnd),
    /// A limit ends the session here.
    End(EndCause),
    /// A limit ends the session at the next message boundary.
    Cut(EndCause),
}

struct RelayPair<P: Protocol, C: ByteStream, S> {
    client: P::ClientEnd<C>,
    server: S,
    up: Direction,
    down: Direction,
    low_water: LowWaterMark,
    tracker: P::Tracker,
    /// True if the server knows that the client will send no more.
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
        options.activity.note(self.state(), self.work());
        self.low_water
            .poll(cx, carried, |direction, bytes| wake_at(direction, bytes, &self.client, &self.server));
        match timers.poll(cx, carried.0 > 0, || self.state()) {
            LimitDecision::GoOn => {}
            LimitDecision::End(cause) => return Poll::Ready(RelayStop::End(cause)),
            LimitDecision::EndAtBoundary(cause) => return Poll::Ready(RelayStop::Cut(cause)),
        }
        // Not within a COPY: the protocol allows a notice there, but not every driver expects it.
        if timers.limits.notice && self.server_at_rest() && !self.tracker.is_transferring() {
            timers.limits.notice = false;
            let notice = P::token_expires(options.token.expires, options.clock.now(), options.session);
            self.down.held = Some(Buffer::holding(&notice));
            flags.down.raise();
        }
        Poll::Pending
    }

    fn stop_batching(&mut self) {
        self.low_water.stop(|direction, bytes| wake_at(direction, bytes, &self.client, &self.server));
    }

    /// Polls the directions that were woken.
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

    /// Polls server to client. Its end is the session's end.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let tracker = &mut self.tracker;
        let polled = self.down.poll(cx, &mut self.server, &mut self.client, |bytes| tracker.to_client(bytes));
        let end = ready!(polled);
        Poll::Ready(match end {
            Err(CopyError::Write(error)) => RelayEnd::ClientLost(error),
            // The server's last message was an error, which is its reason.
            _ if self.tracker.server_ended_with_error() => RelayEnd::ServerEnded,
            _ if matches!(self.up.flow, CopyState::Done) || self.tracker.terminated() => RelayEnd::ClientLeft,
            Ok(()) => RelayEnd::ServerLost(None),
            Err(CopyError::Read(error)) => RelayEnd::ServerLost(Some(error)),
        })
    }

    /// Polls client to server. Its end is not the session's, because the server may still be answering.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Option<RelayEnd>> {
        if !self.up.is_over() {
            let tracker = &mut self.tracker;
            let polled =
                self.up.poll(cx, &mut self.client, &mut self.server, |bytes| tracker.to_server(bytes));
            match ready!(polled) {
                Err(CopyError::Read(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Some(RelayEnd::ClientLost(error)));
                }
                // A server that accepts no more bytes may have sent a reason, which the other direction
                // delivers.
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
            // The result does not matter; the other direction reports the end.
            let _ = ready!(Pin::new(&mut self.server).poll_shutdown(cx));
            self.server_told = true;
        }
        Poll::Ready(None)
    }

    /// Completes the current message to the client and sends nothing after it.
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
                    let _ = ready!(self.down.poll_read(cx, &mut self.server)); // polled again in any case
                }
                CopyState::Ended(error) => return Poll::Ready(RelayEnd::ServerLost(error.take())),
                CopyState::Done | CopyState::Broken => return Poll::Ready(RelayEnd::ServerLost(None)),
            }
        }
    }

    fn work(&self) -> SessionWork {
        let counts = self.tracker.counts();
        SessionWork { to_server: self.up.bytes, to_client: self.down.bytes, counts }
    }

    /// State of the session, including bytes that were read but not sent.
    fn state(&self) -> SessionState {
        if self.up.is_empty() && self.down.is_empty() { self.tracker.state() } else { SessionState::Busy }
    }

    /// True if the client is at a message boundary.
    fn server_at_rest(&self) -> bool {
        self.down.is_empty() && self.tracker.server_between_messages()
    }
}

/// Sets the low-water mark of the reader of one direction.
fn wake_at(direction: FlowDirection, bytes: usize, client: &impl OverTcp, server: &impl OverTcp) {
    let reads_from = match direction {
        FlowDirection::Server => client.tcp(),
        FlowDirection::Client => server.tcp(),
    };
    if let Some(tcp) = reads_from {
        socket::wake_at(tcp, bytes);
    }
}

#[cfg(test)]
mod tests;
