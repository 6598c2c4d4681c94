//! An operator's order that the sessions of a cluster end. The order can be taken back.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::sync::lock;

/// The order for the sessions of one cluster, shared by all of them.
#[derive(Clone, Debug, Default)]
pub struct DrainOrder(Arc<Mutex<OrderState>>);

#[derive(Debug, Default)]
struct OrderState {
    /// Longest time for a session to end, if the order is given.
    grace: Option<Duration>,
    /// Cancelled at the next change.
    changed: CancellationToken,
}

impl DrainOrder {
    /// Gives the order: each session ends at its next idle moment, at the latest after `grace`. `None` takes it back.
    pub fn set(&self, grace: Option<Duration>) {
        let mut state = lock(&self.0);
        if state.grace == grace {
            return;
        }
        state.grace = grace;
        let changed = mem::take(&mut state.changed);
        drop(state);
        changed.cancel();
    }

    /// The order now, and a token that its next change cancels.
    pub(super) fn current(&self) -> (Option<Duration>, CancellationToken) {
        let state = lock(&self.0);
        (state.grace, state.changed.clone())
    }
}
