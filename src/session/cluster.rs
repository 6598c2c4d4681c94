//! A running cluster: its settings and the components for logins to it.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::{ClusterClosed, ClusterGate, GatePass};
use super::login_rate::{LoginRateLimiter, QueueFull};
use super::permits::{AdmissionError, ClusterPermits, PermitCounters, SessionPermit, SessionQuotas};
use crate::aws::credentials::RoleCredentials;
use crate::aws::federation::Federation;
use crate::aws::sts::StsEndpoint;
use crate::aws::sts_error::StsError;
use crate::config::ClusterSettings;
use crate::identity::{AccessPolicy, ConfiguredCluster, Grant, LoginRequest, PolicyError, VerifiedClaims};
use crate::net::dial::{DialError, Dialed, Dialer};
use crate::protocol::Protocol;
use crate::secret::Jwt;

/// A cluster of a configuration, built by `app.rs`.
#[derive(Debug)]
pub struct Cluster {
    /// The settings; the same object after a reload that does not change them.
    pub(crate) settings: Arc<ClusterSettings>,
    /// STS endpoint for role credentials.
    pub(crate) sts: Arc<StsEndpoint>,
    /// Queue of logins, if their rate is limited.
    pub(crate) login_rate: Option<Arc<LoginRateLimiter>>,
    /// Counters of sessions.
    pub(crate) permits: Arc<ClusterPermits>,
    /// Gate that operators close.
    pub(crate) gate: Arc<ClusterGate>,
}

impl Cluster {
    /// Waits until the cluster's login rate allows another login. AWS counts new IAM tokens only, so a login
    /// with a reused token (`reused`) does not wait.
    pub(super) async fn login_turn(&self, reused: bool) -> Result<(), QueueFull> {
        match &self.login_rate {
            Some(queue) if !reused => queue.admit().await,
            Some(_) | None => Ok(()),
        }
    }
}

/// A cluster and the way to its servers, which speak protocol `P`.
#[derive(Debug)]
pub struct ReachableCluster<P: Protocol> {
    /// The cluster.
    pub(crate) cluster: Arc<Cluster>,
    /// Connects to the endpoint.
    pub(crate) dialer: Arc<Dialer<P>>,
}

impl<P: Protocol> ConfiguredCluster for Arc<ReachableCluster<P>> {
    fn settings(&self) -> &Arc<ClusterSettings> {
        &self.cluster.settings
    }
}

/// A grant and its cluster. The only way of a login to that cluster, its STS endpoint and its limits.
#[derive(Debug)]
pub struct ClusterGrant<P: Protocol> {
    grant: Grant,
    reachable: Arc<ReachableCluster<P>>,
}

impl<P: Protocol> ClusterGrant<P> {
    /// Applies the access policy.
    pub fn authorise(
        policy: &AccessPolicy<Arc<ReachableCluster<P>>>,
        claims: VerifiedClaims,
        request: &LoginRequest<'_>,
    ) -> Result<Self, PolicyError> {
        let (grant, cluster) = policy.authorise(claims, request)?;
        Ok(Self { grant, reachable: Arc::clone(cluster) })
    }

    /// The grant.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Passes the cluster's gate. Waits while an operator has paused the cluster.
    pub async fn pass(&self, deadline: Instant, stop: &CancellationToken) -> Result<GatePass, ClusterClosed> {
        self.reachable.cluster.gate.pass(deadline, stop).await
    }

    /// Counts a session of `person` (issuer and subject) in the cluster, within its limits and `per_user`.
    pub fn permit(
        &self,
        counters: &PermitCounters,
        person: (&str, &str),
        per_user: Option<usize>,
    ) -> Result<SessionPermit, AdmissionError> {
        let group = self.grant.group().and_then(|group| Some((group.name.clone(), group.max_client_conn?)));
        let quotas =
            SessionQuotas { per_user, per_cluster: self.reachable.cluster.settings.max_client_conn, group };
        Ok(counters.session(&self.reachable.cluster.permits, person, self.grant.db_user(), &quotas)?)
    }

    /// Connects to the cluster.
    pub async fn dial(&self, hello: &P::Hello, deadline: Instant) -> Result<Dialed<P>, DialError> {
        self.reachable.dialer.dial(&self.grant, hello, deadline).await
    }

    /// Role credentials for the granted user. Consumes the token.
    pub async fn federate(
        &self,
        federation: &Federation,
        jwt: Jwt,
    ) -> Result<Arc<RoleCredentials>, StsError> {
        federation.federate(&self.reachable.cluster.sts, jwt, &self.grant).await
    }

    /// Waits until the cluster's login rate allows another login; see [`Cluster::login_turn`].
    pub async fn login_turn(&self, reused: bool) -> Result<(), QueueFull> {
        self.reachable.cluster.login_turn(reused).await
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.reachable.cluster)
    }
}
