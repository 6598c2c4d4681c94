//! Refusal of a process at a Unix socket whose user and group are not allowed.

use crate::names::client_addr::{ClientAddr, PeerProcess};
use crate::net::allowed_peers::AllowedPeers;
use crate::protocol::ProtocolError;
use crate::refusal::Refusal;

/// The process may not use this socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("uid {} and gid {} are not in listen.peer_users and listen.peer_groups", .0.uid, .0.gid)]
pub struct PeerNotAllowed(pub PeerProcess);

impl PeerNotAllowed {
    /// Checks a client against the listener's list, if it has one.
    pub(super) fn check(client: ClientAddr, allowed: Option<&AllowedPeers>) -> Result<(), Self> {
        match (client, allowed) {
            (ClientAddr::Unix(peer), Some(allowed)) if !allowed.admits(&peer) => Err(Self(peer)),
            _ => Ok(()),
        }
    }
}

impl ProtocolError for PeerNotAllowed {
    fn refusal(&self) -> Refusal {
        Refusal::peer_not_allowed(self.0.uid)
    }
}
