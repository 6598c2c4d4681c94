//! Counters of the pool.

use std::sync::atomic::{AtomicU64, Ordering};

/// Reason for closing a connection instead of keeping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The session did not end with the client's Terminate while idle.
    Session,
    /// A cancel was sent to the session.
    Cancelled,
    /// The pool was full, or the connection was evicted for a newer one.
    Full,
    /// The reset failed.
    Reset,
    /// The connection was idle for too long.
    Idle,
    /// The connection was too old.
    Lifetime,
    /// The role credentials used for the login have expired.
    Credentials,
    /// The server closed the connection or sent something while it was idle.
    Server,
    /// The server did not pass the check at checkout.
    Check,
    /// The server needed the connection slot for a login.
    Room,
    /// The service stops, the configuration has changed, or an operator has paused or drained the cluster.
    Pool,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Session,
        Self::Cancelled,
        Self::Full,
        Self::Reset,
        Self::Idle,
        Self::Lifetime,
        Self::Credentials,
        Self::Server,
        Self::Check,
        Self::Room,
        Self::Pool,
    ];

    /// Label in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Cancelled => "cancelled",
            Self::Full => "full",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Credentials => "credentials",
            Self::Server => "server",
            Self::Check => "check",
            Self::Room => "room",
            Self::Pool => "pool",
        }
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
