//! Addresses of one cluster, and what came of them lately. A cancel whose key does not say where it belongs goes to all
//! those where sessions were led, when the endpoint's name names other servers by now. A login tries those last that
//! have failed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Most addresses that are remembered: an Aurora cluster has a writer and at most 15 readers, and its reader
/// endpoint names one of them at a time.
const MAX_KNOWN: usize = 16;

/// How long an address that has failed is tried last.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct RecentAddresses(Mutex<AddressHistory>);

#[derive(Debug, Default)]
struct AddressHistory {
    /// Where sessions were led, newest first.
    led_to: VecDeque<SocketAddr>,
    /// Those that have failed, and when, newest first.
    failed: VecDeque<(SocketAddr, Instant)>,
}

impl RecentAddresses {
    /// Notes that a session is led there.
    pub(super) fn remember(&self, addr: SocketAddr) {
        let known = &mut self.lock().led_to;
        known.retain(|other| *other != addr);
        known.push_front(addr);
        known.truncate(MAX_KNOWN);
    }

    /// Takes an address for gone, until a session is led there again.
    pub(super) fn forget(&self, addr: SocketAddr) {
        self.lock().led_to.retain(|other| *other != addr);
    }

    /// `found` and the remembered ones that are not among them.
    pub(super) fn add_to(&self, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        for addr in &self.lock().led_to {
            if !found.contains(addr) {
                found.push(*addr);
            }
        }
        found
    }

    /// Notes that an address does not work. Tells whether that is new.
    pub(super) fn has_failed(&self, addr: SocketAddr, now: Instant) -> bool {
        let failed = &mut self.lock().failed;
        failed.retain(|(_, at)| now < *at + FAILED_FOR);
        let is_new = !failed.iter().any(|(other, _)| *other == addr);
        failed.retain(|(other, _)| *other != addr);
        failed.push_front((addr, now));
        failed.truncate(MAX_KNOWN);
        is_new
    }

    /// Notes that a login at an address has succeeded.
    pub(super) fn has_worked(&self, addr: SocketAddr) {
        self.lock().failed.retain(|(other, _)| *other != addr);
    }

    /// `addresses` in their order, but those last that have failed within [`FAILED_FOR`].
    pub(super) fn failed_last(&self, mut addresses: Vec<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        let failed = &self.lock().failed;
        addresses
            .sort_by_key(|addr| failed.iter().any(|(other, at)| other == addr && now < *at + FAILED_FOR));
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, AddressHistory> {
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
        let known = RecentAddresses::default();
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
        let known = RecentAddresses::default();
        known.remember(addr(1));
        known.remember(addr(2));
        assert_eq!(known.add_to(vec![addr(3), addr(1)]), [addr(3), addr(1), addr(2)]);
        known.forget(addr(2));
        assert_eq!(known.add_to(vec![]), [addr(1)]);
    }

    #[test]
    fn those_that_have_failed_are_tried_last_for_a_while() {
        let (known, begun) = (RecentAddresses::default(), Instant::now());
        let order = |now| known.failed_last(vec![addr(1), addr(2), addr(3)], now);
        assert!(known.has_failed(addr(1), begun), "it is new");
        assert_eq!(order(begun), [addr(2), addr(3), addr(1)]);
        let later = begun + FAILED_FOR / 2;
        assert!(known.has_failed(addr(2), later));
        assert!(!known.has_failed(addr(2), later), "it is not");
        assert_eq!(order(later), [addr(3), addr(1), addr(2)]);
        assert_eq!(order(begun + FAILED_FOR), [addr(1), addr(3), addr(2)]);
        known.has_worked(addr(2));
        assert_eq!(order(begun + FAILED_FOR), [addr(1), addr(2), addr(3)]);
        for n in 0..=16 {
            known.has_failed(addr(n), begun);
        }
        assert_eq!(known.lock().failed.len(), MAX_KNOWN);
    }
}
