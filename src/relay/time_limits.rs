//! When a session has to end, by the rules of `[session]`, by its token and by a stop of the service. Only
//! decides; time and events come from outside.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{OnTokenExpiry, SessionSettings};
use crate::protocol::SessionState;

/// How long a session past `max_lifetime` may go on inside its transaction.
const LIFETIME_GRACE: Duration = Duration::from_mins(1);

/// How long a session whose token has expired may go on inside its transaction, with `on_token_expiry = "close"`.
/// With [`super::BOUNDARY_GRACE`] it is over within 5 s.
const EXPIRY_GRACE: Duration = Duration::from_secs(2);

/// Shortest wait after a look at the wall clock that was put back.
const RECHECK: Duration = Duration::from_secs(1);

/// Time that a session has for its first statement, from its welcome, before a drain takes it for idle.
pub(super) const FIRST_STATEMENT: Duration = Duration::from_secs(1);

/// Why the proxy ended a session.
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
    /// The service is stopping, and the session was idle.
    Drained,
    /// The service is stopping, and waits no longer.
    Stopped,
}

/// When the token of a session expires.
#[derive(Clone, Copy, Debug)]
pub struct TokenTimes {
    /// `exp`.
    pub expires: SystemTime,
    /// `exp` and the leeway of its issuer.
    pub accepted_until: SystemTime,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitDecision {
    GoOn,
    /// Nothing is under way: end it here.
    End(EndCause),
    /// End it at the next end of a message.
    EndAtBoundary(EndCause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LimitEvent {
    /// Tell the client that its token is about to expire.
    Notice,
    /// End the session out of a transaction.
    Soft(EndCause),
    /// End it wherever it stands.
    Hard(EndCause),
}

/// An event to come. It needs both clocks: the monotonic one, which nobody can set, and, where it is about a
/// token, the wall clock too, which can have been wrong.
#[derive(Clone, Copy, Debug)]
struct ScheduledEvent {
    at: Instant,
    wall: Option<SystemTime>,
    event: LimitEvent,
}

/// The rules of one session.
#[derive(Debug)]
pub(super) struct TimeLimits {
    client_idle: Option<Duration>,
    idle_transaction: Option<Duration>,
    /// When the session began.
    begun: Instant,
    plan: Vec<ScheduledEvent>,
    /// What the client keeps waiting, and since when.
    quiet: Option<(EndCause, Instant)>,
    soft: Option<EndCause>,
    hard: Option<EndCause>,
    /// The notice is due and not said yet.
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
            // A token that expires sooner is announced at once.
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

    /// Whether it matters how the session stands.
    pub(super) fn needs_state(&self) -> bool {
        self.client_idle.is_some()
            || self.idle_transaction.is_some()
            || self.soft.is_some()
            || self.hard.is_some()
            || self.notice
    }

    /// The service is stopping. A client that was welcomed a moment ago is not cut off before its first statement.
    pub(super) fn drain(&mut self) {
        let at = self.begun + FIRST_STATEMENT;
        self.plan.push(ScheduledEvent { at, wall: None, event: LimitEvent::Soft(EndCause::Drained) });
    }

    /// The session has to end now.
    pub(super) fn stop(&mut self, cause: EndCause) {
        self.hard = Some(cause);
    }

    /// How the session stands, and whether the client has sent something since the last time.
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

    /// When to look again although nothing moves.
    pub(super) fn next(&self) -> Option<Instant> {
        self.plan.iter().map(|planned| planned.at).chain(self.quiet_until().map(|(_, at)| at)).min()
    }

    fn quiet_until(&self) -> Option<(EndCause, Instant)> {
        let (cause, since) = self.quiet?;
        let patience = if cause == EndCause::ClientIdle { self.client_idle } else { self.idle_transaction };
        Some((cause, since + patience?))
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant, clock: &Clock) {
        let due: Vec<ScheduledEvent> = self.plan.extract_if(.., |planned| planned.at <= now).collect();
        for planned in due {
            let early = planned.wall.and_then(|wall| wall.duration_since(clock.now()).ok());
            match (early, planned.event) {
                (Some(early), _) if !early.is_zero() => {
                    self.plan.push(ScheduledEvent { at: now + early.max(RECHECK), ..planned });
                }
                (_, LimitEvent::Notice) => self.notice = true,
                (_, LimitEvent::Soft(cause)) => self.soft = self.soft.or(Some(cause)),
                (_, LimitEvent::Hard(cause)) => self.hard = self.hard.or(Some(cause)),
            }
        }
        if let Some((cause, until)) = self.quiet_until()
            && until <= now
        {
            // Nothing is under way, whether or not there is a transaction.
            self.hard = self.hard.or(Some(cause));
        }
    }

    /// What follows for a session that stands like this.
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
