//! What wakes a session besides its bytes: the stop of the service and the clock. A bell of its own tells such a
//! wake-up from one by bytes, so that a message costs no look at clocks and tokens.

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Terms;
use super::time_limits::{Cause, Rules, Verdict};
use super::wake_flag::Bell;
use crate::clock::Clock;
use crate::postgres::tracker::SessionState;

/// The rules, and what they wait for.
pub(super) struct Watch {
    pub(super) rules: Rules,
    clock: Clock,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    out: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Tells whether the others are ended too.
    now: CancellationToken,
    alarm: Option<Pin<Box<Sleep>>>,
    /// When the alarm rings; `None` when it is not set.
    armed: Option<Instant>,
    bell: Bell,
}

impl Watch {
    pub(super) fn new(terms: &Terms) -> Self {
        let wait = |token: &CancellationToken| Some(Box::pin(token.clone().cancelled_owned()));
        Self {
            rules: Rules::new(&terms.settings, terms.token, &terms.clock, Instant::now()),
            clock: terms.clock.clone(),
            drain: wait(&terms.drain),
            out: wait(&terms.out),
            now: terms.now.clone(),
            alarm: None,
            armed: None,
            bell: Bell::default(),
        }
    }

    /// Looks at clocks and tokens if they have called. `standing` is asked only where it matters.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client_spoke: bool,
        standing: impl FnOnce() -> SessionState,
    ) -> Verdict {
        let rung = self.bell.take_ring(cx);
        if rung {
            self.look();
        }
        if !rung && !self.rules.watchful() {
            return Verdict::GoOn;
        }
        let standing = standing();
        self.rules.stands(standing, client_spoke, Instant::now);
        if rung {
            self.rules.tick(Instant::now(), &self.clock);
        }
        self.arm();
        self.rules.verdict(standing)
    }

    /// Finds out who has called, and leaves the bell with the others.
    fn look(&mut self) {
        let Some(bell) = self.bell.waker() else { return };
        let mut cx = Context::from_waker(bell);
        if self.drain.as_mut().is_some_and(|drain| drain.as_mut().poll(&mut cx).is_ready()) {
            self.drain = None;
            self.rules.drain();
        }
        if self.out.as_mut().is_some_and(|out| out.as_mut().poll(&mut cx).is_ready()) {
            self.out = None;
            self.rules.stop(if self.now.is_cancelled() { Cause::Stopped } else { Cause::Withdrawn });
        }
        if self.armed.is_some()
            && self.alarm.as_mut().is_some_and(|alarm| alarm.as_mut().poll(&mut cx).is_ready())
        {
            self.armed = None;
        }
    }

    /// Sets the alarm. One that rings too early is left alone: setting it for each message costs more than a
    /// look in vain now and then.
    fn arm(&mut self) {
        let Some(next) = self.rules.next() else { return };
        if self.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        let Some(bell) = self.bell.waker() else { return };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(next)));
        alarm.as_mut().reset(next);
        self.armed = Some(next);
        if alarm.as_mut().poll(&mut Context::from_waker(bell)).is_ready() {
            self.bell.ring(); // it is due already: look again at once
        }
    }
}
