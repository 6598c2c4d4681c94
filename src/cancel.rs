//! The cancel keys that clients hold: process ids as the servers gave them, secrets of our own making, each
//! known only while its session lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::names::random_bytes;

/// Maps the keys of live sessions to what `T` says of them. It holds one entry a session, so the limit on
/// sessions is its limit too.
#[derive(Debug)]
pub struct CancelKeys<T> {
    entries: Mutex<HashMap<i32, Vec<Entry<T>>>>,
}

#[derive(Debug)]
struct Entry<T> {
    secret: [u8; 4],
    target: T,
}

/// A session's place among the keys; dropping it makes the key worthless.
#[derive(Debug)]
pub struct Ticket<T> {
    keys: Arc<CancelKeys<T>>,
    pid: i32,
    secret: [u8; 4],
}

impl<T> Default for CancelKeys<T> {
    fn default() -> Self {
        Self { entries: Mutex::new(HashMap::new()) }
    }
}

impl<T: Clone> CancelKeys<T> {
    /// Makes a key for a session whose server calls itself `pid`. Two servers may use the same number, so
    /// the secret is drawn until the pair is new.
    pub fn register(self: &Arc<Self>, pid: i32, target: T) -> Ticket<T> {
        let mut entries = self.lock();
        let same_pid = entries.entry(pid).or_default();
        let secret = loop {
            let secret = random_bytes();
            if same_pid.iter().all(|entry| entry.secret != secret) {
                break secret;
            }
        };
        same_pid.push(Entry { secret, target });
        Ticket { keys: Arc::clone(self), pid, secret }
    }

    /// What the key opens. The secret is compared in constant time.
    pub fn find(&self, pid: i32, secret: &[u8]) -> Option<T> {
        let entries = self.lock();
        let entry =
            entries.get(&pid)?.iter().find(|entry| verify_slices_are_equal(&entry.secret, secret).is_ok())?;
        Some(entry.target.clone())
    }
}

impl<T> CancelKeys<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Vec<Entry<T>>>> {
        // No code panics while it holds the lock, and the map is whole at every moment.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Ticket<T> {
    /// Process id and secret, as the client is told them.
    pub fn key(&self) -> (i32, i32) {
        (self.pid, i32::from_be_bytes(self.secret))
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut entries = self.keys.lock();
        if let Some(same_pid) = entries.get_mut(&self.pid) {
            same_pid.retain(|entry| entry.secret != self.secret);
            if same_pid.is_empty() {
                entries.remove(&self.pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_session_and_dies_with_it() {
        let keys = Arc::new(CancelKeys::default());
        let one = keys.register(7, "one");
        let two = keys.register(7, "two");
        let secret = |ticket: &Ticket<_>| ticket.key().1.to_be_bytes();
        assert_eq!(keys.find(7, &secret(&one)), Some("one"));
        assert_eq!(keys.find(7, &secret(&two)), Some("two"));
        assert_eq!(keys.find(8, &secret(&one)), None);
        assert_eq!(keys.find(7, b"wrong"), None);
        let stale = secret(&one);
        drop(one);
        assert_eq!(keys.find(7, &stale), None);
        drop(two);
        assert!(keys.lock().is_empty(), "an empty list is left behind");
    }
}
