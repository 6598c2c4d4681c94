//! Circuit breaker for calls to STS: Closed => Open after too many consecutive failures => HalfOpen after a
//! pause, with one probe => Closed or Open. Does no I/O and gets the time from its caller, so that tests do
//! not wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;

/// Consecutive failures that open the breaker. If half of all calls fail at random, that happens once in a
/// million calls.
pub const FAILURES: u32 = 20;

/// Time from opening until a probe is allowed.
pub const OPEN_FOR: Duration = Duration::from_secs(5);

/// Number of calls that may begin after an unfinished one before the unfinished one is no longer counted.
const LOOK_AHEAD: usize = 200;

/// Counter of consecutive failures. One per thing that can fail on its own.
///
/// Consecutive failures are counted in the order in which the calls began. Otherwise an STS endpoint that
/// fails fast and succeeds slowly would look down while half of the calls succeed.
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

/// Calls that have begun and are not counted yet.
#[derive(Debug)]
struct FailureStreak {
    /// Number of the first call in this list.
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

/// State of a breaker, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All calls are allowed.
    Closed,
    /// No call is allowed.
    Open,
    /// A single call is allowed, as a probe.
    HalfOpen,
}

/// A change of state, worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerTransition {
    /// The breaker opened, or opened again after a probe.
    Opened,
    /// The breaker closed.
    Closed,
}

/// Permission for one call. The caller should report the result. A probe that is dropped without a report
/// counts as failed; any other permit does not count.
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

    /// Records the result of call `number` and counts all results whose turn it is. Returns true if the
    /// breaker has to open.
    fn end(&mut self, number: u64, end: CallResult) -> bool {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.ends.get_mut(place)) {
            Some(slot) => *slot = end,
            // Already counted as unknown, or begun before the breaker last opened.
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
    /// True if a call at `now` would be rejected.
    pub fn is_open(&self, now: Instant) -> bool {
        match self.lock().phase {
            BreakerPhase::Closed(_) => false,
            BreakerPhase::Open { until } => now < until,
            BreakerPhase::Probing => true,
        }
    }

    /// State at `now`.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.lock().phase {
            BreakerPhase::Closed(_) => BreakerState::Closed,
            BreakerPhase::Open { until } if now < until => BreakerState::Open,
            BreakerPhase::Open { .. } | BreakerPhase::Probing => BreakerState::HalfOpen,
        }
    }

    /// Permission to call, or `None` if the breaker is open.
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
            // Success of a call from before the breaker opened proves as much as a probe.
            _ if end == CallResult::Good => Some(BreakerTransition::Closed),
            BreakerPhase::Probing if probe => Some(BreakerTransition::Opened),
            // Failures of calls from before the breaker opened do not prolong it.
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
        lock(&self.0)
    }
}

impl CallPermit<'_> {
    /// Reports the result of the call, which ended at `now`.
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
