//! Turns of the cancels of one session: one is in progress at a time, and it covers those that arrive while
//! it waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::MutexGuard as TurnGuard;
use tokio::time::{Instant, timeout_at};

use super::{CancelIgnored, KeyId};
use crate::sync::lock;

/// Most concurrent cancels of one session.
pub(super) const MAX_PER_SESSION: usize = 16;

/// Sessions with a cancel in progress; at most one entry per connection, so the limit on connections bounds
/// the map.
#[derive(Debug, Default)]
pub(super) struct CancelTurns {
    sessions: Mutex<HashMap<KeyId, TurnSession>>,
}

#[derive(Debug, Default)]
struct TurnSession {
    queue: Arc<TurnQueue>,
    /// Cancels in the queue, including the one in progress.
    cancels: usize,
}

/// Cancels of one session, in order of arrival.
#[derive(Debug, Default)]
struct TurnQueue {
    turn: tokio::sync::Mutex<()>,
    arrived: AtomicU64,
    /// Number of the last cancel that was covered.
    carried: AtomicU64,
}

/// Position of a cancel in the queue of its session; dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct CancelTurn {
    turns: Arc<CancelTurns>,
    session: KeyId,
    queue: Arc<TurnQueue>,
    number: u64,
}

/// The cancel of a session that is in progress.
#[derive(Debug)]
pub struct UnderWay<'a> {
    queue: &'a TurnQueue,
    covers: u64,
    _turn: TurnGuard<'a, ()>,
}

impl CancelTurns {
    /// Adds a cancel of the session with this key to the queue.
    pub(super) fn enter(self: &Arc<Self>, session: KeyId) -> Result<CancelTurn, CancelIgnored> {
        let mut sessions = self.lock();
        let entry = sessions.entry(session).or_default();
        if entry.cancels >= MAX_PER_SESSION {
            return Err(CancelIgnored::SessionBusy);
        }
        entry.cancels += 1;
        let queue = Arc::clone(&entry.queue);
        let number = queue.arrived.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(CancelTurn { turns: Arc::clone(self), session, queue, number })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, TurnSession>> {
        lock(&self.sessions)
    }
}

impl CancelTurn {
    /// Waits for the turn. `None` if another cancel of the session, which began after this one arrived, was
    /// carried out.
    pub(super) async fn begin(&self, deadline: Instant) -> Result<Option<UnderWay<'_>>, CancelIgnored> {
        let turn =
            timeout_at(deadline, self.queue.turn.lock()).await.map_err(|_| CancelIgnored::SessionBusy)?;
        if self.queue.carried.load(Ordering::Relaxed) >= self.number {
            return Ok(None);
        }
        Ok(Some(UnderWay { queue: &self.queue, covers: self.number, _turn: turn }))
    }
}

impl UnderWay<'_> {
    /// Marks the start of delivery: it covers all cancels of the session that have arrived.
    pub fn starts(&mut self) {
        self.covers = self.queue.arrived.load(Ordering::Relaxed);
    }

    /// Marks the end of delivery.
    pub fn finish(self) {
        self.queue.carried.store(self.covers, Ordering::Relaxed);
    }
}

impl Drop for CancelTurn {
    fn drop(&mut self) {
        let mut sessions = self.turns.lock();
        if let Some(session) = sessions.get_mut(&self.session) {
            session.cancels -= 1;
            if session.cancels == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::postgres::cancel::key::CancelKey;

    fn session(pid: i32) -> KeyId {
        KeyId::of(&CancelKey::new(pid, *b"keys"))
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_arrive_before_one_starts_are_carried_out_by_it_and_later_ones_are_not() {
        let turns = Arc::new(CancelTurns::default());
        let soon = Instant::now() + Duration::from_secs(5);
        let (first, second) = (turns.enter(session(7)).unwrap(), turns.enter(session(7)).unwrap());
        let mut under_way = first.begin(soon).await.unwrap().unwrap();
        under_way.starts();
        let third = turns.enter(session(7)).unwrap();
        let other = turns.enter(session(8)).unwrap();
        assert!(other.begin(soon).await.unwrap().is_some(), "another session has its own turns");
        assert_eq!(third.begin(soon).await.unwrap_err(), CancelIgnored::SessionBusy, "one at a time");
        let soon = Instant::now() + Duration::from_secs(5);
        under_way.finish();
        assert!(second.begin(soon).await.unwrap().is_none());
        let mut under_way = third.begin(soon).await.unwrap().expect("it arrived too late for the first");
        under_way.starts();
        drop(under_way); // it failed
        let fourth = turns.enter(session(7)).unwrap();
        assert!(fourth.begin(soon).await.unwrap().is_some());
        drop((first, second, third, fourth, other));
        assert!(turns.lock().is_empty(), "an entry is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_has_sixteen_at_the_same_time() {
        let turns = Arc::new(CancelTurns::default());
        let mut held: Vec<_> = (0..MAX_PER_SESSION).map(|_| turns.enter(session(7)).unwrap()).collect();
        assert_eq!(turns.enter(session(7)).unwrap_err(), CancelIgnored::SessionBusy);
        assert!(turns.enter(session(8)).is_ok());
        held.pop();
        assert!(turns.enter(session(7)).is_ok());
    }
}
