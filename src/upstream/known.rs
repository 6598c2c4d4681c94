//! Where sessions of one cluster were led lately: a cancel whose key does not say where it belongs goes there too,
//! when the endpoint's name names other servers by now.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most addresses that are remembered: an Aurora cluster has a writer and at most 15 readers, and its reader
/// endpoint names one of them at a time.
const MAX_KNOWN: usize = 16;

/// Addresses, newest first.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<VecDeque<SocketAddr>>);

impl Known {
    /// Notes that a session is led there.
    pub(super) fn remember(&self, addr: SocketAddr) {
        let mut known = self.lock();
        known.retain(|other| *other != addr);
        known.push_front(addr);
        known.truncate(MAX_KNOWN);
    }

    /// Takes an address for gone, until a session is led there again.
    pub(super) fn forget(&self, addr: SocketAddr) {
        self.lock().retain(|other| *other != addr);
    }

    /// `found` and the remembered ones that are not among them.
    pub(super) fn add_to(&self, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        for addr in self.lock().iter() {
            if !found.contains(addr) {
                found.push(*addr);
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SocketAddr>> {
        // No code panics while it holds the lock, and the list is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 5432))
    }

    #[test]
    fn the_newest_are_remembered_once_and_the_oldest_forgotten() {
        let known = Known::default();
        for n in 0..16 {
            known.remember(addr(n));
        }
        known.remember(addr(0));
        let list = known.add_to(vec![]);
        assert_eq!((list.len(), list[0], list[15]), (16, addr(0), addr(1)));
        known.remember(addr(99)); // one past the limit
        let list = known.add_to(vec![]);
        assert_eq!((list.len(), list[0], list[15]), (16, addr(99), addr(2)));
    }

    #[test]
    fn they_are_added_to_what_the_name_says() {
        let known = Known::default();
        known.remember(addr(1));
        known.remember(addr(2));
        assert_eq!(known.add_to(vec![addr(3), addr(1)]), [addr(3), addr(1), addr(2)]);
        known.forget(addr(2));
        assert_eq!(known.add_to(vec![]), [addr(1)]);
    }
}
