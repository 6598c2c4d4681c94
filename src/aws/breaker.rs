//! A circuit breaker: after enough failures in a row it lets nobody through for a while, then one to find out.
//! No input or output; told the time, so that tests need no waiting.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it. Half of all calls failing at random do so once in a million calls.
pub const FAILURES: u32 = 20;

/// How long it stays open before one call may try.
pub const OPEN_FOR: Duration = Duration::from_secs(5);

/// How many calls may begin after one whose end is not known before that one is counted no more.
const LOOK_AHEAD: usize = 200;

/// Counts failures in a row. One for each thing that can fail on its own.
///
/// The row is that of the calls' beginnings: a server that says no at once and yes only after some work would
/// otherwise show any number of failures in a row while half of the calls succeed.
#[derive(Debug)]
pub struct Breaker(Mutex<BreakerRecord>);

#[derive(Debug)]
struct BreakerRecord {
    phase: BreakerPhase,
    /// Number of the next call.
    next: u64,
}

#[derive(Debug)]
enum BreakerPhase {
    Closed(FailureStreak),
    Open { until: Instant },
    Probing,
}

/// The calls that have begun and are not counted yet.
#[derive(Debug)]
struct FailureStreak {
    /// Number of the first of them.
    first: u64,
    ends: VecDeque<CallResult>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallResult {
    Pending,
    Good,
    Bad,
    Unknown,
}

/// What a breaker is doing, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everyone is let through.
    Closed,
    /// Nobody is.
    Open,
    /// One is, to find out.
    HalfOpen,
}

/// A failure or success changed what the breaker does; worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerTransition {
    /// It opened, also again after a probe.
    Opened,
    /// It closed.
    Closed,
}

/// Leave to make one call. Its end should be reported; a probe that is dropped without a word counts as failed,
/// and any other does not count.
#[derive(Debug)]
pub struct CallPermit<'a> {
    breaker: &'a Breaker,
    number: u64,
    probe: bool,
    reported: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self(Mutex::new(BreakerRecord {
            phase: BreakerPhase::Closed(FailureStreak::starting_at(0)),
            next: 0,
        }))
    }
}

impl FailureStreak {
    fn starting_at(first: u64) -> Self {
        Self { first, ends: VecDeque::new(), failures: 0 }
    }

    /// Notes how call `number` ended and counts what can be counted; whether that was one failure too many.
    fn end(&mut self, number: u64, end: CallResult) -> bool {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.ends.get_mut(place)) {
            Some(slot) => *slot = end,
            // Already counted as unknown, or from before the breaker last opened.
            None if end == CallResult::Good => self.failures = 0,
            None => {}
        }
        while self.ends.front().is_some_and(|end| *end != CallResult::Pending) || self.ends.len() > LOOK_AHEAD
        {
            self.first += 1;
            match self.ends.pop_front() {
                Some(CallResult::Good) => self.failures = 0,
                Some(CallResult::Bad) => self.failures += 1,
                Some(CallResult::Pending | CallResult::Unknown) | None => {}
            }
            if self.failures >= FAILURES {
                return true;
            }
        }
        false
    }
}

impl Breaker {
    /// Whether a call at `now` would be turned away.
    pub fn is_open(&self, now: Instant) -> bool {
        match self.lock().phase {
            BreakerPhase::Closed(_) => false,
            BreakerPhase::Open { until } => now < until,
            BreakerPhase::Probing => true,
        }
    }

