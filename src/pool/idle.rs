//! Idle connections of a pool, whatever their protocol.

use std::fmt;

use super::Pool;
use super::stats::CloseReason;
use crate::protocol::Protocol;

/// The idle connections of a pool, of any protocol.
pub trait IdleConnections: fmt::Debug + Send + Sync {
    /// Number of idle connections.
    fn idle(&self) -> usize;

    /// Closes the idle connections of a cluster.
    fn close_cluster(&self, cluster: &str);

    /// Closes all idle connections and keeps none from now on.
    fn close(&self);
}

impl<P: Protocol> IdleConnections for Pool<P> {
    fn idle(&self) -> usize {
        self.lock().idle()
    }

    fn close_cluster(&self, cluster: &str) {
        let gone = self.lock().extract(|key, _| key.cluster == cluster);
        self.end(gone.into_iter().map(|idle| (idle.connection, CloseReason::Pool)));
    }

    fn close(&self) {
        self.closed.cancel();
        let all = self.lock().extract(|_, _| true);
        self.end(all.into_iter().map(|idle| (idle.connection, CloseReason::Pool)));
    }
}
