//! Cache of role credentials for granted logins. Concurrent logins of the same person share one STS call, and
//! a cached answer avoids further calls. A cached answer is never used for another token, user or issuer.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use moka::Expiry;
use moka::future::Cache;
use tokio::runtime::Handle;

use super::credentials::RoleCredentials;
use super::session_name::role_session_name;
use super::session_policy::session_policy;
use super::sts::{AssumeRoleRequest, StsEndpoint, StsError};
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::identity::policy::Grant;
use crate::names::{DbUser, Issuer, RoleArn};
use crate::secret::{Jwt, TokenDigest};

/// Most entries. The least used is evicted first.
const MAX_ENTRIES: u64 = 10_000;

/// Most bytes of all entries. With session tokens of usual length [`MAX_ENTRIES`] is reached first.
const MAX_BYTES: u64 = 64_000_000;

/// Least share of [`MAX_BYTES`] that an entry takes, so that there are never more than [`MAX_ENTRIES`].
const LEAST_WEIGHT: u64 = MAX_BYTES / MAX_ENTRIES;

/// Bytes of an entry besides its strings: the map's and the allocator's. Measured (5.3 KB for an entry with
/// strings of 3.5 KB) and rounded up.
const OVERHEAD: usize = 2_048;

/// Credentials are not used in the last minute of their life, because the server's clock may differ.
const MARGIN: Duration = Duration::from_mins(1);

/// Time for which a refusal is cached, because a client pool with an expired token retries again and again.
const REMEMBER_REFUSAL: Duration = Duration::from_secs(5);

/// Source of role credentials: a cache in front of STS. Lives across reloads. Entries of a cluster whose
/// settings change are not used again.
#[derive(Debug)]
pub struct Federation {
    cache: Cache<CacheKey, CacheEntry>,
    hits: AtomicU64,
    forgotten: AtomicU64,
    control: Handle,
    clock: Clock,
}

/// Size of the credential cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Number of entries, including refusals.
    pub entries: u64,
    /// Bytes that count toward the limit. An entry counts as at least 6,400 bytes.
    pub bytes: u64,
    /// Credentials dropped because a server refused them.
    pub forgotten: u64,
}

/// Cache key. Holds the token's digest, because the map outlives the login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CacheKey {
    token: TokenDigest,
    issuer: Issuer,
    cluster: SameSettings,
    role: RoleArn,
    user: DbUser,
}

/// Settings of a cluster, compared by address: a reload that changes them allocates new ones. The reference
/// prevents reuse of the address.
#[derive(Clone, Debug)]
struct SameSettings(Arc<ClusterSettings>);

impl PartialEq for SameSettings {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SameSettings {}

impl Hash for SameSettings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// A cached answer and its time to live.
#[derive(Clone, Debug)]
struct CacheEntry {
    answer: Result<Arc<RoleCredentials>, StsError>,
    life: Duration,
}

struct EntryExpiry;

impl Expiry<CacheKey, CacheEntry> for EntryExpiry {
    fn expire_after_create(&self, _: &CacheKey, entry: &CacheEntry, _: Instant) -> Option<Duration> {
        Some(entry.life)
    }

    fn expire_after_update(
        &self,
        _: &CacheKey,
        entry: &CacheEntry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}

impl Federation {
    /// An empty cache. Calls run on the runtime `control`.
    pub fn new(clock: Clock, control: Handle) -> Self {
        Self {
            cache: Cache::builder().max_capacity(MAX_BYTES).weigher(weight).expire_after(EntryExpiry).build(),
            hits: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            control,
            clock,
        }
    }

    /// Number of logins answered from the cache.
    pub fn cache_hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Size of the credential cache.
    pub fn memory(&self) -> CacheStatus {
        CacheStatus {
            entries: self.cache.entry_count(),
            bytes: self.cache.weighted_size(),
            forgotten: self.forgotten.load(Ordering::Relaxed),
        }
    }

