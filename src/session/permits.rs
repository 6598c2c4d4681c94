//! Permits for everything that a client can hold several of: connections, logins in progress, sessions of one
//! person. A permit is a guard and is released on drop.
//!
//! Counters are kept across reloads; limits are passed with each acquisition.

mod eviction;
mod place;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

pub use self::eviction::{EvictedConnection, EvictionEntry, EvictionSet, EvictionSignal, EvictionStep};
pub use self::place::{AdmissionError, ClosedSilently, ConnectionAdmission, LoginPermit, RefusalPermit};
use crate::config::LimitSettings;
use crate::names::source::Source;
use crate::names::{DbUser, MAX_NAME_BYTES, printable};
use crate::sync::lock;

/// Most concurrent refusals of connections over a limit; further ones are closed silently.
pub const MAX_REFUSALS: usize = 64;

/// A counter of permits.
#[derive(Debug, Default)]
pub struct PermitCounter(AtomicUsize);

/// A permit of a [`PermitCounter`].
#[derive(Debug)]
pub struct CountedPermit(Arc<PermitCounter>);

impl PermitCounter {
    /// Number of permits in use.
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Acquires a permit unless `max` are in use.
    pub fn take(self: &Arc<Self>, max: usize) -> Option<CountedPermit> {
        let one_more = |taken: usize| (taken < max).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(CountedPermit(Arc::clone(self)))
    }
}

impl Drop for CountedPermit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A counter per `K`. A key is removed with its last permit, so the map is never larger than the number of
/// permits.
#[derive(Debug)]
pub struct KeyedCounter<K> {
    taken: Mutex<HashMap<K, usize>>,
}

/// A place of one key.
#[derive(Debug)]
pub struct KeyedPermit<K: Eq + Hash> {
    of: Arc<KeyedCounter<K>>,
    key: K,
}

impl<K> Default for KeyedCounter<K> {
    fn default() -> Self {
        Self { taken: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> KeyedCounter<K> {
    /// Acquires a permit of `key` unless `max` are in use.
    pub fn take(self: &Arc<Self>, key: &K, max: Option<usize>) -> Option<KeyedPermit<K>> {
        let mut taken = self.lock();
        let before = taken.get(key).copied().unwrap_or(0);
        if max.is_some_and(|max| before >= max) {
            return None;
        }
        taken.insert(key.clone(), before + 1);
        drop(taken);
        Some(KeyedPermit { of: Arc::clone(self), key: key.clone() })
    }
}

impl<K> KeyedCounter<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        lock(&self.taken)
    }
}

impl<K: Eq + Hash> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        let Some(count) = taken.get_mut(&self.key) else { return };
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.key);
        }
    }
}

/// A limit is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is reached for {scope} ({max})", .scope.key())]
pub struct LimitReached {
    /// Scope of the limit.
    pub scope: LimitScope,
    /// The limit.
    pub max: usize,
}

/// Scope of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// All clients.
    Clients,
    /// All clients without a verified token.
    Logins,
    /// Clients without a verified token from one address.
    Address,
    /// A person, named by the database user of the refused login.
    User(DbUser),
    /// A cluster, by its name.
    Cluster(String),
    /// A group of a cluster, by its name.
    Group(String),
    /// The console.
    Console,
}

impl LimitScope {
    /// Configuration key of the limit.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Clients => "limits.max_client_conn",
            Self::Logins => "limits.max_logins",
            Self::Address => "limits.max_logins_per_address",
            Self::User(_) => "limits.max_user_client_connections",
            Self::Cluster(_) => "cluster.max_client_conn",
            Self::Group(_) => "cluster.group.max_client_conn",
            Self::Console => "the fixed limit",
        }
    }
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients | Self::Logins => f.write_str("the proxy"),
            Self::Address => f.write_str("your address"),
            Self::User(user) => write!(f, "user \"{}\"", printable(user.as_str(), MAX_NAME_BYTES)),
            Self::Cluster(name) => write!(f, "cluster \"{name}\""),
            Self::Group(name) => write!(f, "group \"{name}\""),
            Self::Console => f.write_str("the console"),
        }
    }
}

/// Limits after verification.
#[derive(Clone, Debug, Default)]
pub struct SessionQuotas {
    /// Most sessions of one person in all clusters; `None` for unlimited.
    pub per_user: Option<usize>,
    /// Most sessions of one cluster; `None` for unlimited.
    pub per_cluster: Option<usize>,
    /// Name and most sessions of the group; `None` for unlimited.
    pub group: Option<(String, usize)>,
}

/// All counters of the process.
#[derive(Debug, Default)]
pub struct PermitCounters {
    clients: Arc<PermitCounter>,
    logins: Arc<EvictionSet<CountedPermit>>,
    refusals: Arc<EvictionSet<()>>,
    sessions: Arc<PermitCounter>,
    sources: Arc<KeyedCounter<Source>>,
    people: Arc<KeyedCounter<(String, String)>>,
    /// Clusters with a configuration or a session, so that a cluster that is removed and added again keeps
    /// its count.
    clusters: Mutex<Vec<Weak<ClusterPermits>>>,
}

/// Sessions of one cluster, counted in total and by group.
#[derive(Debug)]
pub struct ClusterPermits {
    name: String,
    sessions: Arc<PermitCounter>,
    groups: Arc<KeyedCounter<String>>,
}

/// Permits of a session in addition to its [`LoginPermit`].
#[derive(Debug)]
pub struct SessionPermit {
    _person: KeyedPermit<(String, String)>,
    _session: CountedPermit,
    _group: Option<KeyedPermit<String>>,
    _cluster: Arc<ClusterPermits>,
}

