//! The registry of live sessions, one for the whole process: their facts, state and bytes, and a token that ends each.
//! Entries of `[denied]` refuse logins and end the sessions that they match; a login that began before a reload is judged
//! by the entries of the reload.
//!
//! A session holds a permit of `limits.max_client_conn`, so that there are never more entries than that. All texts of an
//! entry have limits: names of databases and users are at most 63 bytes long, a subject is part of a token.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use crate::config::{DatabaseProtocol, DeniedSettings};
use crate::names::SessionId;
use crate::names::client_addr::ClientAddr;
pub use crate::relay::SessionState;
use crate::relay::{SessionActivity, SessionWork};
use crate::sync::lock;

/// The person that a verified token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The operator's name for the issuer.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `jti`, where the token has one.
    pub token_id: Option<String>,
}

/// The person's access, or that of this very token, is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access of this subject or token is withdrawn ([denied])")]
pub struct AccessWithdrawn;

/// Everything about a session that does not change while it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The session's id, as in its audit record.
    pub id: SessionId,
    /// The person.
    pub person: Person,
    /// The cluster's name.
    pub cluster: String,
    /// The database, as the server knows it.
    pub database: String,
    /// The database user.
    pub db_user: String,
    /// The client's address; behind a balancer, the one that its header names.
    pub client: ClientAddr,
    /// The listener's name.
    pub listener: String,
    /// The listener's protocol.
    pub protocol: DatabaseProtocol,
    /// Address of the server, and the process id that it gave the session, if known.
    pub server: Option<(SocketAddr, i64)>,
    /// TLS version of the client's connection, if it is encrypted.
    pub tls: Option<&'static str>,
    /// Name of the client's program, as the client tells it.
    pub application: Option<String>,
    /// The end of the login.
    pub since: SystemTime,
}

/// Sessions of a cluster since the start of the process, ended and live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterTotals {
    /// Number of sessions.
    pub sessions: u64,
    /// Bytes, queries, and transactions.
    pub work: SessionWork,
}

impl ClusterTotals {
    fn add(&mut self, work: SessionWork) {
        self.sessions += 1;
        self.work.to_server += work.to_server;
        self.work.to_client += work.to_client;
        self.work.counts.queries += work.counts.queries;
        self.work.counts.transactions += work.counts.transactions;
    }
}

/// A session at one moment.
#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    /// The facts.
    pub facts: Arc<SessionFacts>,
    /// The transaction's state.
    pub state: SessionState,
    /// Bytes, queries, and transactions.
    pub work: SessionWork,
}

impl SessionSnapshot {
    /// The state in the words of `pg_stat_activity`.
    pub fn state_word(&self) -> &'static str {
        match self.state {
            SessionState::Idle => "idle",
            SessionState::InTransaction => "idle in transaction",
            SessionState::InFailedTransaction => "idle in transaction (aborted)",
            SessionState::Busy => "active",
        }
    }
}

/// The live sessions.
#[derive(Debug, Default)]
pub struct SessionRegistry(Mutex<RegistryState>);

#[derive(Debug, Default)]
struct RegistryState {
    denied: Vec<DeniedSettings>,
    /// Totals of ended sessions by cluster, of which a configuration has few.
    totals: BTreeMap<String, ClusterTotals>,
    sessions: HashMap<SessionId, SessionEntry>,
}

#[derive(Debug)]
struct SessionEntry {
    facts: Arc<SessionFacts>,
    activity: Arc<SessionActivity>,
    end: CancellationToken,
}

impl SessionEntry {
    /// Ends the session by the word of an operator.
    fn kill(&self) {
        self.activity.kill();
        self.end.cancel();
    }

    fn snapshot(&self) -> SessionSnapshot {
        let (state, work) = (self.activity.state(), self.activity.work());
        SessionSnapshot { facts: Arc::clone(&self.facts), state, work }
    }
}

/// The entry of a session in the registry; dropping it removes the entry.
#[derive(Debug)]
pub struct SessionRegistration {
    registry: Arc<SessionRegistry>,
    id: SessionId,
    activity: Arc<SessionActivity>,
}

