//! Budgets per source of cancels: wrong keys, and keys that cannot be verified here. Cancels need no login,
//! so anyone can send them. A key that is found or opened costs nothing.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::names::source::Source;

/// Wrong 4-byte keys per source: a burst of 5, then 5 per minute.
pub(super) const WRONG: RefillRate = RefillRate { burst: 5, every: Duration::from_secs(12) };

/// 4-byte keys per source that may be another replica's: a burst of 200, then 10 per second. Each is sent to
/// every server of the cluster; at this rate all secrets of one process id take 13.6 years.
pub(super) const UNKNOWN: RefillRate = RefillRate { burst: 200, every: Duration::from_millis(100) };

/// Lookups of 4-byte keys of a source that has exceeded another budget: 100 per second, the others wait. A
/// valid key is delayed, not refused; all secrets of one process id take 1.4 years.
pub(super) const LOOK_UPS: RefillRate = RefillRate { burst: 1, every: Duration::from_millis(10) };

/// Most sources remembered; the oldest are dropped first. An entry takes about 100 bytes.
pub(super) const MAX_SOURCES: usize = 8_192;

/// A burst and an interval.
#[derive(Clone, Copy)]
pub(super) struct RefillRate {
    pub(super) burst: u32,
    pub(super) every: Duration,
}

/// Budgets of one source, each stored as the time at which it is full again (GCRA).
#[derive(Default)]
pub(super) struct SourceBudgets {
    pub(super) wrong: TokenBucket,
    pub(super) unknown: TokenBucket,
    pub(super) look_ups: TokenBucket,
}

impl SourceBudgets {
    /// True if the source has exceeded a budget: too many keys that are wrong or cannot be verified here.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        !self.wrong.has(WRONG, now) || !self.unknown.has(UNKNOWN, now)
    }
}

#[derive(Default)]
pub(super) struct TokenBucket(Option<Instant>);

impl TokenBucket {
    /// True if the bucket is not empty.
    pub(super) fn has(&self, rate: RefillRate, now: Instant) -> bool {
        let debt = self.0.map_or(Duration::ZERO, |whole| whole.saturating_duration_since(now));
        debt <= rate.every * (rate.burst - 1)
    }

    /// Takes one unit; `false` if the bucket is empty.
    pub(super) fn spend(&mut self, rate: RefillRate, now: Instant) -> bool {
        let has = self.has(rate, now);
        if has {
            self.0 = Some(self.0.map_or(now, |whole| whole.max(now)) + rate.every);
        }
        has
    }

    /// Reserves one unit and returns the time at which it is available; `None` if that is after `latest`.
    pub(super) fn reserve(&mut self, rate: RefillRate, now: Instant, latest: Instant) -> Option<Instant> {
        let whole = self.0.map_or(now, |whole| whole.max(now));
        let turn = whole.checked_sub(rate.every * (rate.burst - 1)).map_or(now, |turn| turn.max(now));
        if turn > latest {
            return None;
        }
        self.0 = Some(whole + rate.every);
        Some(turn)
    }
}

/// Recently seen sources in two generations: a full young generation becomes the old one, and the old one is
/// dropped. So at least the last half of [`MAX_SOURCES`] is remembered, with a plain lookup.
#[derive(Default)]
pub(super) struct SourceTable {
    young: HashMap<Source, SourceBudgets>,
    old: HashMap<Source, SourceBudgets>,
}

impl SourceTable {
    /// Budgets of `source`.
    pub(super) fn of(&mut self, source: Source) -> &mut SourceBudgets {
        if !self.young.contains_key(&source) && self.young.len() >= MAX_SOURCES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let old = self.old.remove(&source);
        self.young.entry(source).or_insert_with(|| old.unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::names::client_addr::{ClientAddr, PeerProcess};

    #[test]
    fn a_burst_then_one_by_one() {
        let (start, mut budget) = (Instant::now(), TokenBucket::default());
        for (rate, per_minute) in [(WRONG, 5), (UNKNOWN, 600)] {
            let mut spend = |after: Duration| budget.spend(rate, start + after);
            for n in 0..rate.burst {
                assert!(spend(Duration::ZERO), "{n} of {}", rate.burst);
            }
            assert!(!spend(Duration::ZERO), "one past the burst");
            assert!(!spend(rate.every.checked_sub(Duration::from_millis(1)).unwrap()));
            assert!(spend(rate.every));
            assert!(!spend(rate.every));
            assert_eq!(Duration::from_mins(1).as_millis() / rate.every.as_millis(), per_minute);
            budget = TokenBucket::default();
        }
    }

    #[test]
    fn beyond_the_burst_turns_are_one_pause_apart_up_to_the_latest() {
        let (now, mut budget) = (Instant::now(), TokenBucket::default());
        let latest = now + UNKNOWN.every * 3;
        for n in 0..UNKNOWN.burst {
            assert_eq!(budget.reserve(UNKNOWN, now, latest), Some(now), "{n}");
        }
        for n in 1..=3 {
            assert_eq!(budget.reserve(UNKNOWN, now, latest), Some(now + UNKNOWN.every * n));
        }
        assert_eq!(budget.reserve(UNKNOWN, now, latest), None, "and a refusal takes nothing");
        let later = now + UNKNOWN.every;
        assert_eq!(budget.reserve(UNKNOWN, later, latest + UNKNOWN.every), Some(latest + UNKNOWN.every));
    }

    #[test]
    fn processes_of_one_user_are_one_source() {
        let of = |uid, pid| Source::from(ClientAddr::Unix(PeerProcess { uid, gid: 0, pid: Some(pid) }));
        assert_eq!((of(1_000, 1), of(1_000, 1).to_string().as_str()), (of(1_000, 2), "unix:uid=1000"));
        assert_ne!(of(1_000, 1), of(1_001, 1));
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let of = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn the_oldest_sources_are_forgotten_and_the_others_are_not() {
        let (now, mut sources) = (Instant::now(), SourceTable::default());
        let addr = |n: usize| Source::from(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
        let is_known = |sources: &mut SourceTable, n: usize| sources.of(addr(n)).wrong.0.is_some();
        for n in 0..MAX_SOURCES {
            assert!(sources.of(addr(n)).wrong.spend(WRONG, now));
        }
        assert_eq!(sources.len(), MAX_SOURCES);
        sources.of(addr(MAX_SOURCES)); // one past the limit
        assert!(sources.len() <= MAX_SOURCES);
        assert!(is_known(&mut sources, MAX_SOURCES - 1) && is_known(&mut sources, MAX_SOURCES / 2));
        assert!(!is_known(&mut sources, 0), "the first one is forgotten");
        for n in 0..5 * MAX_SOURCES {
            sources.of(addr(n));
            assert!(sources.len() <= MAX_SOURCES);
        }
    }
}
