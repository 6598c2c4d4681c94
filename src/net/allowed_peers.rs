//! Users and groups of this machine that may use a Unix socket.

use nix::unistd::{Group, User};

use crate::config::{NamedPrincipal, PeerSettings, PrincipalKind};
use crate::names::client_addr::PeerProcess;

/// The users and groups, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPeers {
    users: Vec<u32>,
    groups: Vec<u32>,
}

/// A user or group that this machine does not have.
#[derive(Debug, thiserror::Error)]
#[error("this machine has no {kind} {name:?}; write its number, or a name that `getent {database}` knows")]
pub struct UnknownPeer {
    kind: &'static str,
    database: &'static str,
    name: String,
}

impl AllowedPeers {
    /// Looks the names up.
    pub fn resolve(settings: &PeerSettings) -> Result<Self, UnknownPeer> {
        let user = |name: &String| id(PrincipalKind::User, name);
        let group = |name: &String| id(PrincipalKind::Group, name);
        Ok(Self {
            users: settings.users.iter().map(user).collect::<Result<_, _>>()?,
            groups: settings.groups.iter().map(group).collect::<Result<_, _>>()?,
        })
    }

    /// True if the peer's user or group is listed.
    pub fn admits(&self, peer: &PeerProcess) -> bool {
        self.users.contains(&peer.uid) || self.groups.contains(&peer.gid)
    }
}

/// Number of a group, which `name` may already be.
pub fn group_id(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| Some(Group::from_name(name).ok()??.gid.as_raw()))
}

fn user_id(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| Some(User::from_name(name).ok()??.uid.as_raw()))
}

/// Looks up a user or group that the configuration names.
pub fn look_up(principal: &NamedPrincipal) -> Result<(), UnknownPeer> {
    id(principal.kind, &principal.name).map(drop)
}

fn id(of: PrincipalKind, name: &str) -> Result<u32, UnknownPeer> {
    let (id, kind, database) = match of {
        PrincipalKind::User => (user_id(name), "user", "passwd"),
        PrincipalKind::Group => (group_id(name), "group", "group"),
    };
    id.ok_or_else(|| UnknownPeer { kind, database, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(users: &[&str], groups: &[&str]) -> Result<AllowedPeers, UnknownPeer> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        AllowedPeers::resolve(&PeerSettings { users: own(users), groups: own(groups) })
    }

    #[test]
    fn a_user_or_a_group_is_enough() {
        let process = |uid, gid| PeerProcess { uid, gid, pid: None };
        let allowed = peers(&["root", "4711"], &["4712"]).unwrap();
        for (uid, gid, admitted) in
            [(0, 9, true), (4711, 9, true), (9, 4712, true), (9, 0, false), (4712, 4711, false)]
        {
            assert_eq!(allowed.admits(&process(uid, gid)), admitted, "{uid} {gid}");
        }
        assert!(!peers(&[], &[]).unwrap().admits(&process(0, 0)), "an empty list allows nobody");
        let error = peers(&["no-such-user"], &[]).unwrap_err().to_string();
        assert!(error.contains("no user \"no-such-user\"") && error.contains("getent passwd"), "{error}");
        let error = peers(&[], &["no-such-group"]).unwrap_err().to_string();
        assert!(error.contains("no group \"no-such-group\""), "{error}");
    }
}
