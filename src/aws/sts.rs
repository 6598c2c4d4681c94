//! `AssumeRoleWithWebIdentity`: unsigned calls with the person's own token, retried if that may help, and
//! paused while STS is down. An answer is validated before it is used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_sdk_sts::Client;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput as Output;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

use super::breaker::{Breaker, BreakerTransition, CallPermit};
use super::credentials::RoleCredentials;
use super::retry::{RetryBudget, StsTimes, TransientFault};
use super::sts_answer::validate;
use super::sts_client;
use super::sts_client::MAX_IN_FLIGHT;
pub use super::sts_error::StsError;
use super::sts_error::{AttemptError, CallError, classify};
pub use super::sts_request::AssumeRoleRequest;
use super::sts_status::{AttemptCounts, AttemptOutcome, StsStatus};
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::names::{Issuer, random_bytes};
use crate::net::https::peer;
use crate::net::outgoing::{Outgoing, OutgoingError};
use crate::net::peer_clocks::PeerClocks;
use crate::sync::lock;

/// Most calls waiting for their turn or their next attempt; further calls are rejected.
pub const MAX_WAITING: usize = 4_096;

/// An STS endpoint.
#[derive(Debug)]
pub struct StsEndpoint {
    client: Client,
    endpoint: Url,
    times: StsTimes,
    state: Arc<EndpointState>,
    clocks: PeerClocks,
    clock: Clock,
}

/// State of an endpoint that is kept across reloads.
#[derive(Debug)]
struct EndpointState {
    in_flight: Semaphore,
    waiting: Semaphore,
    breaker: Breaker,
    /// Breakers for faults between STS and one issuer, so that other issuers' people are not affected. At
    /// most one per configured issuer.
    issuers: Mutex<HashMap<Issuer, Arc<Breaker>>>,
    tries: AttemptCounts,
}

impl Default for EndpointState {
    fn default() -> Self {
        Self {
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            waiting: Semaphore::new(MAX_WAITING),
            breaker: Breaker::default(),
            issuers: Mutex::default(),
            tries: AttemptCounts::default(),
        }
    }
}

impl StsEndpoint {
    /// A client for the STS endpoint of `cluster`, shared with all clusters that have the same endpoint.
    /// Takes over the endpoint's state from `before`, a client for the same endpoint.
    pub fn new(
        cluster: &ClusterSettings,
        times: StsTimes,
        clock: Clock,
        outgoing: &Outgoing,
        before: Option<&Self>,
    ) -> Result<Self, OutgoingError> {
        Ok(Self {
            client: sts_client::build(cluster, &times, outgoing)?,
            endpoint: cluster.sts_endpoint_url.clone(),
            times,
            state: before.map(|before| Arc::clone(&before.state)).unwrap_or_default(),
            clocks: outgoing.clocks().clone(),
            clock,
        })
    }

    /// True if this is the client of that endpoint.
    pub fn is_at(&self, endpoint: &Url) -> bool {
        self.endpoint == *endpoint
    }

    /// Current status.
    pub fn status(&self) -> StsStatus {
        StsStatus {
            endpoint: self.endpoint.to_string(),
            host: self.endpoint.host_str().unwrap_or_default().to_owned(),
            breaker: self.state.breaker.state(Instant::now()),
            tries: self.state.tries.all(),
            clock_ahead: self.clock_ahead(),
        }
    }

    fn clock_ahead(&self) -> i64 {
        let url = self.endpoint.as_str().parse();
        url.ok().and_then(|url| self.clocks.seconds_ahead_of(&peer(&url))).unwrap_or_default()
    }

