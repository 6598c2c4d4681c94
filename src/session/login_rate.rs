//! Rate limiter for logins of one cluster, so that AWS does not throttle them: logins per second, and a
//! bounded queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::ClusterSettings;
use crate::sync::lock;

/// Longest wait for a turn. A login that would wait longer is rejected immediately: a client pool that
/// retries later is better off than one that waits for a login that times out.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Window in which AWS counts (Aurora user guide, "IAM database authentication": 200 new connections per
/// second).
const WINDOW: Duration = Duration::from_secs(1);

/// The queue is full: its logins take [`LONGEST_WAIT`] to start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster}: the queue of logins is full, at max_logins_per_second = {per_second}")]
pub struct QueueFull {
    /// The cluster's name.
    pub cluster: String,
    /// Its limit.
    pub per_second: usize,
}

/// Queue of one cluster.
#[derive(Debug)]
pub struct LoginRateLimiter {
    cluster: String,
    per_second: usize,
    /// Start times of the last `per_second` logins, in order, including future ones.
    turns: Mutex<VecDeque<Instant>>,
    waiting: AtomicUsize,
}

/// Guard that counts a waiting login, also if its future is dropped.
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

impl LoginRateLimiter {
    /// The queue of `cluster`, if it has a limit. Keeps the queue of `before`, the cluster of the last
    /// configuration, while the limit is unchanged.
    pub fn of(cluster: &ClusterSettings, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let limit = Some(cluster.max_logins_per_second).filter(|limit| *limit > 0)?;
        let known = before.filter(|known| known.per_second == limit);
        Some(known.map_or_else(|| Arc::new(Self::new(&cluster.name, limit)), Arc::clone))
    }

    fn new(cluster: &str, per_second: usize) -> Self {
        let (turns, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Self { cluster: cluster.to_owned(), per_second, turns, waiting }
    }

    /// Logins waiting for their turn.
    pub fn queued(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for the turn of one login, first come, first served.
    pub async fn admit(&self) -> Result<(), QueueFull> {
        let now = Instant::now();
        let full = || QueueFull { cluster: self.cluster.clone(), per_second: self.per_second };
        let turn = self.take(now).ok_or_else(full)?;
        if turn > now {
            let _waiting = WaitingLogin::begins(&self.waiting);
            sleep_until(turn).await;
        }
        Ok(())
    }

    /// Takes the next free turn, also if the login is dropped afterwards. `None` if it is too far away.
    fn take(&self, now: Instant) -> Option<Instant> {
        let mut turns = lock(&self.turns);
        let oldest = if turns.len() < self.per_second { None } else { turns.front() };
        let free = oldest.map_or(now, |oldest| *oldest + WINDOW);
        // Not before earlier logins.
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
        let (queue, start) = (LoginRateLimiter::new("app", 200), Instant::now());
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
        let (queue, now) = (LoginRateLimiter::new("app", 3), Instant::now());
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
            cluster
        };
        let before = LoginRateLimiter::of(&cluster(7), None).unwrap();
        let same = |per_second| {
            let after = LoginRateLimiter::of(&cluster(per_second), Some(&before));
            after.map(|queue| Arc::ptr_eq(&queue, &before))
        };
        assert_eq!(same(7), Some(true));
        assert_eq!(same(8), Some(false));
        assert_eq!(same(0), None, "0 is for no limit");
    }
}
