//! Paces the logins of one cluster, so that AWS does not throttle them: how many may begin in a second, and how
//! many may wait.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::ClusterSettings;
use crate::identity::Grant;

/// Longest wait for a turn. Who would have to wait longer is told so at once: a pool that asks again later is
/// better off than one that waits for a login that its own deadline ends.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The window that AWS counts in (Aurora user guide, "IAM database authentication": 200 new connections a second).
const WINDOW: Duration = Duration::from_secs(1);

/// As many logins wait as can be let in within [`LONGEST_WAIT`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster}: the queue of logins is full, at max_logins_per_second = {per_second}")]
pub struct QueueFull {
    /// The cluster's name.
    pub cluster: String,
    /// Its limit.
    pub per_second: usize,
}

/// The queues of all clusters, by name.
#[derive(Debug, Default)]
pub struct LoginRateLimiters(HashMap<String, Arc<LoginRateLimiter>>);

/// The queue of one cluster.
#[derive(Debug)]
struct LoginRateLimiter {
    per_second: usize,
    /// When the last `per_second` logins were or will be let in, in order.
    turns: Mutex<VecDeque<Instant>>,
    waiting: AtomicUsize,
}

/// Counts one who waits, also if whoever it is goes away.
struct WaitingLogin<'a>(&'a AtomicUsize);

impl<'a> WaitingLogin<'a> {
    fn begins(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitingLogin<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LoginRateLimiters {
    /// A queue for each cluster that has a limit.
    pub fn new(clusters: &[Arc<ClusterSettings>]) -> Self {
        Self::default().succeeded_by(clusters)
    }

    /// For the next configuration: who waits keeps waiting, in the queue of a cluster whose limit stays the same.
    #[must_use]
    pub fn succeeded_by(&self, clusters: &[Arc<ClusterSettings>]) -> Self {
        let queue = |cluster: &Arc<ClusterSettings>| {
            let limit = Some(cluster.max_logins_per_second).filter(|limit| *limit > 0)?;
            let known = self.0.get(&cluster.name).filter(|known| known.per_second == limit);
            let queue = known.map_or_else(|| Arc::new(LoginRateLimiter::new(limit)), Arc::clone);
            Some((cluster.name.clone(), queue))
        };
        Self(clusters.iter().filter_map(queue).collect())
    }

    /// How many logins wait for their turn.
    pub fn queued(&self) -> usize {
        self.0.values().map(|queue| queue.waiting.load(Ordering::Relaxed)).sum()
    }

    /// Waits for the turn of one login, first come, first served. AWS counts tokens that it has not seen before:
    /// a login with a token that another login has used already (`reused`) is let in at once.
    pub async fn admit(&self, grant: &Grant, reused: bool) -> Result<(), QueueFull> {
        let name = &grant.cluster().name;
        let Some(queue) = self.0.get(name).filter(|_| !reused) else { return Ok(()) };
        let now = Instant::now();
        let full = || QueueFull { cluster: name.clone(), per_second: queue.per_second };
        let turn = queue.take(now).ok_or_else(full)?;
        if turn > now {
            let _waiting = WaitingLogin::begins(&queue.waiting);
            sleep_until(turn).await;
        }
        Ok(())
    }
}

impl LoginRateLimiter {
    fn new(per_second: usize) -> Self {
        Self { per_second, turns: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// The next free turn; it is taken, also if whoever took it goes away. `None` if it is too far away.
    fn take(&self, now: Instant) -> Option<Instant> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if turns.len() < self.per_second { None } else { turns.front() };
        let free = oldest.map_or(now, |oldest| *oldest + WINDOW);
        // Not before those who came earlier.
        let turn = turns.back().map_or(now, |last| (*last).max(now)).max(free);
        if turn - now > LONGEST_WAIT {
            return None;
        }
        if oldest.is_some() {
            turns.pop_front();
        }
        turns.push_back(turn);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_of_a_second_has_more_logins_than_the_limit() {
        let (queue, start) = (LoginRateLimiter::new(200), Instant::now());
        let mut turns = Vec::new();
        // In bursts, and as fast as they can.
        for step in 0..900_u64 {
            let now = start + Duration::from_millis(step / 300 * 700);
            turns.extend(queue.take(now));
        }
        assert!(turns.is_sorted(), "first come, first served");
        for (earlier, later) in turns.iter().zip(turns.iter().skip(200)) {
            assert!(*later - *earlier >= WINDOW);
        }
        assert_eq!(turns.iter().filter(|turn| **turn == start).count(), 200, "a burst need not wait");
        assert_eq!(queue.turns.lock().unwrap().len(), 200, "no more is remembered than the limit");
    }

    #[test]
    fn r24_the_queue_ends_at_ten_seconds() {
        let (queue, now) = (LoginRateLimiter::new(3), Instant::now());
        for second in 0..=10 {
            for _ in 0..3 {
                assert_eq!(queue.take(now), Some(now + second * WINDOW));
            }
        }
        assert_eq!(queue.take(now), None, "one past the limit");
        assert_eq!(queue.take(now + WINDOW), Some(now + 11 * WINDOW), "who is refused takes no turn");
        // Long after, nobody waits.
        let later = now + Duration::from_mins(1);
        assert_eq!(queue.take(later), Some(later));
    }

    #[test]
    fn a_reload_leaves_the_queue_unless_its_limit_changes() {
        let cluster = |per_second| {
            let mut cluster = crate::config::test_fixture::cluster("http://127.0.0.1:1");
            cluster.max_logins_per_second = per_second;
            vec![Arc::new(cluster)]
        };
        let before = LoginRateLimiters::new(&cluster(7));
        let same =
            |after: &LoginRateLimiters| after.0.get("app").map(|queue| Arc::ptr_eq(queue, &before.0["app"]));
        assert_eq!(same(&before.succeeded_by(&cluster(7))), Some(true));
        assert_eq!(same(&before.succeeded_by(&cluster(8))), Some(false));
        assert_eq!(same(&before.succeeded_by(&cluster(0))), None, "0 is for no limit");
    }
}
