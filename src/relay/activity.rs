//! The live view of a session: its state and its bytes, written by the relay and read by the session registry.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::SessionState;

/// State and bytes of a session, written by its relay each time it has moved bytes. A reader may see the bytes of one
/// moment and the state of the next.
#[derive(Debug)]
pub struct SessionActivity {
    state: AtomicU8,
    to_server: AtomicU64,
    to_client: AtomicU64,
    killed: AtomicBool,
}

impl Default for SessionActivity {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(BUSY),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            killed: AtomicBool::new(false),
        }
    }
}

const IDLE: u8 = 0;
const IN_TRANSACTION: u8 = 1;
const IN_FAILED_TRANSACTION: u8 = 2;
const BUSY: u8 = 3;

impl SessionActivity {
    /// Notes the state, and the bytes carried so far. Only one thread writes: three plain stores.
    pub(super) fn note(&self, state: SessionState, to_server: u64, to_client: u64) {
        let state = match state {
            SessionState::Idle => IDLE,
            SessionState::InTransaction => IN_TRANSACTION,
            SessionState::InFailedTransaction => IN_FAILED_TRANSACTION,
            SessionState::Busy => BUSY,
        };
        self.state.store(state, Ordering::Relaxed);
        self.to_server.store(to_server, Ordering::Relaxed);
        self.to_client.store(to_client, Ordering::Relaxed);
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

    /// Bytes carried to the server and to the client.
    pub fn bytes(&self) -> (u64, u64) {
        (self.to_server.load(Ordering::Relaxed), self.to_client.load(Ordering::Relaxed))
    }
}