impl PermitCounters {
    /// Admits a connection from `source`, or its refusal, of which there are [`MAX_REFUSALS`]. Also returns
    /// the connection that was evicted for it. Nothing that a client claims is used, so a false claim takes
    /// nothing from its subject.
    pub fn admit(
        &self,
        limits: &LimitSettings,
        source: Source,
    ) -> (Option<ConnectionAdmission>, Option<EvictedConnection>) {
        match self.login_permit(limits, source) {
            Ok((login_permit, evicted)) => (Some(ConnectionAdmission::Login(login_permit)), evicted),
            Err(full) => (self.refuse(full.into(), source), None),
        }
    }

    /// Admits the refusal of a connection from `source`, if possible.
    pub fn refuse(&self, why: AdmissionError, source: Source) -> Option<ConnectionAdmission> {
        self.stand(why, source, EvictionStep::Proxy, EvictionSignal::default())
    }

    /// Checks `admission` again once the client's `source` is known, from which at most `max` may be logging in.
    pub fn attach_source(
        &self,
        admission: &mut ConnectionAdmission,
        source: Source,
        max: Option<usize>,
    ) -> Result<(), ClosedSilently> {
        admission.relocate(source);
        let ConnectionAdmission::Login(login_permit) = admission else { return Ok(()) };
        match self.sources.take(&source, max) {
            Some(permit) => login_permit.source = Some(permit),
            None => {
                let why = LimitReached { scope: LimitScope::Address, max: max.unwrap_or_default() }.into();
                *admission = self
                    .stand(why, source, EvictionStep::Client, login_permit.evicted.clone())
                    .ok_or(ClosedSilently)?;
            }
        }
        Ok(())
    }

    fn login_permit(
        &self,
        limits: &LimitSettings,
        source: Source,
    ) -> Result<(LoginPermit, Option<EvictedConnection>), LimitReached> {
        let (max, evicted) = (limits.max_logins, EvictionSignal::default());
        let (login, who) = match self.clients.take(limits.max_client_conn) {
            Some(client) => {
                let entered = self.logins.enter(source, max, client, EvictionStep::Proxy, &evicted);
                entered.map_err(|_| LimitReached { scope: LimitScope::Logins, max })?
            }
            None => {
                // If the limit was lowered, no connection is replaced while it is exceeded.
                let replaced = (self.clients.now() <= limits.max_client_conn)
                    .then(|| self.logins.replace(source, max, EvictionStep::Proxy, &evicted))
                    .flatten();
                let (login, who) = replaced
                    .ok_or(LimitReached { scope: LimitScope::Clients, max: limits.max_client_conn })?;
                (login, Some(who))
            }
        };
        Ok((LoginPermit { login: Some(login), client: None, source: None, max_logins: max, evicted }, who))
    }

    fn stand(
        &self,
        why: AdmissionError,
        source: Source,
        turn: EvictionStep,
        evicted: EvictionSignal,
    ) -> Option<ConnectionAdmission> {
        let (refusal, _) = self.refusals.enter(source, MAX_REFUSALS, (), turn, &evicted).ok()?;
        Some(ConnectionAdmission::Refusal(RefusalPermit { why, refusal, evicted }))
    }

    /// Counters of the cluster with this name, the same while a configuration or a session uses them.
    pub fn cluster(&self, name: &str) -> Arc<ClusterPermits> {
        let mut clusters = lock(&self.clusters);
        clusters.retain(|known| known.strong_count() > 0);
        let known = clusters.iter().filter_map(Weak::upgrade).find(|known| known.name == name);
        known.unwrap_or_else(|| {
            let (sessions, groups) = (Arc::default(), Arc::default());
            let cluster = Arc::new(ClusterPermits { name: name.to_owned(), sessions, groups });
            clusters.push(Arc::downgrade(&cluster));
            cluster
        })
    }

    /// Acquires the permits of a verified login: for its person (issuer and subject), its group and its
    /// cluster.
    pub fn session(
        &self,
        cluster: &Arc<ClusterPermits>,
        (issuer, subject): (&str, &str),
        user: &DbUser,
        limits: &SessionQuotas,
    ) -> Result<SessionPermit, LimitReached> {
        let reached = |scope, max| LimitReached { scope, max };
        let most = limits.per_cluster.unwrap_or(usize::MAX);
        let in_cluster = cluster.sessions.take(most);
        let in_cluster =
            in_cluster.ok_or_else(|| reached(LimitScope::Cluster(cluster.name.clone()), most))?;
        let person = (issuer.to_owned(), subject.to_owned());
        let of_person = self
            .people
            .take(&person, limits.per_user)
            .ok_or_else(|| reached(LimitScope::User(user.clone()), limits.per_user.unwrap_or_default()))?;
        let of_group = match &limits.group {
            None => None,
            Some((group, max)) => {
                let permit = cluster.groups.take(group, Some(*max));
                Some(permit.ok_or_else(|| reached(LimitScope::Group(group.clone()), *max))?)
            }
        };
        Ok(SessionPermit {
            _person: of_person,
            _session: in_cluster,
            _group: of_group,
            _cluster: Arc::clone(cluster),
        })
    }

    /// Counts a session from its welcome; bounded by its login permit.
    pub fn welcomed(&self) -> Option<CountedPermit> {
        self.sessions.take(usize::MAX)
    }

    /// Connections with a login permit.
    pub fn clients(&self) -> usize {
        self.clients.now()
    }

    /// Welcomed sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.now()
    }
}

#[cfg(test)]
mod tests;
