//! The live view of a session: its state and its work, written by the relay and read by the session registry.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::SessionState;
use crate::protocol::WorkCounts;

/// Bytes, queries, and transactions of a session so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionWork {
    /// Bytes from client to server.
    pub to_server: u64,
    /// Bytes from server to client.
    pub to_client: u64,
    /// Queries and transactions.
    pub counts: WorkCounts,
}

/// State and work of a session, written by its relay each time it has moved bytes. A reader may see the bytes of one
/// moment and the state of the next.
#[derive(Debug)]
pub struct SessionActivity {
    state: AtomicU8,
    to_server: AtomicU64,
    to_client: AtomicU64,
    queries: AtomicU64,
    transactions: AtomicU64,
    killed: AtomicBool,
}

impl Default for SessionActivity {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(BUSY),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            killed: AtomicBool::new(false),
        }
    }
}

const IDLE: u8 = 0;
const IN_TRANSACTION: u8 = 1;
const IN_FAILED_TRANSACTION: u8 = 2;
const BUSY: u8 = 3;

impl SessionActivity {
    /// Notes the state and the work so far. Only one thread writes: five plain stores.
    pub(super) fn note(&self, state: SessionState, work: SessionWork) {
        let state = match state {
            SessionState::Idle => IDLE,
            SessionState::InTransaction => IN_TRANSACTION,
            SessionState::InFailedTransaction => IN_FAILED_TRANSACTION,
            SessionState::Busy => BUSY,
        };
        self.state.store(state, Ordering::Relaxed);
        for (cell, count) in [
            (&self.to_server, work.to_server),
            (&self.to_client, work.to_client),
            (&self.queries, work.counts.queries),
            (&self.transactions, work.counts.transactions),
        ] {
            cell.store(count, Ordering::Relaxed);
        }
    }

    /// The state; [`SessionState::Busy`] until the relay begins.
    pub fn state(&self) -> SessionState {
        match self.state.load(Ordering::Relaxed) {
            IDLE => SessionState::Idle,
            IN_TRANSACTION => SessionState::InTransaction,
            IN_FAILED_TRANSACTION => SessionState::InFailedTransaction,
            _ => SessionState::Busy,
        }
    }

    /// Notes that an operator ends the session. Called before its token is cancelled.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    /// True if an operator ends the session.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// The work so far.
    pub fn work(&self) -> SessionWork {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let counts = WorkCounts { queries: read(&self.queries), transactions: read(&self.transactions) };
        SessionWork { to_server: read(&self.to_server), to_client: read(&self.to_client), counts }
    }
}
