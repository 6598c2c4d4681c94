//! Role credentials for granted people: one STS call however many of their connections ask at once, and none
//! while the last answer is still good. A cached answer never crosses tokens, users or issuers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use moka::Expiry;
use moka::future::Cache;
use tokio::runtime::Handle;
use url::Url;

use super::credentials::RoleCredentials;
use super::retry::StsTimes;
use super::session_name::role_session_name;
use super::session_policy::session_policy;
use super::sts::{Assume, Sts, StsError};
use super::sts_client::StsSetupError;
use super::sts_status::StsStatus;
use crate::auth::policy::Grant;
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::names::{DbUser, Issuer, RoleArn};
use crate::resolver::Resolver;
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
    /// Clusters with the same endpoint share one client.
    sts: HashMap<String, (Arc<Sts>, u64)>,
    edition: u64,
    cache: Cache<Key, Entry>,
    hits: Arc<AtomicU64>,
    control: Handle,
    clock: Clock,
    resolver: Resolver,
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
    /// Calls run on `control`; `resolver` finds STS.
    pub fn new(
        clusters: &[Arc<ClusterSettings>],
        times: StsTimes,
        clock: Clock,
        resolver: Resolver,
        control: Handle,
    ) -> Result<Self, StsSetupError> {
        let none = HashMap::new();
        let sts = clients(clusters, &none, times, (&clock, &resolver))?;
        let sts = sts.into_iter().map(|(name, client)| (name, (client, 0))).collect();
        Ok(Self {
            sts,
            edition: 0,
            cache: Cache::builder().max_capacity(MAX_ENTRIES).expire_after(Life).build(),
            hits: Arc::default(),
            control,
            clock,
            resolver,
        })
    }

    /// For the next configuration: new clients for STS, whose certificate authorities may have changed, and for
    /// each cluster whose settings are those of `before` the answers that are remembered. What is known of an
    /// endpoint stays known.
    pub fn succeeded_by(
        &self,
        clusters: &[Arc<ClusterSettings>],
        before: &[Arc<ClusterSettings>],
        times: StsTimes,
    ) -> Result<Self, StsSetupError> {
        let edition = self.edition + 1;
        let clients = clients(clusters, &self.sts, times, (&self.clock, &self.resolver))?;
        let mut sts = HashMap::new();
        for cluster in clusters {
            let unchanged = self.sts.get(&cluster.name).filter(|_| before.contains(cluster));
            let since = unchanged.map_or(edition, |(_, since)| *since);
            if let Some(client) = clients.get(&cluster.name) {
                sts.insert(cluster.name.clone(), (Arc::clone(client), since));
            }
        }
        Ok(Self {
            sts,
            edition,
            cache: self.cache.clone(),
            hits: Arc::clone(&self.hits),
            control: self.control.clone(),
            clock: self.clock.clone(),
            resolver: self.resolver.clone(),
        })
    }

    /// How many logins were answered from the cache.
    pub fn cache_hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How the STS endpoints are, one entry for each.
    pub fn status(&self) -> Vec<StsStatus> {
        let mut status: Vec<StsStatus> = Vec::new();
        for sts in self.sts.values().map(|(sts, _)| sts.status()) {
            if status.iter().all(|other| other.endpoint != sts.endpoint) {
                status.push(sts);
            }
        }
        status.sort_by(|one, other| one.endpoint.cmp(&other.endpoint));
        status
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
        if let Some(entry) = self.cache.get(&key).await {
            // Wall time can jump; an entry that has outlived its credentials by the clock is no answer.
            if self.still_good(&entry, grant.expires_at()) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return entry.answer;
            }
            self.cache.invalidate(&key).await;
        }
        let assume = Assume {
            jwt,
            issuer: grant.issuer().clone(),
            subject: grant.subject().clone(),
            role: grant.role().clone(),
            session_name: role_session_name(grant.issuer(), grant.subject()),
            policy: cluster.pin.by_policy().then(|| session_policy(cluster, grant.role(), grant.db_user())),
            duration: cluster.sts_duration,
        };
        let call = remembered(sts, assume, grant.expires_at(), self.clock.clone());
        let cache = self.cache.clone();
        // On the control plane, so that a client that goes away takes neither the call nor its answer with it.
        let waiting = self.control.spawn(async move { cache.try_get_with(key, call).await });
        match waiting.await {
            Ok(Ok(entry)) => entry.answer,
            Ok(Err(unavailable)) => Err((*unavailable).clone()),
            Err(_) => Err(StsError::Unavailable("the call was cut off".into())),
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
}

/// A client for each cluster, by the cluster's name; those with the same endpoint have the same. One that succeeds
/// another, of `before`, takes over what is known of the endpoint.
fn clients(
    clusters: &[Arc<ClusterSettings>],
    before: &HashMap<String, (Arc<Sts>, u64)>,
    times: StsTimes,
    (clock, resolver): (&Clock, &Resolver),
) -> Result<HashMap<String, Arc<Sts>>, StsSetupError> {
    let mut shared: HashMap<(&Url, Option<&PathBuf>), Arc<Sts>> = HashMap::new();
    let mut clients = HashMap::new();
    for cluster in clusters {
        let endpoint = (&cluster.sts_endpoint_url, cluster.sts_ca_file.as_ref());
        let client = match shared.get(&endpoint) {
            Some(client) => Arc::clone(client),
            None => {
                let known = before.values().find(|(sts, _)| sts.is_at(&cluster.sts_endpoint_url));
                let known = known.map(|(sts, _)| &**sts);
                Arc::new(Sts::new(cluster, times, clock.clone(), resolver.clone(), known)?)
            }
        };
        shared.insert(endpoint, Arc::clone(&client));
        clients.insert(cluster.name.clone(), client);
    }
    Ok(clients)
}

/// Makes the call and says how long its end is to be remembered.
async fn remembered(
    sts: Arc<Sts>,
    assume: Assume,
    token_expires_at: SystemTime,
    clock: Clock,
) -> Result<Entry, StsError> {
    match sts.assume(assume).await {
        Ok(credentials) => {
            let life = life(credentials.expires_at(), token_expires_at, clock.now());
            Ok(Entry { answer: Ok(Arc::new(credentials)), life })
        }
        Err(refused @ (StsError::Refused { .. } | StsError::Misconfigured { .. })) => {
            Ok(Entry { answer: Err(refused), life: REMEMBER_REFUSAL })
        }
        Err(other) => Err(other),
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
