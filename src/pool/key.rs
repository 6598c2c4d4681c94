//! Key of a pooled connection: the person and the login for which it was opened.

use std::fmt;

use super::idle_set::Owned;
use crate::identity::Grant;
use crate::names::{DbName, DbUser, Issuer, RoleArn, Subject};
use crate::protocol::LoginWishes;

/// The person that a connection may serve.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Person {
    issuer: Issuer,
    subject: Subject,
}

/// Everything that two logins must have in common to share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) cluster: String,
    pub(super) database: DbName,
    pub(super) user: DbUser,
    person: Person,
    role: RoleArn,
    /// The fixed wishes of the login.
    fixed: Vec<u8>,
    /// True if the session gets a name at each checkout.
    named: bool,
}

impl PoolKey {
    /// Key of a login with these wishes. The grant proves that the login is permitted.
    pub(super) fn of(grant: &Grant, wishes: &LoginWishes) -> Self {
        Self {
            cluster: grant.cluster().name.clone(),
            database: grant.database().clone(),
            user: grant.db_user().clone(),
            person: Person { issuer: grant.issuer().clone(), subject: grant.subject().clone() },
            role: grant.role().clone(),
            fixed: wishes.fixed.clone(),
            named: wishes.name.is_some(),
        }
    }
}

impl Owned for PoolKey {
    type Owner = Person;

    fn owner(&self) -> &Person {
        &self.person
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key of {:?} in {}", self.user, self.cluster)
    }
}
