//! Role credentials for granted people: one STS call however many of their connections ask at once, and none
//! while the last answer is still good. A cached answer never crosses tokens, users or issuers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use moka::Expiry;
use moka::future::Cache;
use tokio::runtime::Handle;

use super::credentials::RoleCredentials;
use super::session_name::role_session_name;
use super::session_policy::session_policy;
use super::sts::{Assume, Sts, StsError, StsSetupError, StsTimes};
use crate::auth::policy::Grant;
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::names::{DbUser, Issuer, RoleArn};
use crate::secret::{Jwt, TokenDigest};

/// Most entries; the least used goes first.
const MAX_ENTRIES: u64 = 10_000;

/// Credentials are not used in their last minute: the server compares with a clock of its own.
const MARGIN: Duration = Duration::from_mins(1);

/// How long a refusal answers for STS: a pool whose token has expired asks again and again.
const REMEMBER_REFUSAL: Duration = Duration::from_secs(5);

/// Credentials for people who have been granted a login.
#[derive(Debug)]
pub struct Federation {
    /// By the cluster's name: whom to ask, and since which edition of the configuration the cluster is as it is.
    sts: HashMap<String, (Arc<Sts>, u64)>,
    edition: u64,
    cache: Cache<Key, Entry>,
    control: Handle,
    clock: Clock,
}

/// By digest: a token does not belong into a map that lives longer than its login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    token: TokenDigest,
    issuer: Issuer,
    cluster: String,
    since: u64,
    role: RoleArn,
    user: DbUser,
}

/// What is remembered, and for how long.
#[derive(Clone, Debug)]
struct Entry {
    answer: Result<Arc<RoleCredentials>, StsError>,
    life: Duration,
}

struct Life;

impl Expiry<Key, Entry> for Life {
    fn expire_after_create(&self, _: &Key, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.life)
    }
}

impl Federation {
    /// Calls run on `control`, so that a client that goes away does not take the call of others with it.
    pub fn new(
        clusters: &[Arc<ClusterSettings>],
        times: StsTimes,
        clock: Clock,
        control: Handle,
    ) -> Result<Self, StsSetupError> {
        let mut sts = HashMap::new();
        for cluster in clusters {
            sts.insert(cluster.name.clone(), (Arc::new(Sts::new(cluster, times, clock.clone())?), 0));
        }
        Ok(Self {
            sts,
            edition: 0,
            cache: Cache::builder().max_capacity(MAX_ENTRIES).expire_after(Life).build(),
            control,
            clock,
        })
    }

    /// For the next configuration: new clients for STS, whose certificate authorities may have changed, and for
    /// each cluster whose settings are those of `before` the answers that are remembered.
    pub fn succeeded_by(
        &self,
        clusters: &[Arc<ClusterSettings>],
        before: &[Arc<ClusterSettings>],
        times: StsTimes,
    ) -> Result<Self, StsSetupError> {
        let edition = self.edition + 1;
        let mut sts = HashMap::new();
        for cluster in clusters {
            let unchanged = self.sts.get(&cluster.name).filter(|_| before.contains(cluster));
            let since = unchanged.map_or(edition, |(_, since)| *since);
            let client = Arc::new(Sts::new(cluster, times, self.clock.clone())?);
            sts.insert(cluster.name.clone(), (client, since));
        }
        let (cache, control, clock) = (self.cache.clone(), self.control.clone(), self.clock.clone());
        Ok(Self { sts, edition, cache, control, clock })
    }

    /// Credentials that let the granted user log in, and nobody else where the cluster pins by policy. The
    /// token is spent. Troubles of STS are not remembered.
    pub async fn federate(&self, jwt: Jwt, grant: &Grant) -> Result<Arc<RoleCredentials>, StsError> {
        let cluster = grant.cluster();
        let (sts, since) =
            self.sts.get(&cluster.name).cloned().ok_or(StsError::BadResponse("no such cluster"))?;
        let key = Key {
            token: jwt.digest(),
            issuer: grant.issuer().clone(),
            cluster: cluster.name.clone(),
            since,
            role: grant.role().clone(),
            user: grant.db_user().clone(),
        };
        // Wall time can jump; an entry that has outlived its credentials by the clock is no answer.
        if let Some(entry) = self.cache.get(&key).await
            && !self.still_good(&entry, grant.expires_at())
        {
            self.cache.invalidate(&key).await;
        }
        let assume = Assume {
            jwt,
            issuer: grant.issuer().clone(),
            subject: grant.subject().clone(),
            role: grant.role().clone(),
            session_name: role_session_name(grant.issuer(), grant.subject()),
            policy: cluster.pin.by_policy().then(|| session_policy(cluster, grant.role(), grant.db_user())),
        };
        let call = self.call(sts, assume, grant.expires_at());
        match self.cache.try_get_with(key, call).await {
            Ok(entry) => entry.answer,
            Err(unavailable) => Err((*unavailable).clone()),
        }
    }

    fn still_good(&self, entry: &Entry, token_expires_at: SystemTime) -> bool {
        match &entry.answer {
            Ok(credentials) => !self.life(credentials, token_expires_at).is_zero(),
            Err(_) => true,
        }
    }

    fn life(&self, credentials: &RoleCredentials, token_expires_at: SystemTime) -> Duration {
        life(credentials.expires_at(), token_expires_at, self.clock.now())
    }

    fn call(
        &self,
        sts: Arc<Sts>,
        assume: Assume,
        token_expires_at: SystemTime,
    ) -> impl Future<Output = Result<Entry, StsError>> + use<> {
        let (clock, control) = (self.clock.clone(), self.control.clone());
        async move {
            let called = control.spawn(async move { sts.assume(assume).await });
            match called.await {
                Ok(Ok(credentials)) => {
                    let life = life(credentials.expires_at(), token_expires_at, clock.now());
                    Ok(Entry { answer: Ok(Arc::new(credentials)), life })
                }
                Ok(Err(refused @ (StsError::Refused { .. } | StsError::Misconfigured { .. }))) => {
                    Ok(Entry { answer: Err(refused), life: REMEMBER_REFUSAL })
                }
                Ok(Err(other)) => Err(other),
                Err(_) => Err(StsError::Unavailable("the call was cut off".into())),
            }
        }
    }
}

/// Until the credentials are in their last minute or the token expires, whichever is first.
fn life(credentials_expire_at: SystemTime, token_expires_at: SystemTime, now: SystemTime) -> Duration {
    let end = token_expires_at.min(credentials_expire_at.checked_sub(MARGIN).unwrap_or(now));
    end.duration_since(now).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
#[path = "federation_tests.rs"]
mod tests;
