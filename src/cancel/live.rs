//! Which keys were given to clients of this very process, and what they cancel. For keys that any replica can
//! carry out this is a hint; a key of one session alone is nowhere else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Target;
use crate::wire::cancel_key::CancelKey;

/// One entry a session at most, so the limit on sessions is its limit too.
#[derive(Debug, Default)]
pub(super) struct Live {
    entries: Mutex<HashMap<i32, Vec<Entry>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    given: CancelKey,
    target: Target,
    /// Somebody has found it.
    found: bool,
}

/// A session's entry; dropping it removes it.
#[derive(Debug)]
pub(super) struct Place {
    live: Arc<Live>,
    pid: i32,
    number: u64,
}

impl Live {
    /// Enters the session that `target` cancels and whose client was given this key.
    pub(super) fn enter(self: &Arc<Self>, given: CancelKey, target: Target) -> Place {
        let (pid, number) = (given.pid, self.next.fetch_add(1, Ordering::Relaxed));
        self.lock().entry(pid).or_default().push(Entry { number, given, target, found: false });
        Place { live: Arc::clone(self), pid, number }
    }

    /// What cancels the session with this key.
    pub(super) fn find(&self, key: &CancelKey) -> Option<Target> {
        let mut entries = self.lock();
        let mut same_pid = entries.get_mut(&key.pid)?.iter_mut();
        let entry = same_pid.find(|entry| entry.given.has_secret(&key.secret))?;
        entry.found = true;
        Some(entry.target.copy())
    }

    fn remove(&self, pid: i32, number: u64) -> Option<Entry> {
        let mut entries = self.lock();
        let same_pid = entries.get_mut(&pid)?;
        let at = same_pid.iter().position(|entry| entry.number == number)?;
        let entry = same_pid.remove(at);
        if same_pid.is_empty() {
            entries.remove(&pid);
        }
        Some(entry)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Vec<Entry>>> {
        // No code panics while it holds the lock, and the map is whole at every moment.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// From here on the key finds nothing. Gives the target back, unless somebody has found it before.
    pub(super) fn retire(self) -> Option<Target> {
        let entry = self.live.remove(self.pid, self.number)?;
        (!entry.found).then_some(entry.target)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.live.remove(self.pid, self.number));
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::cancel::ClusterId;

    fn target(n: u8) -> Target {
        let addr = SocketAddr::from(([10, 0, 0, n], 5432));
        Target { cluster: ClusterId([n; 8]), addr, key: CancelKey::new(7, [n; 4]) }
    }

    #[test]
    fn an_entry_is_found_by_its_whole_key_and_lives_as_long_as_its_session() {
        let live = Arc::new(Live::default());
        let find = |pid: i32, secret: &[u8; 4]| {
            live.find(&CancelKey::new(pid, *secret)).map(|target| target.cluster)
        };
        let server = |n: u8| Some(ClusterId([n; 8]));
        let one = live.enter(CancelKey::new(7, *b"one!"), target(1));
        let two = live.enter(CancelKey::new(7, *b"two!"), target(2));
        assert_eq!(find(7, b"one!"), server(1));
        assert_eq!(find(7, b"two!"), server(2));
        assert_eq!(find(8, b"one!"), None);
        assert_eq!(find(7, b"else"), None);
        drop(one);
        assert_eq!((find(7, b"one!"), find(7, b"two!")), (None, server(2)));
        let three = live.enter(CancelKey::new(7, *b"one!"), target(3));
        drop(two);
        assert_eq!(find(7, b"one!"), server(3));
        drop(three);
        assert!(live.lock().is_empty(), "an empty list is left behind");
    }

    #[test]
    fn u4_whoever_was_found_once_is_not_given_back() {
        let live = Arc::new(Live::default());
        let key = CancelKey::new(7, *b"key!");
        let place = live.enter(CancelKey::new(7, *b"key!"), target(1));
        let other = live.enter(CancelKey::new(7, *b"else"), target(2));
        assert!(other.retire().is_some_and(|target| target.key.has_secret(&[2; 4])));
        assert!(live.find(&key).is_some());
        assert!(place.retire().is_none());
        assert!(live.find(&key).is_none() && live.lock().is_empty());
    }
}