impl SessionRegistration {
    /// The live view, for the relay to write.
    pub fn activity(&self) -> Arc<SessionActivity> {
        Arc::clone(&self.activity)
    }
}

impl SessionRegistry {
    /// Replaces the entries of `[denied]` and ends the sessions that the new ones match. Returns the number of these.
    pub fn deny(&self, denied: Vec<DeniedSettings>) -> usize {
        let mut inner = self.lock();
        inner.denied = denied;
        let matched = inner.sessions.values().filter(|session| inner.denies(&session.facts.person));
        matched.map(|session| session.end.cancel()).count()
    }

    /// Fails if an entry of `[denied]` matches the person.
    pub fn admits(&self, person: &Person) -> Result<(), AccessWithdrawn> {
        if self.lock().denies(person) { Err(AccessWithdrawn) } else { Ok(()) }
    }

    /// Enters a session, which ends when `end` is cancelled: at once, if access was withdrawn during the login.
    pub fn register(self: &Arc<Self>, facts: SessionFacts, end: CancellationToken) -> SessionRegistration {
        let (id, activity) = (facts.id, Arc::<SessionActivity>::default());
        let mut inner = self.lock();
        if inner.denies(&facts.person) {
            end.cancel();
        }
        let entry = SessionEntry { facts: Arc::new(facts), activity: Arc::clone(&activity), end };
        inner.sessions.insert(id, entry);
        SessionRegistration { registry: Arc::clone(self), id, activity }
    }

    /// All sessions, the oldest first.
    pub fn list(&self) -> Vec<SessionSnapshot> {
        let mut sessions: Vec<_> = self.lock().sessions.values().map(SessionEntry::snapshot).collect();
        sessions.sort_unstable_by_key(|session| (session.facts.since, session.facts.id));
        sessions
    }

    /// The session with this id.
    pub fn find(&self, id: SessionId) -> Option<SessionSnapshot> {
        self.lock().sessions.get(&id).map(SessionEntry::snapshot)
    }

    /// Ends the session with this id. False if there is none.
    pub fn end(&self, id: SessionId) -> bool {
        let inner = self.lock();
        let session = inner.sessions.get(&id);
        session.map(SessionEntry::kill).is_some()
    }

    /// Totals of the sessions by cluster.
    pub fn totals(&self) -> BTreeMap<String, ClusterTotals> {
        let inner = self.lock();
        let mut totals = inner.totals.clone();
        for session in inner.sessions.values() {
            // Names are copied once for each cluster, because logins wait for the lock.
            let work = session.activity.work();
            match totals.get_mut(&session.facts.cluster) {
                Some(total) => total.add(work),
                None => totals.entry(session.facts.cluster.clone()).or_default().add(work),
            }
        }
        totals
    }

    /// Ends the sessions of a subject, at one issuer (by its configured name) or at all. Returns the number of these.
    pub fn end_subject(&self, issuer: Option<&str>, subject: &str) -> usize {
        let inner = self.lock();
        let of_subject = inner.sessions.values().filter(|session| {
            let person = &session.facts.person;
            person.subject == subject && issuer.is_none_or(|issuer| issuer == person.issuer)
        });
        of_subject.map(SessionEntry::kill).count()
    }

    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        lock(&self.0)
    }
}

impl RegistryState {
    fn denies(&self, person: &Person) -> bool {
        self.denied.iter().any(|denied| {
            denied.issuer.as_ref().is_none_or(|issuer| *issuer == person.issuer)
                && (denied.subjects.contains(&person.subject)
                    || person.token_id.as_ref().is_some_and(|id| denied.token_ids.contains(id)))
        })
    }
}

impl Drop for SessionRegistration {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        if let Some(session) = inner.sessions.remove(&self.id) {
            inner.totals.entry(session.facts.cluster.clone()).or_default().add(session.activity.work());
        }
    }
}

#[cfg(test)]
mod tests;
