//! Time limits of a session: `[session]`, token expiry, and the stop of the service. Decides only; time and
//! events come from outside.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{OnTokenExpiry, SessionSettings};
use crate::protocol::SessionState;

/// Longest time for which a session past `max_lifetime` may continue its transaction.
const LIFETIME_GRACE: Duration = Duration::from_mins(1);

/// Longest time for which a session with an expired token may continue its transaction, with `on_token_expiry
/// = "close"`. Together with [`super::BOUNDARY_GRACE`] the session ends within 5 s.
const EXPIRY_GRACE: Duration = Duration::from_secs(2);
const _: () = assert!(EXPIRY_GRACE.as_millis() + super::BOUNDARY_GRACE.as_millis() <= 5_000);

/// Shortest delay before a check is repeated because the wall clock was set back.
const RECHECK: Duration = Duration::from_secs(1);

/// Time after the welcome during which a drain does not count a session without a statement as idle.
pub(super) const FIRST_STATEMENT: Duration = Duration::from_secs(1);

/// Reason why the proxy ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// `client_idle_timeout`
    ClientIdle,
    /// `idle_transaction_timeout`
    IdleInTransaction,
    /// `max_lifetime`
    Lifetime,
    /// `on_token_expiry`
    TokenExpired,
    /// `[denied]`
    Withdrawn,
    /// An operator ended the session on the console.
    Killed,
    /// An operator drains the cluster.
    ClusterDrained,
    /// The service is stopping and the session was idle.
    Drained,
    /// The service is stopping and does not wait longer.
    Stopped,
}

/// Expiry of a session's token.
#[derive(Clone, Copy, Debug)]
pub struct TokenTimes {
    /// `exp`.
    pub expires: SystemTime,
    /// `exp` plus the issuer's leeway.
    pub accepted_until: SystemTime,
}

