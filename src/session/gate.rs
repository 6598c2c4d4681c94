//! Gates of clusters. An operator closes a gate on the console: PAUSE makes new logins wait, DRAIN refuses them and ends
//! the live sessions, RESUME opens the gate. A gate belongs to a cluster's name, so that a reload leaves it as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::relay::DrainOrder;
use crate::sync::lock;

/// The gates of all clusters. A gate is forgotten when it is open, has no session, and no configuration has its cluster.
#[derive(Debug, Default)]
pub struct ClusterGates(Mutex<BTreeMap<String, Arc<ClusterGate>>>);

impl ClusterGates {
    /// The gate of the cluster with this name.
    pub fn of(&self, cluster: &str) -> Arc<ClusterGate> {
        let mut gates = lock(&self.0);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.status().is_open());
        let gate = || Arc::new(ClusterGate { cluster: cluster.to_owned(), ..ClusterGate::default() });
        Arc::clone(gates.entry(cluster.to_owned()).or_insert_with(gate))
    }

    /// The gate of the cluster with this name, if it was configured before.
    pub fn find(&self, cluster: &str) -> Option<Arc<ClusterGate>> {
        lock(&self.0).get(cluster).cloned()
    }
}

/// The gate of one cluster.
#[derive(Debug, Default)]
pub struct ClusterGate {
    cluster: String,
    state: Mutex<GateState>,
    /// Notified when the gate opens or closes, and when the last session has gone.
    changed: Notify,
    order: DrainOrder,
}

#[derive(Debug, Default)]
struct GateState {
    paused: bool,
    draining: bool,
    inside: usize,
    waiting: usize,
}

/// State of a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateStatus {
    /// True if new logins wait.
    pub paused: bool,
    /// True if live sessions end; new logins are refused unless they wait.
    pub draining: bool,
    /// Sessions, and logins that the gate has let in.
    pub inside: usize,
    /// Logins that wait at the gate.
    pub waiting: usize,
}

impl GateStatus {
    /// True if new logins are let in.
    pub fn is_open(&self) -> bool {
        !self.paused && !self.draining
    }
}

impl fmt::Display for GateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.paused, self.draining) {
            (false, false) => "open",
            (true, false) => "paused",
            (false, true) => "draining",
            (true, true) => "paused, draining",
        })
    }
}

/// A login that the gate does not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterClosed {
    /// The login has waited for RESUME. Holds the cluster's name.
    #[error("cluster {0} is paused by an operator")]
    Paused(String),
    /// The cluster is drained. Holds its name.
    #[error("cluster {0} is drained by an operator")]
    Drained(String),
}

/// A session of the cluster, or a login on its way to one; counted until it is dropped.
#[derive(Debug)]
pub struct GatePass(Arc<ClusterGate>);

/// A login that waits at a gate, counted until it is dropped.
struct WaitingAtGate<'g>(&'g ClusterGate);

impl ClusterGate {
    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The state now.
    pub fn status(&self) -> GateStatus {
        let state = self.lock();
        let (paused, draining) = (state.paused, state.draining);
        GateStatus { paused, draining, inside: state.inside, waiting: state.waiting }
    }

    /// Makes new logins wait.
    pub fn pause(&self) {
        self.lock().paused = true;
        self.changed.notify_waiters();
    }

    /// Refuses new logins, unless they wait, and ends each session at its next idle moment, at the latest after `grace`.
    pub fn drain(&self, grace: Duration) {
        self.lock().draining = true;
        self.order.set(Some(grace));
        self.changed.notify_waiters();
    }

    /// Lets new logins in. Sessions that have not ended yet continue. Returns the state before.
    pub fn resume(&self) -> GateStatus {
        let before = self.status();
        let mut state = self.lock();
        (state.paused, state.draining) = (false, false);
        drop(state);
        self.order.set(None);
        self.changed.notify_waiters();
        before
    }

    /// Lets a login in. Waits while the cluster is paused, until `deadline` or the `stop` of the service.
    pub async fn pass(
        self: &Arc<Self>,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<GatePass, ClusterClosed> {
        let mut waiting = None;
        loop {
            // Registered before the look, so that no change is missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let closed = match self.enter() {
                Ok(pass) => return Ok(pass),
                Err(closed @ ClusterClosed::Paused(_)) => closed,
                Err(closed @ ClusterClosed::Drained(_)) => return Err(closed),
            };
            waiting.get_or_insert_with(|| WaitingAtGate::begins(self));
            let opened = timeout_at(deadline, stop.run_until_cancelled(changed)).await;
            if !matches!(opened, Ok(Some(()))) {
                return Err(closed);
            }
        }
    }

    fn enter(self: &Arc<Self>) -> Result<GatePass, ClusterClosed> {
        let mut state = self.lock();
        if state.paused {
            return Err(ClusterClosed::Paused(self.cluster.clone()));
        }
        if state.draining {
            return Err(ClusterClosed::Drained(self.cluster.clone()));
        }
        state.inside += 1;
        Ok(GatePass(Arc::clone(self)))
    }

    /// Waits until the cluster has no session and no login that was let in.
    pub async fn emptied(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.lock().inside == 0 {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        lock(&self.state)
    }
}

impl GatePass {
    /// The order for the session that it ends.
    pub fn order(&self) -> DrainOrder {
        self.0.order.clone()
    }

    /// True if a server connection may be kept for a later login.
    pub fn is_open(&self) -> bool {
        self.0.status().is_open()
    }
}

impl Drop for GatePass {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.inside -= 1;
        let last = state.inside == 0;
        drop(state);
        if last {
            self.0.changed.notify_waiters();
        }
    }
}

impl<'g> WaitingAtGate<'g> {
    fn begins(gate: &'g ClusterGate) -> Self {
        gate.lock().waiting += 1;
        Self(gate)
    }
}

impl Drop for WaitingAtGate<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
