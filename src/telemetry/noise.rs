//! Rate limits for output that clients can cause: audit records of failed connections, per source and in
//! total, and log lines per kind. Suppressed ones are counted, and the count is part of the next written one.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::source::Source;
use crate::sync::lock;

/// Records per source, or per refused subject: a burst of 60, then one per second.
const PER_KEY: Rate = Rate { burst: 60, every: Duration::from_secs(1) };

/// Cancels with unproven keys per source: a burst of 200, then 10 per second.
const CANCELS: Rate = Rate { burst: 200, every: Duration::from_millis(100) };

/// Cancels with valid keys per source: a burst of 1,000, then 100 per second. Drivers send them all together
/// if a database stalls.
const RIGHT_CANCELS: Rate = Rate { burst: 1_000, every: Duration::from_millis(10) };

/// Records of all clients without a verified token: a burst of 600, then 30 per second.
const UNVERIFIED: Rate = Rate { burst: 600, every: Duration::from_millis(33) };

/// Lines of one kind: a burst of 20, then one per second.
const PER_KIND: Rate = Rate { burst: 20, every: Duration::from_secs(1) };

/// Most sources and subjects remembered; the oldest are dropped first. An entry takes about 50 bytes.
const MAX_KEYS: usize = 8_192;

/// Time between two summaries of suppressed records.
const SUM_EVERY: Duration = Duration::from_mins(1);

/// A burst and an interval.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Key of the budget that a record counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RecordKey<'k> {
    /// Routine probes of a source.
    Routine(Source),
    /// Cancels with unproven keys of a source.
    Cancel(Source),
    /// Cancels with valid keys of a source.
    RightCancel(Source),
    /// Connections of a source that failed before a token was verified.
    Failed(Source),
    /// Refused logins of one issuer and subject.
    Refused(&'k str, &'k str),
}

impl RecordKey<'_> {
    fn rate(&self) -> Rate {
        match self {
            Self::Cancel(_) => CANCELS,
            Self::RightCancel(_) => RIGHT_CANCELS,
            Self::Routine(_) | Self::Failed(_) | Self::Refused(..) => PER_KEY,
        }
    }

    /// True if the client has proved its identity, or that it has a session.
    pub(super) fn is_verified(&self) -> bool {
        matches!(self, Self::Refused(..) | Self::RightCancel(_))
    }
}

/// The budgets and counters.
#[derive(Debug, Default)]
pub struct NoiseLimiter {
    hasher: RandomState,
    records: Mutex<Budgets>,
    lines: Mutex<HashMap<&'static str, Budget>>,
    records_left_out: AtomicU64,
    lines_left_out: AtomicU64,
    summary: Mutex<Summary>,
}

/// Budgets of the recently seen keys, in two generations: a full young generation becomes the old one, and
/// the old one is dropped.
#[derive(Debug, Default)]
struct Budgets {
    young: HashMap<u64, Budget>,
    old: HashMap<u64, Budget>,
    unverified: Budget,
}

/// The last summary.
#[derive(Debug, Default)]
struct Summary {
    records: u64,
    at: Option<Instant>,
}

/// Remaining budget of a rate, stored as the time at which it is full again (GCRA), and the number suppressed.
#[derive(Debug, Default)]
struct Budget {
    whole: Option<Instant>,
    left_out: u64,
}

impl Budget {
    fn has(&self, rate: Rate, now: Instant) -> bool {
        let debt = self.whole.map_or(Duration::ZERO, |whole| whole.saturating_duration_since(now));
        debt <= rate.every * (rate.burst - 1)
    }