    /// Records that a server has refused these credentials. The next login gets new ones if that may help.
    pub fn refused(&self, credentials: &RoleCredentials) {
        if credentials.were_refused() {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Credentials from `sts` with which the granted user can log in; if the cluster pins by session policy,
    /// only that user. Consumes the token. Transient STS failures are not cached.
    pub async fn federate(
        &self,
        sts: &Arc<StsEndpoint>,
        jwt: Jwt,
        grant: &Grant,
    ) -> Result<Arc<RoleCredentials>, StsError> {
        let cluster = grant.cluster();
        let key = CacheKey {
            token: jwt.digest(),
            issuer: grant.issuer().clone(),
            cluster: SameSettings(Arc::clone(cluster)),
            role: grant.role().clone(),
            user: grant.db_user().clone(),
        };
        let (token_expires_at, clock) = (grant.expires_at(), self.clock.clone());
        if let Some(entry) = self.cache.get(&key).await
            && entry.is_good(token_expires_at, clock.now())
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return entry.answer;
        }
        let assume = AssumeRoleRequest {
            jwt,
            issuer: grant.issuer().clone(),
            subject: grant.subject().clone(),
            role: grant.role().clone(),
            session_name: role_session_name(grant.issuer(), grant.subject()),
            policy: cluster.pin.by_policy().then(|| session_policy(cluster, grant.role(), grant.db_user())),
            duration: cluster.sts_duration,
        };
        let call = call_and_cache(Arc::clone(sts), assume, token_expires_at, clock.clone());
        let cache = self.cache.clone();
        // The call runs on the control-plane runtime, so that a disconnecting client does not abort it.
        // Concurrent logins share one call, also if a stale entry has to be replaced.
        let waiting = self.control.spawn(async move {
            let is_bad = |entry: &CacheEntry| !entry.is_good(token_expires_at, clock.now());
            cache.entry(key).or_insert_with_if(call, is_bad).await.into_value().answer
        });
        waiting.await.unwrap_or_else(|_| Err(StsError::Unavailable("the call was interrupted".into())))
    }
}

impl CacheEntry {
    /// True if the entry may be used. Wall time can jump, so credentials whose expiry has passed on the clock
    /// are rejected.
    fn is_good(&self, token_expires_at: SystemTime, now: SystemTime) -> bool {
        match &self.answer {
            Ok(credentials) => {
                !credentials.are_spent()
                    && !cache_ttl(credentials.expires_at(), token_expires_at, now).is_zero()
            }
            Err(_) => !self.life.is_zero(),
        }
    }
}

/// Size of an entry as a share of [`MAX_BYTES`].
fn weight(key: &CacheKey, entry: &CacheEntry) -> u32 {
    let texts = key.issuer.as_str().len() + key.role.as_str().len() * 2 + key.user.as_str().len();
    let answer = match &entry.answer {
        Ok(credentials) => credentials.bytes(),
        Err(error) => error.to_string().len(),
    };
    let bytes = u64::try_from(OVERHEAD + texts + answer).unwrap_or(u64::MAX);
    u32::try_from(bytes.max(LEAST_WEIGHT)).unwrap_or(u32::MAX)
}

/// Calls STS and determines how long the answer is cached. Transient STS failures are not cached.
async fn call_and_cache(
    sts: Arc<StsEndpoint>,
    assume: AssumeRoleRequest,
    token_expires_at: SystemTime,
    clock: Clock,
) -> CacheEntry {
    let answer = sts.assume(assume).await.map(Arc::new);
    let life = match &answer {
        Ok(credentials) => cache_ttl(credentials.expires_at(), token_expires_at, clock.now()),
        Err(StsError::Refused { .. } | StsError::Misconfigured { .. }) => REMEMBER_REFUSAL,
        Err(StsError::Unavailable(_) | StsError::BadResponse(_)) => Duration::ZERO,
    };
    CacheEntry { answer, life }
}

/// Time until the credentials enter their last minute or the token expires, whichever comes first.
fn cache_ttl(credentials_expire_at: SystemTime, token_expires_at: SystemTime, now: SystemTime) -> Duration {
    let end = token_expires_at.min(credentials_expire_at.checked_sub(MARGIN).unwrap_or(now));
    end.duration_since(now).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod memory_tests;
