//! Averages of `SHOW STATS`: per second in the last full period, as PgBouncer's `stats_period` has it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::registry::ClusterTotals;
use crate::sync::lock;

/// Length of a period.
pub(super) const PERIOD: Duration = Duration::from_mins(1);

/// Totals by cluster at one moment.
type Totals = BTreeMap<String, ClusterTotals>;

/// Totals at the ends of the last two periods.
#[derive(Debug)]
pub(super) struct StatsPeriods(Mutex<[(Instant, Totals); 2]>);

impl Default for StatsPeriods {
    /// The first period begins.
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new([(now, Totals::new()), (now, Totals::new())]))
    }
}

impl StatsPeriods {
    /// Ends a period.
    pub(super) fn end(&self, now: Instant, totals: Totals) {
        let mut ends = lock(&self.0);
        ends.swap(0, 1);
        let [_, last] = &mut *ends;
        *last = (now, totals);
    }

    /// Averages per second of a cluster whose totals are `total` now: of the last full period, or since the start while
    /// there is none.
    pub(super) fn averages(&self, now: Instant, cluster: &str, total: ClusterTotals) -> [u64; 5] {
        let ends = lock(&self.0);
        let [(from, before), (to, after)] = &*ends;
        let of = |totals: &Totals| totals.get(cluster).copied().unwrap_or_default();
        let (first, last, length) =
            if to > from { (of(before), of(after), *to - *from) } else { (of(after), total, now - *to) };
        let (first, last) = (columns(first), columns(last));
        let mut averages = [0; 5];
        for ((average, first), last) in averages.iter_mut().zip(first).zip(last) {
            *average = per_second(last.saturating_sub(first), length);
        }
        averages
    }
}

/// Totals in the order of the columns: sessions, transactions, queries, bytes received from clients, bytes sent to them.
pub(super) fn columns(total: ClusterTotals) -> [u64; 5] {
    let work = total.work;
    [total.sessions, work.counts.transactions, work.counts.queries, work.to_server, work.to_client]
}

fn per_second(count: u64, length: Duration) -> u64 {
    let average = u128::from(count) * 1_000 / length.as_millis().max(1);
    u64::try_from(average).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(sessions: u64) -> (ClusterTotals, Totals) {
        let total = ClusterTotals { sessions, ..ClusterTotals::default() };
        (total, Totals::from([("app".to_owned(), total)]))
    }

    #[tokio::test(start_paused = true)]
    async fn averages_are_those_of_the_last_full_period() {
        let (periods, start) = (StatsPeriods::default(), Instant::now());
        let sessions =
            |seconds, now| periods.averages(start + Duration::from_secs(seconds), "app", totals(now).0)[0];
        assert_eq!((sessions(10, 50), sessions(20, 40)), (5, 2), "since the start");
        for (minute, count) in [(1, 600), (2, 1_800), (3, 1_800)] {
            periods.end(start + PERIOD * minute, totals(count).1);
            let expected = [10, 20, 0][usize::try_from(minute).unwrap() - 1];
            assert_eq!(sessions(600, 9_999), expected, "minute {minute}");
        }
        let other = periods.averages(start + 5 * PERIOD, "other", ClusterTotals::default());
        assert_eq!(other, [0; 5]);
    }
}
