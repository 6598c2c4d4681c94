//! Connection ids of clients: the proxy's greeting says the id before the server is known, and a later `KILL` of the id
//! means the server's connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::names::random_bytes;
use crate::protocol::AlreadyUsed;
use crate::sync::lock;

/// The ids: positive for clients that read 32 bits with a sign, and above those that a server reaches.
pub(super) const FIRST: u32 = 0x4000_0000;
const LAST: u32 = 0x7fff_ffff;

/// Tries for an id that no connection has. The ids are a billion, and connections are limited.
const TRIES: usize = 64;

/// A connection to a server, as the server counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConnection {
    /// Address of the server.
    pub server: SocketAddr,
    /// Number in the server's greeting.
    pub number: u32,
}

/// The connection that a `KILL` of an id means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillTarget {
    /// A connection of the `KILL`'s own server, by its number there.
    Here(u32),
    /// A connection of another server.
    Elsewhere(ServerConnection),
    /// A client of no connection of this process: of another replica, or gone.
    Unknown(u32),
}

/// State of an id.
#[derive(Clone, Copy, Debug)]
struct Entitled {
    connection: Option<ServerConnection>,
    /// True if a `KILL` of the connection has been passed on.
    killed: bool,
}

/// Ids of all clients of the process. Each is removed with its [`ConnectionId`].
#[derive(Debug, Default)]
pub struct ConnectionIds(Mutex<HashMap<u32, Entitled>>);

/// The id of one client.
#[derive(Debug)]
pub struct ConnectionId {
    ids: Arc<ConnectionIds>,
    number: u32,
}

impl ConnectionIds {
    /// A random id that no other client has.
    pub fn assign(self: &Arc<Self>) -> ConnectionId {
        let mut live = self.lock();
        let mut number = FIRST;
        for _ in 0..TRIES {
            number = FIRST | (u32::from_ne_bytes(random_bytes()) & (LAST - FIRST));
            if let Entry::Vacant(free) = live.entry(number) {
                free.insert(Entitled { connection: None, killed: false });
                break;
            }
        }
        drop(live);
        ConnectionId { ids: Arc::clone(self), number }
    }

    /// The connection of the client with this id, for a `KILL` at `server`. `None` for a number that is no id of the
    /// proxy's, and for a client that is not logged in. From here on a `KILL` may reach the connection.
    pub(super) fn kill(&self, number: u64, server: SocketAddr) -> Option<KillTarget> {
        let number = u32::try_from(number).ok().filter(|number| (FIRST..=LAST).contains(number))?;
        let mut live = self.lock();
        let Some(entitled) = live.get_mut(&number) else { return Some(KillTarget::Unknown(number)) };
        let connection = entitled.connection?;
        entitled.killed = true;
        Some(if connection.server == server {
            KillTarget::Here(connection.number)
        } else {
            KillTarget::Elsewhere(connection)
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Entitled>> {
        lock(&self.0)
    }
}

impl ConnectionId {
    /// The number in the greeting.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Records the client's connection to its server.
    pub fn serve(&self, connection: ServerConnection) {
        if let Some(entitled) = self.ids.lock().get_mut(&self.number) {
            (entitled.connection, entitled.killed) = (Some(connection), false);
        }
    }

    /// Ends the client's claim to its server's connection. The error says that a `KILL` may still reach it.
    pub fn retire(&self) -> Result<(), AlreadyUsed> {
        match self.ids.lock().get_mut(&self.number) {
            Some(entitled) => {
                entitled.connection = None;
                if entitled.killed { Err(AlreadyUsed) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }
}

impl Drop for ConnectionId {
    fn drop(&mut self) {
        self.ids.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_server_as_long_as_its_client_lives() {
        let ids = Arc::new(ConnectionIds::default());
        let (here, there) = ("10.0.0.1:3306".parse().unwrap(), "10.0.0.2:3306".parse().unwrap());
        let (alice, bob) = (ids.assign(), ids.assign());
        assert_ne!(alice.number(), bob.number());
        assert_eq!(ids.kill(alice.number().into(), here), None, "not logged in yet");
        alice.serve(ServerConnection { server: here, number: 7 });
        let of_bob = ServerConnection { server: there, number: 8 };
        bob.serve(of_bob);
        assert_eq!(ids.kill(alice.number().into(), here), Some(KillTarget::Here(7)));
        assert_eq!(ids.kill(u64::from(alice.number()) | 1 << 32, here), None);
        assert_eq!(ids.kill(7, here), None, "a number of the server's");
        assert_eq!((alice.retire(), bob.retire()), (Err(AlreadyUsed), Ok(())));
        assert_eq!(ids.kill(alice.number().into(), here), None);
        bob.serve(of_bob);
        assert_eq!(ids.kill(bob.number().into(), here), Some(KillTarget::Elsewhere(of_bob)));
        assert_eq!(bob.retire(), Err(AlreadyUsed));
        let number = bob.number();
        drop((alice, bob));
        assert!(ids.lock().is_empty());
        assert_eq!(ids.kill(number.into(), there), Some(KillTarget::Unknown(number)), "of another replica");
    }

    #[test]
    fn ids_are_positive_and_above_those_of_servers() {
        let ids = Arc::new(ConnectionIds::default());
        let many: Vec<_> = (0..10_000).map(|_| ids.assign()).collect();
        assert!(
            many.iter().all(|id| (FIRST..=LAST).contains(&id.number()) && i32::try_from(id.number()).is_ok())
        );
        assert_eq!(ids.lock().len(), many.len(), "no two are equal");
    }
}
