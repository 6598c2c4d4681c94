//! `PAUSE`, `RESUME`, and `DRAIN` of clusters.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::state::ConsoleDesk;
use crate::names::visible;
use crate::postgres::command_failure::CommandFailure;
use crate::session::gate::{ClusterGate, GateStatus};

/// Longest wait of PAUSE for the sessions of its clusters to end.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest name of a cluster that an error repeats.
const MAX_SHOWN: usize = 63;

/// Result of a command: a text for the operator.
type Answer = Result<Option<String>, CommandFailure>;

impl ConsoleDesk {
    /// Makes new logins wait, and waits until the clusters have no session.
    pub(super) async fn pause(&self, cluster: Option<&str>) -> Answer {
        let gates = self.gates(cluster)?;
        for gate in &gates {
            gate.pause();
            tracing::info!(cluster = gate.cluster(), "cluster paused on the console: new logins wait");
        }
        self.close_idle(&gates);
        let stopped = self.shared.shutdown.drain.cancelled();
        let emptied = tokio::select! {
            biased;
            () = stopped => return Err(CommandFailure::new("57P01", "the service is stopping")),
            emptied = emptied(&gates) => emptied,
        };
        self.close_idle(&gates);
        if emptied {
            return Ok(None);
        }
        let busy = gates.iter().filter(|gate| gate.status().inside > 0);
        let busy: Vec<_> = busy.map(|gate| live(gate)).collect();
        let message = format!("new logins wait, but not all sessions have ended: {}", busy.join(", "));
        Err(CommandFailure::new("55006", message)
            .detail("A paused cluster makes new logins wait. Its live sessions continue until their clients leave.")
            .hint("PAUSE waits again, DRAIN ends the sessions when they are idle, RESUME lets logins in."))
    }

    /// Lets logins in again.
    pub(super) fn resume(&self, cluster: Option<&str>) -> Answer {
        let gates = self.gates(cluster)?;
        let mut open = Vec::new();
        for gate in &gates {
            if gate.resume().is_open() {
                open.push(gate.cluster());
            } else {
                tracing::info!(cluster = gate.cluster(), "cluster resumed on the console");
            }
        }
        let open = (cluster.is_some() && !open.is_empty())
            .then(|| format!("cluster \"{}\" was neither paused nor drained", open.join("\", \"")));
        Ok(open)
    }

    /// Refuses new logins, and ends live sessions.
    pub(super) fn drain(&self, cluster: &str) -> Answer {
        let grace = self.current.load().context.limits.shutdown_timeout;
        let gates = self.gates(Some(cluster))?;
        let mut texts = Vec::new();
        for gate in &gates {
            let GateStatus { paused, inside, .. } = gate.status();
            gate.drain(grace);
            tracing::info!(cluster = gate.cluster(), "cluster drained on the console: its sessions end");
            let logins = if paused { "wait" } else { "are refused" };
            let sessions = match inside {
                0 => "the cluster has no session".to_owned(),
                1 => "1 session ends".to_owned(),
                many => format!("{many} sessions end"),
            };
            let grace = humantime::format_duration(grace);
            let when =
                if inside > 0 { format!(" when idle, at the latest after {grace}") } else { String::new() };
            texts.push(format!("{sessions}{when}; new logins {logins} until RESUME"));
        }
        self.close_idle(&gates);
        Ok(Some(texts.join("; ")))
    }

    /// The gate of a cluster, or those of all clusters. A closed cluster that a reload has removed still has one.
    fn gates(&self, cluster: Option<&str>) -> Result<Vec<Arc<ClusterGate>>, CommandFailure> {
        let current = self.current.load();
        let gates = current.context.clusters.iter().map(|cluster| Arc::clone(&cluster.gate));
        let Some(name) = cluster else { return Ok(gates.collect()) };
        let gate = self.shared.gates.find(name).ok_or_else(|| {
            let message = format!("there is no cluster \"{}\"", visible(name, MAX_SHOWN));
            CommandFailure::new("42704", message).hint("SHOW CLUSTERS lists the clusters.")
        })?;
        Ok(vec![gate])
    }

    fn close_idle(&self, gates: &[Arc<ClusterGate>]) {
        let current = self.current.load();
        for gate in gates {
            current.context.close_idle(gate.cluster());
        }
    }
}

/// Waits until the clusters have no session. False if [`PAUSE_TIMEOUT`] passes before.
async fn emptied(gates: &[Arc<ClusterGate>]) -> bool {
    let emptied = async {
        for gate in gates {
            gate.emptied().await;
        }
    };
    timeout(PAUSE_TIMEOUT, emptied).await.is_ok()
}

/// The cluster with the number of its sessions.
fn live(gate: &ClusterGate) -> String {
    let sessions = gate.status().inside;
    let plural = if sessions == 1 { "" } else { "s" };
    format!("cluster \"{}\" has {sessions} session{plural}", gate.cluster())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::session::gate::ClusterGates;

    #[tokio::test(start_paused = true)]
    async fn a_pause_gives_up_after_its_time() {
        let gates = ClusterGates::default();
        let gates = [gates.of("orders"), gates.of("app")];
        let (begun, stop) = (Instant::now(), CancellationToken::new());
        assert!(emptied(&gates).await, "no session");
        let pass = gates[1].pass(begun, &stop).await.unwrap();
        assert!(!emptied(&gates).await);
        assert_eq!(begun.elapsed(), PAUSE_TIMEOUT);
        assert_eq!(live(&gates[1]), "cluster \"app\" has 1 session");
        drop(pass);
        assert!(emptied(&gates).await);
        assert_eq!(begun.elapsed(), PAUSE_TIMEOUT);
    }
}
