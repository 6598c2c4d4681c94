//! Metrics of connections from accept to end.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::labels::{CancelResult, ConnectionOutcome, DropReason, SessionEndReason, StatementCancelResult};
use super::session_outcome::{EndReason, SessionOutcome};
use super::word_series::{WordSeries, registered};

/// The connection series. A clone counts in the same series.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    outcomes: WordSeries<ConnectionOutcome, Counter>,
    sessions_ended: WordSeries<SessionEndReason, Counter>,
    dropped: WordSeries<DropReason, Counter>,
    cancels: WordSeries<CancelResult, Counter>,
    statement_cancels: WordSeries<StatementCancelResult, Counter>,
    unheard: Counter,
    evicted: Counter,
    accept_errors: Counter,
}

impl ConnectionMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let outcome = ("outcome", Counter::default as fn() -> Counter);
        let reason = ("reason", Counter::default as fn() -> Counter);
        Self {
            outcomes: WordSeries::new(registry, "connections", "Ended connections, by outcome", outcome),
            sessions_ended: WordSeries::new(registry, "sessions_ended", "Ended sessions, by reason", reason),
            dropped: WordSeries::new(
                registry,
                "connections_dropped",
                "Connections that never spoke the protocol of their listener, by reason",
                reason,
            ),
            cancels: WordSeries::new(registry, "cancels", "Cancel requests, by outcome", outcome),
            statement_cancels: WordSeries::new(
                registry,
                "statement_cancels",
                "Cancels of statements that ran when the proxy ended their session, by outcome",
                outcome,
            ),
            unheard: registered(
                registry,
                "closed_unheard",
                "Connections closed without a refusal because the limit of refusals was reached",
                Counter::default(),
            ),
            evicted: registered(
                registry,
                "logins_evicted",
                "Unauthenticated connections evicted for newer ones",
                Counter::default(),
            ),
            accept_errors: registered(
                registry,
                "accept_errors",
                "Failures to accept a connection, for example because file descriptors ran out",
                Counter::default(),
            ),
        }
    }

    /// Counts an ended connection.
    pub fn ended(&self, outcome: &SessionOutcome) {
        self.outcomes.of(outcome.word).inc();
        match outcome.end {
            Some(EndReason::Session(reason)) => self.sessions_ended.of(reason).inc(),
            Some(EndReason::Dropped(reason)) => self.dropped.of(reason).inc(),
            Some(EndReason::Cancel(result)) => self.cancels.of(result).inc(),
            Some(EndReason::Console(_)) | None => 0,
        };
    }

    /// Counts the cancel of the statement of an ended session, if one was tried: `true` if the server was told.
    pub fn statement_cancelled(&self, cancelled: Option<bool>) {
        if let Some(sent) = cancelled {
            let result = if sent { StatementCancelResult::Sent } else { StatementCancelResult::Failed };
            self.statement_cancels.of(result).inc();
        }
    }

    /// Counts a connection that ended because of a panic.
    pub fn aborted(&self) {
        self.outcomes.of(ConnectionOutcome::Aborted).inc();
    }

    /// Counts a connection that was closed without a refusal.
    pub fn closed_unheard(&self) {
        self.unheard.inc();
    }

    /// Counts an evicted connection.
    pub fn evicted(&self) {
        self.evicted.inc();
    }

    /// Counts a failed accept.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }
}
