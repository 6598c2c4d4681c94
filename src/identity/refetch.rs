//! Bookkeeping of key set fetches that tokens cause: reasons, counts, and tokens for which a fetch did not
//! help.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::secret::TokenDigest;
use crate::sync::lock;

/// Time for which a token that a fetch did not help causes no other fetch. A client pool that retries the
/// same token gets its answer immediately.
pub const TOKEN_PAUSE: Duration = Duration::from_secs(30);

/// Most tokens remembered; the oldest is dropped first.
const MAX_SPENT: usize = 1_024;

/// Reason why a token causes a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefetchCause {
    /// No key matches its `kid` and `alg`.
    UnknownKey,
    /// No matching key made the signature: the issuer may have a new key under the old `kid`.
    BadSignature,
}

/// Numbers of fetches since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchCounts {
    /// Fetches that returned a key set.
    pub good: u64,
    /// Fetches that failed.
    pub failed: u64,
    /// Fetches begun for an unknown key.
    pub for_unknown_key: u64,
    /// Fetches begun for a signature that did not hold.
    pub for_bad_signature: u64,
}

impl FetchCounts {
    pub(super) fn asked(&mut self, cause: RefetchCause) {
        match cause {
            RefetchCause::UnknownKey => self.for_unknown_key += 1,
            RefetchCause::BadSignature => self.for_bad_signature += 1,
        }
    }

    pub(super) fn ended(&mut self, failed: bool) {
        if failed {
            self.failed += 1;
        } else {
            self.good += 1;
        }
    }
}

/// Digests of tokens that a fetch did not help, oldest first.
#[derive(Debug, Default)]
pub(super) struct SpentTokens(Mutex<VecDeque<(Instant, TokenDigest)>>);

impl SpentTokens {
    pub(super) fn contains(&self, token: TokenDigest, now: Instant) -> bool {
        self.lock(now).iter().any(|(_, other)| *other == token)
    }

    pub(super) fn add(&self, token: TokenDigest, now: Instant) {
        let mut spent = self.lock(now);
        if spent.len() == MAX_SPENT {
            spent.pop_front();
        }
        spent.push_back((now, token));
    }

    fn lock(&self, now: Instant) -> MutexGuard<'_, VecDeque<(Instant, TokenDigest)>> {
        let mut spent = lock(&self.0);
        while spent.front().is_some_and(|(at, _)| now.duration_since(*at) >= TOKEN_PAUSE) {
            spent.pop_front();
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Jwt;

    fn token(number: usize) -> TokenDigest {
        Jwt::new(number.to_string().into_bytes()).digest()
    }

    #[test]
    fn a_token_is_spent_for_thirty_seconds_and_the_oldest_of_too_many_is_forgotten() {
        let (spent, now) = (SpentTokens::default(), Instant::now());
        spent.add(token(0), now);
        assert!(spent.contains(token(0), now) && !spent.contains(token(1), now));
        assert!(spent.contains(token(0), now + Duration::from_millis(29_999)));
        assert!(!spent.contains(token(0), now + TOKEN_PAUSE));
        for number in 1..=MAX_SPENT + 1 {
            spent.add(token(number), now);
        }
        assert!(!spent.contains(token(1), now) && spent.contains(token(2), now));
    }
}
