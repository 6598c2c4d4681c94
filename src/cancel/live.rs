//! Which 4-byte keys were given to clients of this very process, and where their sessions are. A hint only:
//! another replica has another one, and does without it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ClusterId;
use crate::wire::cancel_key::CancelKey;

/// One entry a session with a 4-byte key, so the limit on sessions is its limit too.
#[derive(Debug, Default)]
pub(super) struct Live {
    entries: Mutex<HashMap<i32, Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    given: CancelKey,
    server: Server,
}

/// The cluster and the address of a server.
pub(super) type Server = (ClusterId, SocketAddr);

/// A session's entry; dropping it removes it.
#[derive(Debug)]
pub(super) struct Place {
    live: Arc<Live>,
    pid: i32,
    number: u64,
}

impl Live {
    /// Enters the session at `server` whose client was given this key.
    pub(super) fn enter(self: &Arc<Self>, given: CancelKey, server: Server) -> Place {
        let mut entries = self.lock();
        let pid = given.pid;
        let same_pid = entries.entry(pid).or_default();
        let number = same_pid.last().map_or(0, |last| last.number + 1);
        same_pid.push(Entry { number, given, server });
        Place { live: Arc::clone(self), pid, number }
    }

    /// Where the session with this key is.
    pub(super) fn find(&self, key: &CancelKey) -> Option<Server> {
        let entries = self.lock();
        let mut same_pid = entries.get(&key.pid)?.iter();
        same_pid.find(|entry| entry.given.has_secret(&key.secret)).map(|entry| entry.server)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Vec<Entry>>> {
        // No code panics while it holds the lock, and the map is whole at every moment.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut entries = self.live.lock();
        if let Some(same_pid) = entries.get_mut(&self.pid) {
            same_pid.retain(|entry| entry.number != self.number);
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
    fn an_entry_is_found_by_its_whole_key_and_lives_as_long_as_its_session() {
        let live = Arc::new(Live::default());
        let server = |n: u8| (ClusterId([n; 8]), SocketAddr::from(([10, 0, 0, n], 5432)));
        let find = |pid: i32, secret: &[u8; 4]| live.find(&CancelKey::new(pid, *secret));
        let one = live.enter(CancelKey::new(7, *b"one!"), server(1));
        let two = live.enter(CancelKey::new(7, *b"two!"), server(2));
        assert_eq!(find(7, b"one!"), Some(server(1)));
        assert_eq!(find(7, b"two!"), Some(server(2)));
        assert_eq!(find(8, b"one!"), None);
        assert_eq!(find(7, b"else"), None);
        drop(one);
        assert_eq!((find(7, b"one!"), find(7, b"two!")), (None, Some(server(2))));
        let three = live.enter(CancelKey::new(7, *b"one!"), server(3));
        drop(two);
        assert_eq!(find(7, b"one!"), Some(server(3)));
        drop(three);
        assert!(live.lock().is_empty(), "an empty list is left behind");
    }
}
