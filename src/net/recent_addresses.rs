//! Recent addresses of one cluster and their results. A cancel whose key does not identify the server is sent
//! to all addresses where sessions were, even if the endpoint's name has changed meanwhile. Logins try
//! addresses that failed recently last.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;

/// Most addresses remembered: an Aurora cluster has one writer and at most 15 readers, and its reader
/// endpoint returns one of them at a time.
const MAX_KNOWN: usize = 16;

/// Time for which a failed address is tried last.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// The remembered addresses.
#[derive(Debug, Default)]
pub(super) struct RecentAddresses(Mutex<AddressHistory>);

#[derive(Debug, Default)]
struct AddressHistory {
    /// Addresses of sessions, newest first.
    used: VecDeque<SocketAddr>,
    /// Failed addresses and the time of failure, newest first.
    failed: VecDeque<(SocketAddr, Instant)>,
}

impl RecentAddresses {
    /// Records a session at `addr`.
    pub(super) fn remember(&self, addr: SocketAddr) {
        let known = &mut self.lock().used;
        known.retain(|other| *other != addr);
        known.push_front(addr);
        known.truncate(MAX_KNOWN);
    }

    /// Removes an address until a session uses it again.
    pub(super) fn forget(&self, addr: SocketAddr) {
        self.lock().used.retain(|other| *other != addr);
    }

    /// `found` plus the remembered addresses that it lacks.
    pub(super) fn add_to(&self, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        for addr in &self.lock().used {
            if !found.contains(addr) {
                found.push(*addr);
            }
        }
        found
    }

    /// Records a failure. Returns true if the address had no recent failure.
    pub(super) fn record_failure(&self, addr: SocketAddr, now: Instant) -> bool {
        let failed = &mut self.lock().failed;
        failed.retain(|(_, at)| now < *at + FAILED_FOR);
        let is_new = !failed.iter().any(|(other, _)| *other == addr);
        failed.retain(|(other, _)| *other != addr);
        failed.push_front((addr, now));
        failed.truncate(MAX_KNOWN);
        is_new
    }

    /// Records a successful login at an address.
    pub(super) fn record_success(&self, addr: SocketAddr) {
        self.lock().failed.retain(|(other, _)| *other != addr);
    }

    /// `addresses` in their order, with those that failed within [`FAILED_FOR`] at the end.
    pub(super) fn failed_last(&self, addresses: Vec<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        let failed = &self.lock().failed;
        let has_failed =
            |addr: &SocketAddr| failed.iter().any(|(other, at)| other == addr && now < *at + FAILED_FOR);
        let (last, mut addresses): (Vec<_>, Vec<_>) = addresses.into_iter().partition(has_failed);
        addresses.extend(last);
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, AddressHistory> {
        lock(&self.0)
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
        assert!(known.record_failure(addr(1), begun), "it is new");
        assert_eq!(order(begun), [addr(2), addr(3), addr(1)]);
        let later = begun + FAILED_FOR / 2;
        assert!(known.record_failure(addr(2), later));
        assert!(!known.record_failure(addr(2), later), "it is not");
        assert_eq!(order(later), [addr(3), addr(1), addr(2)]);
        assert_eq!(order(begun + FAILED_FOR), [addr(1), addr(3), addr(2)]);
        known.record_success(addr(2));
        assert_eq!(order(begun + FAILED_FOR), [addr(1), addr(2), addr(3)]);
        for n in 0..=16 {
            known.record_failure(addr(n), begun);
        }
        assert_eq!(known.lock().failed.len(), MAX_KNOWN);
    }
}
