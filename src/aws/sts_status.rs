//! Counters and status of an STS endpoint, for health, metrics and `doctor`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::breaker::BreakerState;
use super::retry::TransientFault;
use super::sts_error::{AttemptError, StsError};

/// Result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    Granted,
    Refused,
    Misconfigured,
    Throttled,
    Failing,
    IssuerUnreachable,
    KeysNotFetched,
    BadResponse,
    /// No call was made because the breaker was open or the queue was full.
    TurnedAway,
}

impl AttemptOutcome {
    /// All outcomes, in the order of the counters.
    pub const ALL: [Self; 9] = [
        Self::Granted,
        Self::Refused,
        Self::Misconfigured,
        Self::Throttled,
        Self::Failing,
        Self::IssuerUnreachable,
        Self::KeysNotFetched,
        Self::BadResponse,
        Self::TurnedAway,
    ];

    /// Label in metrics; stable.
    pub fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Misconfigured => "misconfigured",
            Self::Throttled => "throttled",
            Self::Failing => "failing",
            Self::IssuerUnreachable => "issuer_unreachable",
            Self::KeysNotFetched => "keys_not_fetched",
            Self::BadResponse => "bad_response",
            Self::TurnedAway => "turned_away",
        }
    }

    pub(super) fn of(failed: &AttemptError) -> Self {
        match failed {
            AttemptError::Finally(StsError::Refused { .. }) => Self::Refused,
            AttemptError::Finally(StsError::Misconfigured { .. }) => Self::Misconfigured,
            AttemptError::Finally(StsError::Unavailable(_)) | AttemptError::NotMade(_) => Self::TurnedAway,
            AttemptError::Finally(StsError::BadResponse(_)) | AttemptError::Unusable(_) => Self::BadResponse,
            AttemptError::ForNow(TransientFault::Throttled, _) => Self::Throttled,
            AttemptError::ForNow(TransientFault::Failing, _) => Self::Failing,
            AttemptError::ForNow(TransientFault::IssuerUnreachable, _) => Self::IssuerUnreachable,
            AttemptError::ForNow(TransientFault::KeysNotFetched, _) => Self::KeysNotFetched,
        }
    }
}

/// Snapshot of one endpoint.
#[derive(Clone, Debug)]
pub struct StsStatus {
    /// URL of the endpoint.
    pub endpoint: String,
    /// Host of the endpoint.
    pub host: String,
    /// State of the breaker.
    pub breaker: BreakerState,
    /// Attempts by outcome, since start.
    pub tries: Vec<(AttemptOutcome, u64)>,
    /// Seconds by which the local clock is ahead, by the last answer.
    pub clock_ahead: i64,
}

/// Counters of attempts by outcome.
#[derive(Debug, Default)]
pub(super) struct AttemptCounts([AtomicU64; AttemptOutcome::ALL.len()]);

impl AttemptCounts {
    pub(super) fn add(&self, outcome: AttemptOutcome) {
        let counter = self.0.iter().zip(AttemptOutcome::ALL).find(|(_, other)| *other == outcome);
        if let Some((counter, _)) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn all(&self) -> Vec<(AttemptOutcome, u64)> {
        AttemptOutcome::ALL
            .into_iter()
            .zip(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)))
            .collect()
    }
}
