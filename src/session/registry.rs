//! Registry of live sessions by person. `[denied]` entries refuse logins and end the sessions they match.
//!
//! There is one registry per process, so a login that began before a reload is checked against the new
//! entries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::config::DeniedSettings;

/// Identity in a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The operator's name for the issuer.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `jti`, if present.
    pub token_id: Option<String>,
}

/// Access of the person or of the token was withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access of this subject or token is withdrawn ([denied])")]
pub struct AccessWithdrawn;

/// The live sessions with their persons; at most the number of sessions.
#[derive(Debug, Default)]
pub struct SessionRegistry(Mutex<RegistryState>);

#[derive(Debug, Default)]
struct RegistryState {
    denied: Vec<DeniedSettings>,
    present: HashMap<u64, (Person, CancellationToken)>,
    next: u64,
}

/// Registration of a session, removed on drop.
#[derive(Debug)]
pub struct SessionRegistration {
    roll: Arc<SessionRegistry>,
    number: u64,
}

impl SessionRegistry {
    /// Replaces the denied entries and ends the sessions they match. Returns their number.
    pub fn deny(&self, denied: Vec<DeniedSettings>) -> usize {
        let mut inner = self.lock();
        inner.denied = denied;
        let ended = inner.present.values().filter(|(person, _)| inner.denies(person));
        ended.map(|(_, out)| out.cancel()).count()
    }

    /// Checks that the person is not denied.
    pub fn admits(&self, person: &Person) -> Result<(), AccessWithdrawn> {
        if self.lock().denies(person) { Err(AccessWithdrawn) } else { Ok(()) }
    }

    /// Registers a session. `out` is cancelled to end it: immediately, if access was withdrawn during the
    /// login.
    pub fn register(self: &Arc<Self>, person: Person, out: CancellationToken) -> SessionRegistration {
        let mut inner = self.lock();
        if inner.denies(&person) {
            out.cancel();
        }
        let number = inner.next;
        inner.next += 1;
        inner.present.insert(number, (person, out));
        SessionRegistration { roll: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        // No code panics while it holds the lock, and every update of the registry is complete.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.roll.lock().present.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(issuer: &str, subject: &str, token_id: Option<&str>) -> Person {
        let token_id = token_id.map(str::to_owned);
        Person { issuer: issuer.to_owned(), subject: subject.to_owned(), token_id }
    }

    fn denied(issuer: Option<&str>, subjects: &[&str], token_ids: &[&str]) -> DeniedSettings {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        DeniedSettings {
            issuer: issuer.map(str::to_owned),
            subjects: owned(subjects),
            token_ids: owned(token_ids),
        }
    }

    #[test]
    fn j14_people_are_denied_by_subject_or_token_at_one_issuer_or_all() {
        let registry = SessionRegistry::default();
        let alice = person("okta", "alice", Some("t1"));
        assert_eq!(registry.admits(&alice), Ok(()));
        for (list, is_denied) in [
            (denied(None, &["alice"], &[]), true),
            (denied(Some("okta"), &["bob", "alice"], &[]), true),
            (denied(Some("entra"), &["alice"], &["t1"]), false),
            (denied(None, &["t1", "Alice", "alic", ""], &["alice", "t2", ""]), false),
            (denied(None, &[], &["t1"]), true),
            (denied(None, &[], &[]), false),
        ] {
            registry.deny(vec![denied(Some("other"), &["alice"], &[]), list.clone()]);
            assert_eq!(registry.admits(&alice).is_err(), is_denied, "{list:?}");
        }
        registry.deny(vec![denied(None, &[], &["", "t1"])]);
        assert_eq!(registry.admits(&person("okta", "alice", None)), Ok(()), "a token without an id");
    }

    #[test]
    fn j14_those_who_are_there_are_told_and_those_who_come_late_too() {
        let registry = Arc::new(SessionRegistry::default());
        let enter = |subject: &str| {
            let out = CancellationToken::new();
            (registry.register(person("okta", subject, None), out.clone()), out)
        };
        let ((_alice, alice_out), (_bob, bob_out), (gone, gone_out)) =
            (enter("alice"), enter("bob"), enter("alice"));
        drop(gone);
        assert_eq!(registry.deny(vec![denied(None, &["alice"], &[])]), 1);
        assert!(alice_out.is_cancelled() && !bob_out.is_cancelled() && !gone_out.is_cancelled());
        assert!(enter("alice").1.is_cancelled() && !enter("bob").1.is_cancelled());
        assert_eq!(registry.lock().present.len(), 2, "who has left is remembered");
        registry.deny(Vec::new());
        assert!(!enter("alice").1.is_cancelled());
    }
}
