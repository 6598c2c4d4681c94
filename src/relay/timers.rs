//! Wake-ups of a session other than bytes: the stop of the service and the clock. A separate flag
//! distinguishes them, so that a message costs no check of clocks and tokens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::time_limits::{EndCause, LimitDecision, TimeLimits};
use super::wake_flag::WakeFlag;
use super::{DrainOrder, RelayOptions, SessionActivity};
use crate::clock::Clock;
use crate::protocol::SessionState;

/// The time limits and their wake-up sources.
pub(super) struct RelayTimers {
    pub(super) limits: TimeLimits,
    clock: Clock,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    order: DrainOrder,
    /// The next change of the order.
    order_change: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Distinguishes the end of all sessions from the end of this one.
    now: CancellationToken,
    /// Distinguishes a kill from a withdrawal.
    activity: Arc<SessionActivity>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Time for which the timer is set; `None` if not set.
    armed: Option<Instant>,
    wake_flag: WakeFlag,
}

impl RelayTimers {
    pub(super) fn new(options: &RelayOptions) -> Self {
        let wait = |token: &CancellationToken| Some(Box::pin(token.clone().cancelled_owned()));
        let now = Instant::now();
        let mut limits = TimeLimits::new(&options.settings, options.token, &options.clock, now);
        let (grace, changed) = options.order.current();
        limits.order(grace, now);
        Self {
            limits,
            clock: options.clock.clone(),
            drain: wait(&options.drain),
            order: options.order.clone(),
            order_change: Box::pin(changed.cancelled_owned()),
            ended: wait(&options.ended),
            now: options.now.clone(),
            activity: Arc::clone(&options.activity),
            alarm: None,
            armed: None,
            wake_flag: WakeFlag::default(),
        }
    }

    /// Checks clocks and tokens if they have woken the task. `state` is called only if needed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client_spoke: bool,
        state: impl FnOnce() -> SessionState,
    ) -> LimitDecision {
        let raised = self.wake_flag.take(cx);
        if raised {
            self.poll_timers();
        }
        if !raised && !self.limits.needs_state() {
            return LimitDecision::GoOn;
        }
        let state = state();
        self.limits.note_state(state, client_spoke, Instant::now);
        if raised {
            self.limits.tick(Instant::now(), &self.clock);
        }
        self.arm();
        self.limits.decision(state)
    }

    /// Registers the flag with the tokens and the timer, and records which have fired.
    fn poll_timers(&mut self) {
        let Some(flag) = self.wake_flag.waker() else { return };
        let mut cx = Context::from_waker(flag);
        if self.drain.as_mut().is_some_and(|drain| drain.as_mut().poll(&mut cx).is_ready()) {
            self.drain = None;
            self.limits.drain();
        }
        while self.order_change.as_mut().poll(&mut cx).is_ready() {
            let (grace, changed) = self.order.current();
            self.order_change = Box::pin(changed.cancelled_owned());
            self.limits.order(grace, Instant::now());
        }
        if self.ended.as_mut().is_some_and(|out| out.as_mut().poll(&mut cx).is_ready()) {
            self.ended = None;
            self.limits.stop(if self.now.is_cancelled() {
                EndCause::Stopped
            } else if self.activity.is_killed() {
                EndCause::Killed
            } else {
                EndCause::Withdrawn
            });
        }
        if self.armed.is_some()
            && self.alarm.as_mut().is_some_and(|alarm| alarm.as_mut().poll(&mut cx).is_ready())
        {
            self.armed = None;
        }
    }

    /// Sets the timer. An earlier setting is kept: setting it for each message costs more than an occasional
    /// useless check.
    fn arm(&mut self) {
        let Some(next) = self.limits.next() else { return };
        if self.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        let Some(flag) = self.wake_flag.waker() else { return };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(next)));
        alarm.as_mut().reset(next);
        self.armed = Some(next);
        if alarm.as_mut().poll(&mut Context::from_waker(flag)).is_ready() {
            self.wake_flag.raise(); // already due: check again immediately
        }
    }
}