    /// Exchanges the token for credentials.
    pub async fn assume(&self, request: AssumeRoleRequest) -> Result<RoleCredentials, StsError> {
        let full = |_| StsError::Unavailable(format!("{MAX_WAITING} calls are waiting already"));
        let _place = self.state.waiting.try_acquire().map_err(full)?;
        let mut budget = RetryBudget::new(Instant::now());
        let mut last = None;
        loop {
            let (begun, result) = self.attempt(&request, &budget).await;
            self.state
                .tries
                .add(result.as_ref().map_or_else(AttemptOutcome::of, |_| AttemptOutcome::Granted));
            let failed = match result {
                Ok(credentials) => return Ok(credentials),
                Err(failed) => failed,
            };
            let random = u64::from_be_bytes(random_bytes());
            let again = match &failed {
                AttemptError::ForNow(fault, _) => {
                    budget.pause(&self.times, *fault, (begun, Instant::now()), random)
                }
                AttemptError::Finally(_) | AttemptError::Unusable(_) | AttemptError::NotMade(_) => None,
            };
            match again {
                Some(pause) => {
                    sleep(pause).await;
                    last = Some(failed);
                }
                // The last fault says more than the fact that no further call is made.
                None if matches!(failed, AttemptError::NotMade(_)) => {
                    return Err(last.unwrap_or(failed).into());
                }
                None => return Err(failed.into()),
            }
        }
    }

    /// Makes an attempt if the breakers allow it. Also returns its start.
    async fn attempt(
        &self,
        request: &AssumeRoleRequest,
        budget: &RetryBudget,
    ) -> (Instant, Result<RoleCredentials, AttemptError>) {
        let unavailable = |why| Err(AttemptError::NotMade(why));
        let paused = "calls are paused for a few seconds because the last ones failed";
        let issuer = self.breaker_of(&request.issuer);
        let now = Instant::now();
        if self.state.breaker.is_open(now) || issuer.is_open(now) {
            return (now, unavailable(paused));
        }
        let turn = timeout_at(budget.end(&self.times), self.state.in_flight.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return (now, unavailable("too many calls are in progress")) };
        let begun = Instant::now();
        let Some(for_issuer) = issuer.enter(begun) else { return (begun, unavailable(paused)) };
        let Some(for_sts) = self.state.breaker.enter(begun) else { return (begun, unavailable(paused)) };

        let result = match timeout(budget.limit(&self.times, begun), self.call(request)).await {
            Err(_) => Err(AttemptError::ForNow(TransientFault::Failing, "no answer in time".to_owned())),
            Ok(Err(error)) => Err(classify(&error)),
            Ok(Ok(output)) => validate(output, request, self.clock.now()),
        };
        self.report(&result, for_sts, for_issuer);
        (begun, result)
    }

    /// Reports the result to the breakers. An unreported result does not count.
    fn report(
        &self,
        result: &Result<RoleCredentials, AttemptError>,
        for_sts: CallPermit<'_>,
        for_issuer: CallPermit<'_>,
    ) {
        let now = Instant::now();
        let (sts, issuer) = match result {
            Ok(_) | Err(AttemptError::Finally(_)) => (true, Some(true)),
            Err(AttemptError::ForNow(fault, _)) if fault.is_the_issuers() => (true, Some(false)),
            Err(AttemptError::ForNow(..) | AttemptError::Unusable(_) | AttemptError::NotMade(_)) => {
                (false, None)
            }
        };
        let endpoint = self.endpoint.as_str();
        match for_sts.report(sts, now) {
            Some(BreakerTransition::Opened) => {
                tracing::warn!(endpoint, "AWS STS is failing; calls are paused");
            }
            Some(BreakerTransition::Closed) => tracing::info!(endpoint, "AWS STS works again"),
            None => {}
        }
        match issuer.and_then(|good| for_issuer.report(good, now)) {
            Some(BreakerTransition::Opened) => {
                tracing::warn!(endpoint, "AWS STS cannot reach an issuer; calls for the issuer are paused");
            }
            Some(BreakerTransition::Closed) => tracing::info!(endpoint, "AWS STS can reach the issuer again"),
            None => {}
        }
    }

    fn breaker_of(&self, issuer: &Issuer) -> Arc<Breaker> {
        let mut breakers = lock(&self.state.issuers);
        Arc::clone(breakers.entry(issuer.clone()).or_default())
    }

    async fn call(&self, request: &AssumeRoleRequest) -> Result<Output, CallError> {
        self.client
            .assume_role_with_web_identity()
            .role_arn(request.role.as_str())
            .role_session_name(&request.session_name)
            // A verified token is ASCII. The SDK copies it and frees its copies without zeroizing them.
            .web_identity_token(String::from_utf8_lossy(request.jwt.expose()))
            .duration_seconds(i32::try_from(request.duration.as_secs()).unwrap_or(900))
            .set_policy(request.policy.clone())
            .send()
            .await
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod body_tests;
