//! Keys that this process gave to clients: those of live sessions with their targets, and those of recently
//! ended sessions. For keys that any replica can carry out, the table is a hint; a key for one session exists
//! only here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::key::CancelKey;
use super::{CancelTarget, KeyId};
use crate::sync::lock;

/// Most keys of ended sessions remembered; the oldest are dropped first. An entry takes about 50 bytes.
pub(super) const MAX_ENDED: usize = 16_384;

/// The table of keys.
#[derive(Debug, Default)]
pub(super) struct IssuedKeys {
    keys: Mutex<KeyTable>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct KeyTable {
    /// Keys by process id. At most one per session, so the limit on sessions bounds the table.
    live: HashMap<i32, Vec<KeyEntry>>,
    ended: EndedSessions,
}

/// Keys of the last [`MAX_ENDED`] ended sessions.
#[derive(Debug, Default)]
struct EndedSessions {
    known: HashSet<KeyId>,
    oldest_first: VecDeque<KeyId>,
}

/// Result of a lookup.
pub(super) enum FoundKey {
    /// Key of a live session, with its target.
    Live(CancelTarget),
    /// Key of a recently ended session.
    Ended,
}

#[derive(Debug)]
struct KeyEntry {
    number: u64,
    given: CancelKey,
    target: CancelTarget,
    /// True once a cancel has found the key.
    found: bool,
}

/// Entry of a session, removed on drop.
#[derive(Debug)]
pub(super) struct IssuedKey {
    live: Arc<IssuedKeys>,
    pid: i32,
    number: u64,
}

impl IssuedKeys {
    /// Adds the session of `target`, whose client was given this key.
    pub(super) fn enter(self: &Arc<Self>, given: CancelKey, target: CancelTarget) -> IssuedKey {
        let (pid, number) = (given.pid, self.next.fetch_add(1, Ordering::Relaxed));
        self.lock().live.entry(pid).or_default().push(KeyEntry { number, given, target, found: false });
        IssuedKey { live: Arc::clone(self), pid, number }
    }

    /// Looks up a key. `None` if no live or recently ended session has it.
    pub(super) fn find(&self, key: &CancelKey) -> Option<FoundKey> {
        let mut keys = self.lock();
        let same_pid = keys.live.get_mut(&key.pid).into_iter().flatten();
        if let Some(entry) = same_pid.into_iter().find(|entry| entry.given.has_secret(&key.secret)) {
            entry.found = true;
            return Some(FoundKey::Live(entry.target.copy()));
        }
        keys.ended.known.contains(&KeyId::of(key)).then_some(FoundKey::Ended)
    }

    fn remove(&self, pid: i32, number: u64) -> Option<KeyEntry> {
        let mut keys = self.lock();
        let same_pid = keys.live.get_mut(&pid)?;
        let at = same_pid.iter().position(|entry| entry.number == number)?;
        let entry = same_pid.remove(at);
        if same_pid.is_empty() {
            keys.live.remove(&pid);
        }
        keys.ended.remember(KeyId::of(&entry.given));
        Some(entry)
    }

    fn lock(&self) -> MutexGuard<'_, KeyTable> {
        lock(&self.keys)
    }
}

impl EndedSessions {
    fn remember(&mut self, key: KeyId) {
        if !self.known.insert(key) {
            return;
        }
        self.oldest_first.push_back(key);
        if self.oldest_first.len() > MAX_ENDED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl IssuedKey {
    /// Invalidates the key. Returns the target, unless a cancel has found it.
    pub(super) fn retire(self) -> Option<CancelTarget> {
        let entry = self.live.remove(self.pid, self.number)?;
        (!entry.found).then_some(entry.target)
    }
}

impl Drop for IssuedKey {
    fn drop(&mut self) {
        drop(self.live.remove(self.pid, self.number));
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::cluster_id::ClusterId;

    fn target(n: u8) -> CancelTarget {
        let addr = SocketAddr::from(([10, 0, 0, n], 5432));
        CancelTarget { cluster: ClusterId([n; 8]), addr, key: CancelKey::new(7, [n; 4]) }
    }

    #[derive(Debug, PartialEq)]
    enum Known {
        Live(ClusterId),
        Ended,
        No,
    }

    fn find(issued_keys: &IssuedKeys, pid: i32, secret: &[u8]) -> Known {
        match issued_keys.find(&CancelKey::new(pid, secret)) {
            Some(FoundKey::Live(target)) => Known::Live(target.cluster),
            Some(FoundKey::Ended) => Known::Ended,
            None => Known::No,
        }
    }

    #[test]
    fn an_entry_is_found_by_its_whole_key_and_lives_as_long_as_its_session() {
        let issued_keys = Arc::new(IssuedKeys::default());
        let server = |n: u8| Known::Live(ClusterId([n; 8]));
        let one = issued_keys.enter(CancelKey::new(7, *b"one!"), target(1));
        let two = issued_keys.enter(CancelKey::new(7, *b"two!"), target(2));
        assert_eq!(find(&issued_keys, 7, b"one!"), server(1));
        assert_eq!(find(&issued_keys, 7, b"two!"), server(2));
        assert_eq!(find(&issued_keys, 8, b"one!"), Known::No);
        assert_eq!(find(&issued_keys, 7, b"else"), Known::No);
        drop(one);
        assert_eq!(
            (find(&issued_keys, 7, b"one!"), find(&issued_keys, 7, b"two!")),
            (Known::Ended, server(2))
        );
        let three = issued_keys.enter(CancelKey::new(7, *b"one!"), target(3));
        drop(two);
        assert_eq!(find(&issued_keys, 7, b"one!"), server(3), "a live session goes before one that ended");
        drop(three);
        assert!(issued_keys.lock().live.is_empty(), "an empty list is left behind");
        assert_eq!(
            (find(&issued_keys, 7, b"one!"), find(&issued_keys, 7, b"two!")),
            (Known::Ended, Known::Ended)
        );
    }

    #[test]
    fn the_last_sessions_that_ended_are_remembered_and_no_more() {
        let issued_keys = Arc::new(IssuedKeys::default());
        let key = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        for n in 0..=MAX_ENDED {
            drop(issued_keys.enter(CancelKey::new(7, key(n)), target(1)));
            // A key that ended twice takes one entry.
            drop(issued_keys.enter(CancelKey::new(7, key(n)), target(1)));
        }
        assert_eq!(find(&issued_keys, 7, &key(0)), Known::No, "the oldest is forgotten");
        assert_eq!(
            (find(&issued_keys, 7, &key(1)), find(&issued_keys, 7, &key(MAX_ENDED))),
            (Known::Ended, Known::Ended)
        );
        let keys = issued_keys.lock();
        assert_eq!((keys.ended.known.len(), keys.ended.oldest_first.len()), (MAX_ENDED, MAX_ENDED));
    }

    #[test]
    fn u4_a_key_that_was_found_once_gives_its_target_to_nobody_else() {
        let issued_keys = Arc::new(IssuedKeys::default());
        let place = issued_keys.enter(CancelKey::new(7, *b"key!"), target(1));
        let other = issued_keys.enter(CancelKey::new(7, *b"else"), target(2));
        assert!(other.retire().is_some_and(|target| target.key.has_secret(&[2; 4])));
        assert_eq!(find(&issued_keys, 7, b"key!"), Known::Live(ClusterId([1; 8])));
        assert!(place.retire().is_none());
        assert!(find(&issued_keys, 7, b"key!") == Known::Ended && issued_keys.lock().live.is_empty());
    }
}