/// Action required now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitDecision {
    GoOn,
    /// End the session here: it is idle.
    End(EndCause),
    /// End the session at the next message boundary.
    EndAtBoundary(EndCause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LimitEvent {
    /// Notify the client of the token's expiry.
    Notice,
    /// End the session at the next moment outside a transaction.
    Soft(EndCause),
    /// End the session in any state.
    Hard(EndCause),
}

/// A future event. Uses the monotonic clock, which cannot be set, and for tokens also the wall clock, which
/// may have been wrong.
#[derive(Clone, Copy, Debug)]
struct ScheduledEvent {
    at: Instant,
    wall: Option<SystemTime>,
    event: LimitEvent,
}

/// The limits of one session.
#[derive(Debug)]
pub(super) struct TimeLimits {
    client_idle: Option<Duration>,
    idle_transaction: Option<Duration>,
    /// Start of the session.
    begun: Instant,
    plan: Vec<ScheduledEvent>,
    /// Idle limit that currently applies, and the time since when.
    quiet: Option<(EndCause, Instant)>,
    soft: Option<EndCause>,
    hard: Option<EndCause>,
    /// True if the notice is due and not sent.
    pub(super) notice: bool,
}

impl TimeLimits {
    pub(super) fn new(settings: &SessionSettings, token: TokenTimes, clock: &Clock, now: Instant) -> Self {
        let mut plan = Vec::new();
        if let Some(lifetime) = settings.max_lifetime {
            let at = now + lifetime;
            plan.push(ScheduledEvent { at, wall: None, event: LimitEvent::Soft(EndCause::Lifetime) });
            plan.push(ScheduledEvent {
                at: at + LIFETIME_GRACE,
                wall: None,
                event: LimitEvent::Hard(EndCause::Lifetime),
            });
        }
        let wall_now = clock.now();
        let mut on_wall = |wall: SystemTime, event| {
            let at = now + wall.duration_since(wall_now).unwrap_or_default();
            plan.push(ScheduledEvent { at, wall: Some(wall), event });
        };
        if let Some(ahead) = settings.token_expiry_notice {
            // A token that expires sooner is announced immediately.
            on_wall(token.expires.checked_sub(ahead).unwrap_or(token.expires), LimitEvent::Notice);
        }
        if settings.on_token_expiry != OnTokenExpiry::Keep {
            on_wall(token.accepted_until, LimitEvent::Soft(EndCause::TokenExpired));
        }
        if settings.on_token_expiry == OnTokenExpiry::Close {
            on_wall(token.accepted_until + EXPIRY_GRACE, LimitEvent::Hard(EndCause::TokenExpired));
        }
        Self {
            client_idle: settings.client_idle_timeout,
            idle_transaction: settings.idle_transaction_timeout,
            begun: now,
            plan,
            quiet: None,
            soft: None,
            hard: None,
            notice: false,
        }
    }

    /// True if the decision depends on the session's state.
    pub(super) fn needs_state(&self) -> bool {
        self.client_idle.is_some()
            || self.idle_transaction.is_some()
            || self.soft.is_some()
            || self.hard.is_some()
            || self.notice
    }

    /// Starts the drain. A client welcomed just before is not disconnected before its first statement.
    pub(super) fn drain(&mut self) {
        let at = self.begun + FIRST_STATEMENT;
        self.plan.push(ScheduledEvent { at, wall: None, event: LimitEvent::Soft(EndCause::Drained) });
    }

    /// Takes an operator's order that the session ends, at the latest after `grace`, or takes the order back.
    pub(super) fn order(&mut self, grace: Option<Duration>, now: Instant) {
        const CAUSE: EndCause = EndCause::ClusterDrained;
        self.plan.retain(|planned| {
            planned.event != LimitEvent::Soft(CAUSE) && planned.event != LimitEvent::Hard(CAUSE)
        });
        self.soft = self.soft.filter(|cause| *cause != CAUSE);
        self.hard = self.hard.filter(|cause| *cause != CAUSE);
        let Some(grace) = grace else { return };
        let idle_from = self.begun + FIRST_STATEMENT;
        for (at, event) in [(idle_from, LimitEvent::Soft(CAUSE)), (now + grace, LimitEvent::Hard(CAUSE))] {
            self.plan.push(ScheduledEvent { at, wall: None, event });
        }
    }

    /// Requests the end of the session now.
    pub(super) fn stop(&mut self, cause: EndCause) {
        self.hard = Some(cause);
    }

    /// Records the session's state and whether the client has sent something since the last call.
    pub(super) fn note_state(
        &mut self,
        state: SessionState,
        client_spoke: bool,
        now: impl FnOnce() -> Instant,
    ) {
        let quiet = match state {
            SessionState::Idle if self.client_idle.is_some() => EndCause::ClientIdle,
            SessionState::InTransaction | SessionState::InFailedTransaction
                if self.idle_transaction.is_some() =>
            {
                EndCause::IdleInTransaction
            }
            _ => return self.quiet = None,
        };
        if client_spoke || self.quiet.is_none_or(|(cause, _)| cause != quiet) {
            self.quiet = Some((quiet, now()));
        }
    }

    /// Time of the next check without any traffic.
    pub(super) fn next(&self) -> Option<Instant> {
        self.plan.iter().map(|planned| planned.at).chain(self.quiet_until().map(|(_, at)| at)).min()
    }

    fn quiet_until(&self) -> Option<(EndCause, Instant)> {
        let (cause, since) = self.quiet?;
        let patience = if cause == EndCause::ClientIdle { self.client_idle } else { self.idle_transaction };
        Some((cause, since + patience?))
    }

    /// Advances to `now`.
    pub(super) fn tick(&mut self, now: Instant, clock: &Clock) {
        let due: Vec<ScheduledEvent> = self.plan.extract_if(.., |planned| planned.at <= now).collect();
        for planned in due {
            let early = planned.wall.and_then(|wall| wall.duration_since(clock.now()).ok());
            match (early, planned.event) {
                (Some(early), _) if !early.is_zero() => {
                    self.plan.push(ScheduledEvent { at: now + early.max(RECHECK), ..planned });
                }
                (_, LimitEvent::Notice) => self.notice = true,
                (_, LimitEvent::Soft(cause)) => self.soft = earlier(self.soft, cause),
                (_, LimitEvent::Hard(cause)) => self.hard = earlier(self.hard, cause),
            }
        }
        if let Some((cause, until)) = self.quiet_until()
            && until <= now
        {
            // Idle, inside or outside a transaction.
            self.hard = earlier(self.hard, cause);
        }
    }

    /// Decision for a session in this state.
    pub(super) fn decision(&self, state: SessionState) -> LimitDecision {
        match (self.soft, self.hard, state) {
            (Some(cause), _, SessionState::Idle)
            | (
                _,
                Some(cause),
                SessionState::Idle | SessionState::InTransaction | SessionState::InFailedTransaction,
            ) => LimitDecision::End(cause),
            (_, Some(cause), SessionState::Busy) => LimitDecision::EndAtBoundary(cause),
            _ => LimitDecision::GoOn,
        }
    }
}

/// The first cause, unless it is one that can be taken back.
fn earlier(first: Option<EndCause>, next: EndCause) -> Option<EndCause> {
    first.filter(|cause| *cause != EndCause::ClusterDrained).or(Some(next))
}
