//! What became of logins and connections because of the pool, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection is closed and not kept, or kept no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Its session did not end as it has to: by the client, and with nothing under way.
    Session,
    /// Its session was sent a cancel.
    Cancelled,
    /// There was no room, or it gave its place to a connection that was used later.
    Full,
    /// It could not be reset.
    Reset,
    /// It was idle for too long.
    Idle,
    /// It was too old.
    Lifetime,
    /// The role credentials that it was opened with have expired.
    Credentials,
    /// The server closed it, or said something, while it was idle.
    Server,
    /// The server did not answer the check at checkout, or not as it has to.
    Check,
    /// The server had no room for a login.
    Room,
    /// The service stops, or has another configuration.
    Pool,
}

impl CloseReason {
    /// All of them.
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

    /// The word for it in metrics.
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

/// Counts since the start; they outlive a reload.
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
