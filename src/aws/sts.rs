//! `AssumeRoleWithWebIdentity`: unsigned calls with the person's own token, made again while that may help and
//! not at all while STS is down. What comes back is checked before it is believed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_sts::Client;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput as Output;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

use super::breaker::{Breaker, BreakerTransition, CallPermit};
use super::credentials::RoleCredentials;
use super::retry::{RetryBudget, StsTimes, TransientFault};
use super::sts_answer::believe;
use super::sts_client;
pub use super::sts_error::StsError;
use super::sts_error::{AttemptError, CallError, classify};
use super::sts_status::{AttemptCounts, AttemptOutcome, StsStatus};
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::names::{Issuer, RoleArn, Subject, random_bytes};
use crate::net::https::peer;
use crate::net::outgoing::{Outgoing, OutgoingError};
use crate::net::peer_clocks::PeerClocks;
use crate::secret::Jwt;

/// Calls to one endpoint at the same time; more wait their turn.
pub const MAX_IN_FLIGHT: usize = 64;

/// Calls that wait their turn or their next try; more are turned away.
pub const MAX_WAITING: usize = 4_096;

/// One call to make.
#[derive(Debug)]
pub struct AssumeRoleRequest {
    /// The person's token; it is spent here.
    pub jwt: Jwt,
    /// The verified issuer.
    pub issuer: Issuer,
    /// The verified subject.
    pub subject: Subject,
    /// The role to assume.
    pub role: RoleArn,
    /// The RoleSessionName.
    pub session_name: String,
    /// The inline session policy.
    pub policy: Option<String>,
    /// Lifetime to ask for.
    pub duration: Duration,
}

/// One STS endpoint.
#[derive(Debug)]
pub struct StsEndpoint {
    client: Client,
    endpoint: Url,
    times: StsTimes,
    known: Arc<EndpointState>,
    clocks: PeerClocks,
    clock: Clock,
}

/// What is known of an endpoint, also when the configuration has been read again.
#[derive(Debug)]
struct EndpointState {
    in_flight: Semaphore,
    waiting: Semaphore,
    breaker: Breaker,
    /// For troubles that STS has with one issuer: the others' people need not suffer. As many as are configured.
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
    /// A client for the STS of `cluster`, and of all others that have the same. From `before`, a client for the same
    /// endpoint, it takes over what is known of it.
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
            known: before.map(|before| Arc::clone(&before.known)).unwrap_or_default(),
            clocks: outgoing.clocks().clone(),
            clock,
        })
    }

    /// Whether this is the client of that endpoint.
    pub fn is_at(&self, endpoint: &Url) -> bool {
        self.endpoint == *endpoint
    }

    /// How it is.
    pub fn status(&self) -> StsStatus {
        StsStatus {
            endpoint: self.endpoint.to_string(),
            host: self.endpoint.host_str().unwrap_or_default().to_owned(),
            breaker: self.known.breaker.state(Instant::now()),
            tries: self.known.tries.all(),
            clock_ahead: self.clock_ahead(),
        }
    }

    fn clock_ahead(&self) -> i64 {
        let url = self.endpoint.as_str().parse();
        url.ok().and_then(|url| self.clocks.seconds_ahead_of(&peer(&url))).unwrap_or_default()
    }

    /// Trades the token for credentials.
    pub async fn assume(&self, assume: AssumeRoleRequest) -> Result<RoleCredentials, StsError> {
        let full = |_| StsError::Unavailable(format!("{MAX_WAITING} calls are waiting already"));
        let _place = self.known.waiting.try_acquire().map_err(full)?;
        let mut budget = RetryBudget::new(Instant::now());
        let mut last = None;
        loop {
            let (begun, ended) = self.attempt(&assume, &budget).await;
            self.known.tries.add(ended.as_ref().map_or_else(AttemptOutcome::of, |_| AttemptOutcome::Granted));
            let failed = match ended {
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
                // That no further call is made says less than why the last one failed.
                None if matches!(failed, AttemptError::NotMade(_)) => {
                    return Err(last.unwrap_or(failed).into());
                }
                None => return Err(failed.into()),
            }
        }
    }

    /// One try, if the breakers let it through, and when it began.
    async fn attempt(
        &self,
        assume: &AssumeRoleRequest,
        budget: &RetryBudget,
    ) -> (Instant, Result<RoleCredentials, AttemptError>) {
        let unavailable = |why| Err(AttemptError::NotMade(why));
        let paused = "no call is made for a few seconds, because the last ones have all failed";
        let issuer = self.breaker_of(&assume.issuer);
        let now = Instant::now();
        if self.known.breaker.is_open(now) || issuer.is_open(now) {
            return (now, unavailable(paused));
        }
        let transition = timeout_at(budget.end(&self.times), self.known.in_flight.acquire()).await;
        let Ok(Ok(_turn)) = transition else { return (now, unavailable("too many calls are under way")) };
        let begun = Instant::now();
        let Some(for_issuer) = issuer.enter(begun) else { return (begun, unavailable(paused)) };
        let Some(for_sts) = self.known.breaker.enter(begun) else { return (begun, unavailable(paused)) };

        let ended = match timeout(budget.limit(&self.times, begun), self.call(assume)).await {
            Err(_) => Err(AttemptError::ForNow(TransientFault::Failing, "no answer in time".to_owned())),
            Ok(Err(error)) => Err(classify(&error)),
            Ok(Ok(output)) => believe(output, assume, self.clock.now()),
        };
        self.report(&ended, for_sts, for_issuer);
        (begun, ended)
    }

    /// Tells the breakers. What is not reported does not count.
    fn report(
        &self,
        ended: &Result<RoleCredentials, AttemptError>,
        for_sts: CallPermit<'_>,
        for_issuer: CallPermit<'_>,
    ) {
        let now = Instant::now();
        let (sts, issuer) = match ended {
            Ok(_) | Err(AttemptError::Finally(_)) => (true, Some(true)),
            Err(AttemptError::ForNow(fault, _)) if fault.is_the_issuers() => (true, Some(false)),
            Err(AttemptError::ForNow(..) | AttemptError::Unusable(_) | AttemptError::NotMade(_)) => {
                (false, None)
            }
        };
        let endpoint = self.endpoint.as_str();
        match for_sts.report(sts, now) {
            Some(BreakerTransition::Opened) => tracing::warn!(endpoint, "AWS STS fails; calls to it pause"),
            Some(BreakerTransition::Closed) => tracing::info!(endpoint, "AWS STS works again"),
            None => {}
        }
        match issuer.and_then(|good| for_issuer.report(good, now)) {
            Some(BreakerTransition::Opened) => {
                tracing::warn!(endpoint, "AWS STS cannot reach an issuer; calls for it pause");
            }
            Some(BreakerTransition::Closed) => tracing::info!(endpoint, "AWS STS reaches the issuer again"),
            None => {}
        }
    }

    fn breaker_of(&self, issuer: &Issuer) -> Arc<Breaker> {
        let mut breakers = self.known.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(breakers.entry(issuer.clone()).or_default())
    }

    async fn call(&self, assume: &AssumeRoleRequest) -> Result<Output, CallError> {
        self.client
            .assume_role_with_web_identity()
            .role_arn(assume.role.as_str())
            .role_session_name(&assume.session_name)
            // A verified token is ASCII. The SDK copies it, and frees its copies without overwriting them.
            .web_identity_token(String::from_utf8_lossy(assume.jwt.expose()))
            .duration_seconds(i32::try_from(assume.duration.as_secs()).unwrap_or(900))
            .set_policy(assume.policy.clone())
            .send()
            .await
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod body_tests;
