//! Key of a pooled connection: the person and the login for which it was opened.

use std::fmt;

use super::idle_set::Owned;
use crate::identity::Grant;
use crate::names::{DbName, DbUser, Issuer, RoleArn, Subject};
use crate::postgres::server_login::{LoginParameters, packet_of};
use crate::postgres::startup::StartupParams;

/// Longest name that PostgreSQL accepts without truncation (`NAMEDATALEN` - 1).
const MAX_APPLICATION_NAME: usize = 63;

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
    /// The startup packet: protocol version and all parameters in order, including forced settings. Excludes
    /// `application_name` if it is set at each checkout.
    packet: Vec<u8>,
    /// True if `application_name` is set at each checkout.
    named: bool,
}

impl PoolKey {
    /// Key of a login, and the `application_name` to set at checkout. The grant proves that the login is
    /// permitted.
    pub(super) fn of(grant: &Grant, startup: &StartupParams) -> (Self, Option<String>) {
        let name = application_name(startup);
        let packet = packet_of(LoginParameters::of(grant, startup), startup.protocol(), |parameter| {
            name.is_none() || parameter != b"application_name"
        });
        let key = Self {
            cluster: grant.cluster().name.clone(),
            database: grant.database().clone(),
            user: grant.db_user().clone(),
            person: Person { issuer: grant.issuer().clone(), subject: grant.subject().clone() },
            role: grant.role().clone(),
            packet: packet.to_vec(),
            named: name.is_some(),
        };
        (key, name)
    }
}

impl Owned for PoolKey {
    type Owner = Person;

    fn owner(&self) -> &Person {
        &self.person
    }
}

/// The client's `application_name` if the server accepts it unchanged: printable ASCII, short enough, and
/// given once. The server changes any other at login, by rules that differ between releases.
fn application_name(startup: &StartupParams) -> Option<String> {
    let is_name = |name: &[u8]| name.eq_ignore_ascii_case(b"application_name");
    let mut given = startup.others().iter().filter(|(name, _)| is_name(name));
    let (name, value) = given.next()?;
    let plain = value.len() <= MAX_APPLICATION_NAME && value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let shared = plain && name == b"application_name" && given.next().is_none();
    shared.then(|| String::from_utf8_lossy(value).into_owned())
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key of {:?} in {}", self.user, self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u4_only_a_name_that_the_server_takes_as_it_is_is_shared() {
        let of = |pairs: &[(&str, &[u8])]| {
            let mut packet = vec![0, 3, 0, 0];
            for (name, value) in [&[("user", &b"alice"[..])], pairs].concat() {
                packet.extend([name.as_bytes(), b"\0", value, b"\0"].concat());
            }
            packet.push(0);
            application_name(&StartupParams::parse(&packet).unwrap())
        };
        let (longest, longer) = ("x".repeat(63), "x".repeat(64));
        for shared in ["", "psql", "it's a \"name\" \\ ~", &longest] {
            assert_eq!(of(&[("application_name", shared.as_bytes())]).as_deref(), Some(shared));
        }
        for whole in ["Büro".as_bytes(), b"tab\t", b"\x7f", b"\xff", longer.as_bytes()] {
            assert_eq!(of(&[("application_name", whole)]), None, "{whole:?}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("Application_Name", b"a")]), None);
        assert_eq!(of(&[("application_name", b"a"), ("APPLICATION_NAME", b"b")]), None);
    }
}
