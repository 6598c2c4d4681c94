//! Ends of connections, in the words of metrics and audit records.

use super::labels::{CancelResult, ConnectionOutcome, DropReason, SessionEndReason};
use crate::refusal::Stage;

/// End of a connection in stable words for programs.
#[derive(Clone, Debug)]
pub struct SessionOutcome {
    /// The outcome.
    pub word: ConnectionOutcome,
    /// The reason, if the outcome has one.
    pub end: Option<EndReason>,
    /// Stage that refused.
    pub stage: Option<Stage>,
    /// SQLSTATE of the refusal.
    pub sqlstate: Option<String>,
    /// Complete reason, for the operator.
    pub reason: Option<String>,
    /// True for routine events of clients, load balancers and scanners, which are recorded at level `debug`.
    pub routine: bool,
}

/// Reason of an end, in the words of its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A session's.
    Session(SessionEndReason),
    /// A console connection's.
    Console(&'static str),
    /// A cancel's.
    Cancel(CancelResult),
    /// That of a connection that never spoke the listener's protocol.
    Dropped(DropReason),
}

impl EndReason {
    /// Stable word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Session(reason) => reason.word(),
            Self::Console(reason) => reason,
            Self::Cancel(result) => result.word(),
            Self::Dropped(reason) => reason.word(),
        }
    }
}