    /// Spends one unit and returns the number suppressed before it. If the budget is empty, counts one more
    /// as suppressed and returns `None`.
    fn spend(&mut self, rate: Rate, now: Instant) -> Option<u64> {
        if !self.has(rate, now) {
            self.left_out += 1;
            return None;
        }
        self.whole = Some(self.whole.map_or(now, |whole| whole.max(now)) + rate.every);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl NoiseLimiter {
    /// Admits a record and returns the number of records of `key` suppressed before it; `None` to suppress
    /// it.
    pub(super) fn record(&self, key: RecordKey<'_>) -> Option<u64> {
        let hash = self.hasher.hash_one(key);
        let now = Instant::now();
        let mut records = lock(&self.records);
        let is_crowded = !key.is_verified() && !records.unverified.has(UNVERIFIED, now);
        let budget = records.of(hash);
        let spent = if is_crowded {
            budget.left_out += 1;
            None
        } else {
            budget.spend(key.rate(), now)
        };
        match spent {
            Some(_) if !key.is_verified() => drop(records.unverified.spend(UNVERIFIED, now)),
            Some(_) => {}
            None => _ = self.records_left_out.fetch_add(1, Ordering::Relaxed),
        }
        spent
    }

    /// Like [`NoiseLimiter::record`], for a line of `kind`.
    pub fn line(&self, kind: &'static str) -> Option<u64> {
        let mut lines = lock(&self.lines);
        let spent = lines.entry(kind).or_default().spend(PER_KIND, Instant::now());
        drop(lines);
        if spent.is_none() {
            self.lines_left_out.fetch_add(1, Ordering::Relaxed);
        }
        spent
    }

    /// Records suppressed since the last summary; `None` if there are none or it is too early.
    pub(super) fn sum(&self) -> Option<u64> {
        let all = self.records_left_out.load(Ordering::Relaxed);
        let mut summary = lock(&self.summary);
        let now = Instant::now();
        let new = all - summary.records;
        if new == 0 || summary.at.is_some_and(|at| now < at + SUM_EVERY) {
            return None;
        }
        (summary.records, summary.at) = (all, Some(now));
        Some(new)
    }

    /// Lines and records suppressed since start.
    pub fn left_out(&self) -> (u64, u64) {
        (self.lines_left_out.load(Ordering::Relaxed), self.records_left_out.load(Ordering::Relaxed))
    }
}

impl Budgets {
    fn of(&mut self, key: u64) -> &mut Budget {
        if !self.young.contains_key(&key) && self.young.len() >= MAX_KEYS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let old = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| old.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::time::advance;

    use super::*;

    fn source(number: usize) -> Source {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes()).into()
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_gets_a_burst_and_then_one_a_second_and_the_next_tells_what_is_missing() {
        let noise = NoiseLimiter::default();
        let (key, other) = (RecordKey::Failed(source(1)), RecordKey::Failed(source(2)));
        for _ in 0..PER_KEY.burst {
            assert_eq!(noise.record(key), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(noise.record(key), None);
        }
        assert_eq!(noise.record(other), Some(0), "others have budgets of their own");
        assert_eq!(noise.record(RecordKey::Routine(source(1))), Some(0), "and so have probes");
        advance(PER_KEY.every).await;
        assert_eq!((noise.record(key), noise.record(key)), (Some(1_000), None));
        assert_eq!(noise.left_out(), (0, 1_001));
    }

    #[tokio::test(start_paused = true)]
    async fn many_sources_share_a_rate_that_people_have_no_part_in() {
        let noise = NoiseLimiter::default();
        let written = |noise: &NoiseLimiter, from: usize| {
            (from..from + 20_000).filter(|n| noise.record(RecordKey::Failed(source(*n))).is_some()).count()
        };
        assert_eq!(written(&noise, 0), 600);
        assert_eq!(noise.record(RecordKey::Refused("issuer", "alice")), Some(0));
        advance(Duration::from_secs(10)).await;
        let in_ten_seconds = written(&noise, 20_000);
        assert!((300..=304).contains(&in_ten_seconds), "{in_ten_seconds}");
        let records = noise.records.lock().unwrap();
        assert!(records.young.len() + records.old.len() <= MAX_KEYS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_of_line_has_a_rate_and_the_sum_is_told_once_a_minute() {
        let noise = NoiseLimiter::default();
        let written = (0..100).filter(|_| noise.line("sts").is_some()).count();
        assert_eq!((written, noise.line("tls"), noise.left_out()), (20, Some(0), (80, 0)));
        advance(PER_KIND.every).await;
        assert_eq!(noise.line("sts"), Some(80));
        assert_eq!(noise.sum(), None, "records alone have a sum");
        for _ in 0..100 {
            noise.record(RecordKey::Refused("issuer", "alice"));
        }
        assert_eq!((noise.sum(), noise.sum()), (Some(40), None));
        noise.record(RecordKey::Refused("issuer", "alice"));
        assert_eq!(noise.sum(), None, "too early");
        advance(SUM_EVERY).await;
        assert_eq!(noise.sum(), Some(1));
    }
}
