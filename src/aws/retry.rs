//! Retry policy for STS calls, by kind of fault: number of attempts, delays, and time limits.

use std::time::Duration;

use tokio::time::Instant;

/// Time limits and delays of one STS call.
#[derive(Clone, Copy, Debug)]
pub struct StsTimes {
    /// TCP and TLS connection of one attempt.
    pub connect: Duration,
    /// Limit of an attempt.
    pub attempt: Duration,
    /// From the first failing attempt to the last.
    pub operation: Duration,
    /// Whole call including queueing and throttling: the duration of `login_timeout`.
    pub patience: Duration,
    /// Longest delay before the second attempt; doubled for each further attempt.
    pub first_pause: Duration,
    /// Longest delay before any attempt.
    pub longest_pause: Duration,
}

impl StsTimes {
    /// The default limits, with `login_timeout` as the limit of the whole call.
    pub fn of(login_timeout: Duration) -> Self {
        let operation = Duration::from_secs(10).min(login_timeout);
        Self {
            connect: Duration::from_secs(2),
            attempt: Duration::from_secs(5),
            operation,
            patience: login_timeout,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// A fault that another attempt may cure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransientFault {
    /// STS throttles the call.
    Throttled,
    /// STS fails, times out, is unreachable, or the answer is not from STS.
    Failing,
    /// STS reports that it cannot reach the issuer.
    IssuerUnreachable,
    /// STS reports that it could not fetch the issuer's keys. STS also reports this if the keys can never be
    /// fetched.
    KeysNotFetched,
}

impl TransientFault {
    /// Most attempts. Throttled calls have no such limit: AWS refills its request rate continuously, and an
    /// attempt costs STS almost nothing.
    fn attempts(self) -> u32 {
        match self {
            Self::Throttled => u32::MAX,
            Self::Failing | Self::IssuerUnreachable => 3,
            Self::KeysNotFetched => 2,
        }
    }

    /// True for faults of the issuer, false for faults of STS.
    pub fn is_the_issuers(self) -> bool {
        matches!(self, Self::IssuerUnreachable | Self::KeysNotFetched)
    }
}

/// Faults of one call so far. Throttling and failures are counted separately, so that a call that was
/// throttled for long is not abandoned after one failure.
#[derive(Debug)]
pub struct RetryBudget {
    arrived: Instant,
    throttled: u32,
    failed: u32,
    failing_since: Option<Instant>,
}

impl RetryBudget {
    /// Budget of a call that arrived at `arrived`.
    pub fn new(arrived: Instant) -> Self {
        Self { arrived, throttled: 0, failed: 0, failing_since: None }
    }

    /// Time at which the call is abandoned.
    pub fn end(&self, times: &StsTimes) -> Instant {
        self.arrived + times.patience
    }

    /// Longest time for an attempt that begins at `now`.
    pub fn limit(&self, times: &StsTimes, now: Instant) -> Duration {
        let failing = self.failing_since.map_or(Duration::ZERO, |since| now - since);
        times.attempt.min(times.operation.saturating_sub(failing))
    }

    /// Delay before the next attempt, after an attempt that began at `begun` and failed at `now`; `None` for
    /// no further attempt. `random` selects the delay from zero to the maximum (\"full jitter\"), so that
    /// calls that failed together do not retry together.
    pub fn pause(
        &mut self,
        times: &StsTimes,
        fault: TransientFault,
        (begun, now): (Instant, Instant),
        random: u64,
    ) -> Option<Duration> {
        let (tries, end) = if fault == TransientFault::Throttled {
            self.throttled = self.throttled.saturating_add(1);
            (self.throttled, self.end(times))
        } else {
            self.failed += 1;
            let since = *self.failing_since.get_or_insert(begun);
            (self.failed, self.end(times).min(since + times.operation))
        };
        let longest = times.first_pause.saturating_mul(1 << (tries - 1).min(16));
        let longest = u64::try_from(longest.min(times.longest_pause).as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(random % longest.saturating_add(1).max(1));
        (tries < fault.attempts() && now + pause < end).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r14_the_wait_is_full_jitter_between_nothing_and_two_seconds() {
        let (times, now) = (StsTimes::of(Duration::from_mins(1)), Instant::now());
        for (tries, longest) in [
            (1, 100),
            (2, 200),
            (3, 400),
            (4, 800),
            (5, 1_600),
            (6, 2_000),
            (60, 2_000),
            (u32::MAX - 1, 2_000),
        ] {
            let wait = |random| {
                let mut budget = RetryBudget { throttled: tries - 1, ..RetryBudget::new(now) };
                budget.pause(&times, TransientFault::Throttled, (now, now), random).unwrap()
            };
            assert_eq!(wait(longest * 1_000), Duration::from_millis(longest), "{tries}");
            assert_eq!(wait(longest * 1_000 + 1), Duration::ZERO, "{tries}: one past the longest");
            assert_eq!(wait(0), Duration::ZERO);
        }
    }

    #[test]
    fn r14_tries_end_by_number_or_by_time() {
        let (times, now) = (StsTimes::of(Duration::from_mins(1)), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for (fault, attempts) in [
            (TransientFault::Failing, 3),
            (TransientFault::IssuerUnreachable, 3),
            (TransientFault::KeysNotFetched, 2),
        ] {
            let mut budget = RetryBudget::new(now);
            for _ in 1..attempts {
                assert!(budget.pause(&times, fault, (at(0), at(1)), 0).is_some(), "{fault:?}");
            }
            assert_eq!(budget.pause(&times, fault, (at(1), at(2)), 0), None, "{fault:?}");
            let mut slow = RetryBudget::new(now);
            assert_eq!(slow.pause(&times, fault, (at(0), at(10)), 0), None, "{fault:?}");
        }
        let mut throttled = RetryBudget::new(now);
        for _ in 0..1_000 {
            assert!(throttled.pause(&times, TransientFault::Throttled, (at(58), at(59)), 0).is_some());
        }
        assert_eq!(throttled.pause(&times, TransientFault::Throttled, (at(59), at(60)), 0), None);
        // One failure after a long time of being throttled is one failure.
        let mut late = RetryBudget::new(now);
        assert!(late.pause(&times, TransientFault::Throttled, (at(0), at(30)), 0).is_some());
        assert_eq!(late.limit(&times, at(30)), times.attempt);
        assert!(late.pause(&times, TransientFault::Failing, (at(30), at(35)), 0).is_some());
        // All failing tries together have ten seconds.
        assert_eq!(late.limit(&times, at(37)), Duration::from_secs(3));
        // A short login_timeout bounds everything.
        let short = StsTimes::of(Duration::from_secs(2));
        assert_eq!(RetryBudget::new(now).pause(&short, TransientFault::Failing, (at(0), at(2)), 0), None);
    }
}
