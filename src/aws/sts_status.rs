//! Counters and status of an STS endpoint, for health, metrics and `doctor`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::breaker::BreakerState;
use super::retry::TransientFault;
use super::sts_error::{AttemptError, StsError};
use crate::words::word_enum;

word_enum! {
    /// Result of one attempt.
    pub enum AttemptOutcome {
        /// STS gave role credentials.
        Granted = "granted",
        /// STS refused the token or the role.
        Refused = "refused",
        /// STS refused because of the account's configuration.
        Misconfigured = "misconfigured",
        /// STS asked for fewer calls.
        Throttled = "throttled",
        /// STS failed, or did not answer.
        Failing = "failing",
        /// STS could not reach the issuer.
        IssuerUnreachable = "issuer_unreachable",
        /// STS could not fetch the issuer's keys.
        KeysNotFetched = "keys_not_fetched",
        /// The answer of STS cannot be used.
        BadResponse = "bad_response",
        /// No call was made because the breaker was open or the queue was full.
        TurnedAway = "turned_away",
    }
}

impl AttemptOutcome {
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
