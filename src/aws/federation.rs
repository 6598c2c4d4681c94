//! Role credentials for granted people: one STS call however many of their connections ask at once, and none
//! while the last answer is still good. A cached answer never crosses tokens, users or issuers.

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

/// Most entries; the least used goes first.
const MAX_ENTRIES: u64 = 10_000;

/// Most bytes of all entries together. With session tokens of usual length [`MAX_ENTRIES`] is reached first.
const MAX_BYTES: u64 = 64_000_000;

/// An entry costs at least this much of [`MAX_BYTES`], so that there are never more than [`MAX_ENTRIES`].
const LEAST_WEIGHT: u64 = MAX_BYTES / MAX_ENTRIES;

/// Bytes of an entry besides the texts in it: the map's own and the allocator's. Measured (5.3 KB for an entry whose texts have
/// 3.5 KB), rounded up.
const OVERHEAD: usize = 2_048;

/// Credentials are not used in their last minute: the server compares with a clock of its own.
const MARGIN: Duration = Duration::from_mins(1);

/// How long a refusal answers for STS: a pool whose token has expired asks again and again.
const REMEMBER_REFUSAL: Duration = Duration::from_secs(5);

/// The cache of role credentials in front of STS. It outlives a configuration; what was cached for a cluster whose
/// settings change is not used again.
#[derive(Debug)]
pub struct Federation {
    cache: Cache<CacheKey, CacheEntry>,
    hits: AtomicU64,
    forgotten: AtomicU64,
    control: Handle,
    clock: Clock,
}

/// The cache of role credentials in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Entries, refusals included.
    pub entries: u64,
    /// Their share of the limit in bytes; an entry counts as 6,400 bytes or more.
    pub bytes: u64,
    /// Credentials that were forgotten because a server refused them.
    pub forgotten: u64,
}

/// By digest: a token does not belong into a map that lives longer than its login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CacheKey {
    token: TokenDigest,
    issuer: Issuer,
    cluster: SameSettings,
    role: RoleArn,
    user: DbUser,
}

/// The settings of a cluster, compared by their address: a reload that changes them makes others. The reference keeps
/// the address from being used again.
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

/// What is remembered, and for how long.
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
    /// An empty cache. Calls run on `control`.
    pub fn new(clock: Clock, control: Handle) -> Self {
        Self {
            cache: Cache::builder().max_capacity(MAX_BYTES).weigher(weight).expire_after(EntryExpiry).build(),
            hits: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            control,
            clock,
        }
    }

    /// How many logins were answered from the cache.
    pub fn cache_hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Entries of the cache, their bytes, and credentials that were forgotten because a server refused them.
    pub fn memory(&self) -> CacheStatus {
        CacheStatus {
            entries: self.cache.entry_count(),
            bytes: self.cache.weighted_size(),
            forgotten: self.forgotten.load(Ordering::Relaxed),
        }
    }

    /// Notes that a server has refused these credentials. The next login gets new ones, as far as that may help.
    pub fn refused(&self, credentials: &RoleCredentials) {
        if credentials.were_refused() {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Credentials, asked of `sts`, that let the granted user log in, and nobody else where the cluster pins by policy.
    /// The token is spent. Faults of STS are not cached.
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
        let call = remembered(Arc::clone(sts), assume, token_expires_at, clock.clone());
        let cache = self.cache.clone();
        // On the control plane, so that a client that goes away takes neither the call nor its answer with it. One call
        // for all who ask at once, also when an entry that is no good any more has to be replaced.
        let waiting = self.control.spawn(async move {
            let is_bad = |entry: &CacheEntry| !entry.is_good(token_expires_at, clock.now());
            cache.entry(key).or_insert_with_if(call, is_bad).await.into_value().answer
        });
        waiting.await.unwrap_or_else(|_| Err(StsError::Unavailable("the call was cut off".into())))
    }
}

impl CacheEntry {
    /// True if the entry may answer for STS. Wall time can jump: an entry whose credentials have ended by the clock may not.
    fn is_good(&self, token_expires_at: SystemTime, now: SystemTime) -> bool {
        match &self.answer {
            Ok(credentials) => {
                !credentials.are_spent() && !life(credentials.expires_at(), token_expires_at, now).is_zero()
            }
            Err(_) => !self.life.is_zero(),
        }
    }
}

/// Bytes of an entry, as a share of [`MAX_BYTES`].
fn weight(key: &CacheKey, entry: &CacheEntry) -> u32 {
    let texts = key.issuer.as_str().len() + key.role.as_str().len() * 2 + key.user.as_str().len();
    let answer = match &entry.answer {
        Ok(credentials) => credentials.bytes(),
        Err(error) => error.to_string().len(),
    };
    let bytes = u64::try_from(OVERHEAD + texts + answer).unwrap_or(u64::MAX);
    u32::try_from(bytes.max(LEAST_WEIGHT)).unwrap_or(u32::MAX)
}

/// Makes the call and says how long its end is to be remembered: troubles of STS not at all.
async fn remembered(
    sts: Arc<StsEndpoint>,
    assume: AssumeRoleRequest,
    token_expires_at: SystemTime,
    clock: Clock,
) -> CacheEntry {
    let answer = sts.assume(assume).await.map(Arc::new);
    let life = match &answer {
        Ok(credentials) => life(credentials.expires_at(), token_expires_at, clock.now()),
        Err(StsError::Refused { .. } | StsError::Misconfigured { .. }) => REMEMBER_REFUSAL,
        Err(StsError::Unavailable(_) | StsError::BadResponse(_)) => Duration::ZERO,
    };
    CacheEntry { answer, life }
}

/// Until the credentials are in their last minute or the token expires, whichever is first.
fn life(credentials_expire_at: SystemTime, token_expires_at: SystemTime, now: SystemTime) -> Duration {
    let end = token_expires_at.min(credentials_expire_at.checked_sub(MARGIN).unwrap_or(now));
    end.duration_since(now).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod memory_tests;
