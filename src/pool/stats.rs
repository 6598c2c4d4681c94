//! Counters of the pool.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::words::word_enum;

word_enum! {
    /// Reason for closing a connection instead of keeping it.
    pub enum CloseReason {
        /// The session did not end with the client's Terminate while idle.
        Session = "session",
        /// A cancel was sent to the session.
        Cancelled = "cancelled",
        /// The pool was full, or the connection was evicted for a newer one.
        Full = "full",
        /// The reset failed.
        Reset = "reset",
        /// The connection was idle for too long.
        Idle = "idle",
        /// The connection was too old.
        Lifetime = "lifetime",
        /// The role credentials used for the login have expired.
        Credentials = "credentials",
        /// The server closed the connection or sent something while it was idle.
        Server = "server",
        /// The server did not pass the check at checkout.
        Check = "check",
        /// The server needed the connection slot for a login.
        Room = "room",
        /// The service stops, the configuration has changed, or an operator has paused or drained the cluster.
        Pool = "pool",
    }
}

/// Counters since start, kept across reloads.
#[derive(Debug, Default)]
pub struct PoolStats {
    hits: AtomicU64,
    misses: AtomicU64,
    kept: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl PoolStats {
    pub(crate) fn looked_up(&self, found: bool) {
        if found { &self.hits } else { &self.misses }.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self, why: CloseReason) {
        if let Some((_, count)) =
            CloseReason::ALL.iter().zip(&self.closed).find(|(reason, _)| **reason == why)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logins that got a kept connection, and those that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Connections that were kept.
    pub fn all_kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Connections that were closed, by the word for the reason.
    pub fn all_closed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CloseReason::ALL
            .iter()
            .zip(&self.closed)
            .map(|(why, count)| (why.word(), count.load(Ordering::Relaxed)))
    }
}