    /// What it is doing at `now`.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.lock().phase {
            BreakerPhase::Closed(_) => BreakerState::Closed,
            BreakerPhase::Open { until } if now < until => BreakerState::Open,
            BreakerPhase::Open { .. } | BreakerPhase::Probing => BreakerState::HalfOpen,
        }
    }

    /// Leave to call, or `None`.
    pub fn enter(&self, now: Instant) -> Option<CallPermit<'_>> {
        let mut state = self.lock();
        let probe = match &mut state.phase {
            BreakerPhase::Closed(streak) => {
                streak.ends.push_back(CallResult::Pending);
                false
            }
            BreakerPhase::Open { until } if now >= *until => {
                state.phase = BreakerPhase::Probing;
                true
            }
            BreakerPhase::Open { .. } | BreakerPhase::Probing => return None,
        };
        let number = state.next;
        state.next += 1;
        Some(CallPermit { breaker: self, number, probe, reported: false })
    }

    fn end(&self, number: u64, probe: bool, end: CallResult, now: Instant) -> Option<BreakerTransition> {
        let mut state = self.lock();
        let next = state.next;
        let transition = match &mut state.phase {
            BreakerPhase::Closed(streak) => streak.end(number, end).then_some(BreakerTransition::Opened),
            // A call that began before it opened and ends well is as good a sign as a probe.
            _ if end == CallResult::Good => Some(BreakerTransition::Closed),
            BreakerPhase::Probing if probe => Some(BreakerTransition::Opened),
            // Stragglers of the time before do not prolong it.
            BreakerPhase::Open { .. } | BreakerPhase::Probing => None,
        };
        match transition {
            Some(BreakerTransition::Opened) => state.phase = BreakerPhase::Open { until: now + OPEN_FOR },
            Some(BreakerTransition::Closed) => {
                state.phase = BreakerPhase::Closed(FailureStreak::starting_at(next));
            }
            None => {}
        }
        transition
    }

    fn lock(&self) -> MutexGuard<'_, BreakerRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallPermit<'_> {
    /// The call ended at `now`, well or badly.
    pub fn report(mut self, good: bool, now: Instant) -> Option<BreakerTransition> {
        self.reported = true;
        self.breaker.end(self.number, self.probe, if good { CallResult::Good } else { CallResult::Bad }, now)
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        if !self.reported {
            let end = if self.probe { CallResult::Bad } else { CallResult::Unknown };
            self.breaker.end(self.number, self.probe, end, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) -> Option<BreakerTransition> {
        breaker.enter(now).unwrap().report(false, now)
    }

    #[test]
    fn r14_it_opens_at_the_limit_and_not_before_and_one_success_starts_the_count_again() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            assert_eq!(fail(&breaker, now), None);
        }
        assert_eq!(breaker.enter(now).unwrap().report(true, now), None);
        for _ in 1..FAILURES {
            assert_eq!(fail(&breaker, now), None);
        }
        assert!(!breaker.is_open(now));
        assert_eq!(fail(&breaker, now), Some(BreakerTransition::Opened));
        assert!(breaker.is_open(now) && breaker.enter(now).is_none());
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            fail(&breaker, now);
        }
        breaker
    }

    #[test]
    fn r14_half_open_lets_one_through_and_its_end_decides() {
        let now = Instant::now();
        let breaker = opened(now);
        let just_before = now + OPEN_FOR.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(breaker.enter(just_before).is_none());
        let later = now + OPEN_FOR;
        let probe = breaker.enter(later).unwrap();
        assert!(breaker.enter(later).is_none() && breaker.is_open(later), "one at a time");
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert_eq!(probe.report(false, later), Some(BreakerTransition::Opened));
        assert!(breaker.enter(just_before + OPEN_FOR).is_none());
        let probe = breaker.enter(later + OPEN_FOR).unwrap();
        assert_eq!(probe.report(true, later + OPEN_FOR), Some(BreakerTransition::Closed));
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_has_failed() {
        let breaker = opened(Instant::now());
        tokio::time::advance(OPEN_FOR).await;
        drop(breaker.enter(Instant::now()).unwrap());
        assert_eq!(breaker.state(Instant::now()), BreakerState::Open);
        tokio::time::advance(OPEN_FOR).await;
        assert!(breaker.enter(Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_call_panics_has_failed_and_another_one_may_try() {
        let breaker = opened(Instant::now());
        tokio::time::advance(OPEN_FOR).await;
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _probe = breaker.enter(Instant::now()).unwrap();
            panic!("as ordered");
        }));
        assert!(panicked.is_err());
        assert_eq!(breaker.state(Instant::now()), BreakerState::Open);
        tokio::time::advance(OPEN_FOR).await;
        let probe = breaker.enter(Instant::now()).expect("nobody waits for a call that has ended");
        assert_eq!(probe.report(true, Instant::now()), Some(BreakerTransition::Closed));
    }

    #[test]
    fn quick_failures_before_slow_successes_are_no_row() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let slow: Vec<_> = (0..LOOK_AHEAD / 2)
            .map(|_| {
                let slow = breaker.enter(now).unwrap();
                assert_eq!(fail(&breaker, now), None);
                slow
            })
            .collect();
        for slow in slow {
            assert_eq!(slow.report(true, now), None);
        }
        assert!(!breaker.is_open(now));
    }

    #[test]
    fn r14_a_call_that_hangs_hides_the_failures_of_others_up_to_a_limit() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let hanging = breaker.enter(now).unwrap();
        for _ in 1..LOOK_AHEAD {
            assert_eq!(fail(&breaker, now), None);
        }
        assert_eq!(fail(&breaker, now), Some(BreakerTransition::Opened), "one past the limit");
        assert_eq!(hanging.report(false, now), None);
    }

    #[test]
    fn calls_without_a_reported_end_neither_count_nor_hide_others() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            drop(breaker.enter(now).unwrap());
            assert_eq!(fail(&breaker, now), None);
        }
        drop(breaker.enter(now).unwrap());
        assert_eq!(fail(&breaker, now), Some(BreakerTransition::Opened));
    }

    #[test]
    fn stragglers_do_not_prolong_it_but_a_late_success_ends_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let early: Vec<_> = (0..FAILURES).map(|_| breaker.enter(now).unwrap()).collect();
        let late: Vec<_> = (0..3).map(|_| breaker.enter(now).unwrap()).collect();
        for early in early {
            early.report(false, now);
        }
        let mut late = late.into_iter();
        let moment = now + Duration::from_secs(4);
        assert_eq!(late.next().unwrap().report(false, moment), None);
        let probe = breaker.enter(now + OPEN_FOR).unwrap();
        assert_eq!(late.next().unwrap().report(false, moment), None, "not the probe");
        assert_eq!(late.next().unwrap().report(true, moment), Some(BreakerTransition::Closed));
        assert_eq!(probe.report(false, moment), None, "one failure");
        assert!(!breaker.is_open(moment));
    }
}
