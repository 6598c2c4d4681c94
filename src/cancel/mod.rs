//! The cancel keys that clients hold, and what becomes of a cancel request. Keys are sealed, not registered:
//! whatever replica a cancel arrives at, the key itself says what it is for. `docs/cancel.md` has the reasons.

mod live;
mod seal;
mod secret;
mod short;
mod sources;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::live::{Live, Place};
use self::seal::Sealer;
pub use self::secret::{CancelSecret, CancelSecretError};
use self::short::ShortSecrets;
use self::sources::{ASKING, Budgets, Sources, UNKNOWN, WRONG};
use crate::names::{Endpoint, random_bytes};
use crate::wire::cancel_key::CancelKey;
use crate::wire::protocol::Protocol;

/// Cancels under way at the same time whose key is proven; each one is a connection to a server.
const MAX_PROVEN: usize = 64;

/// Cancels under way at the same time whose key is not; each one is a connection to every server of the
/// cluster that a stranger asked for.
const MAX_UNPROVEN: usize = 8;

/// Where and with which key a session's queries are cancelled.
#[derive(Debug)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterId,
    /// The server's address: a name could lead to another instance by now.
    pub addr: SocketAddr,
    /// The server's own key.
    pub key: CancelKey,
}

impl Target {
    /// Another one like it.
    fn copy(&self) -> Self {
        let key = CancelKey::new(self.key.pid, self.key.secret.to_vec());
        Self { cluster: self.cluster, addr: self.addr, key }
    }
}

/// How far a key carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any replica with the same secret can carry out its cancels, as long as the server's process lives.
    AnyReplica,
    /// It is for one session, and only this process knows it: the server's process may serve another session
    /// later, which the key must not reach.
    ThisSession,
}

/// Length of the secret of a 3.2 key for one session: as long as PostgreSQL 18 makes its own
/// (`MAX_CANCEL_KEY_LENGTH`, src/include/libpq/pqcomm.h), and not to be guessed.
const SESSION_SECRET: usize = 32;

/// A cluster as keys name it: by its endpoint, the same for every replica and after every reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId([u8; 8]);

impl ClusterId {
    /// The one at this endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        let digest = digest(&SHA256, endpoint.to_string().as_bytes());
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default()) // it has 32 bytes
    }
}

/// Makes the keys of clients and judges those that come back.
pub struct CancelKeys {
    sealer: Sealer,
    short: Arc<ShortSecrets>,
    /// Whether another replica could have made a key that this process does not know.
    shared: bool,
    live: Arc<Live>,
    sources: Mutex<Sources>,
    proven: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
}

/// What a client is given.
#[derive(Debug)]
pub struct Issued {
    /// Its key.
    pub key: CancelKey,
    /// To be held as long as the session lives.
    place: Option<Place>,
}

impl Issued {
    /// Ends the life of a key of [`Reach::ThisSession`]: from here on it cancels nothing. Gives the target back if
    /// the key was never used.
    pub fn retire(self) -> Result<Target, Used> {
        self.place.and_then(Place::retire).ok_or(Used)
    }
}

/// A cancel has been carried out for the session, and may arrive at its server at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used;

/// A cancel that is to be carried out.
pub struct Order {
    to: Recipient,
    _slot: OwnedSemaphorePermit,
}

/// Who is to be told what.
enum Recipient {
    /// The server of the session.
    Server(Target),
    /// Every server that the session can be at: the key, which is this one, does not say. Those that do not know
    /// the secret that comes out of it ignore it.
    Everyone(Arc<ShortSecrets>, i32, [u8; 4]),
}

impl Order {
    /// The one server it is for, if that is known.
    pub fn server(&self) -> Option<(ClusterId, SocketAddr)> {
        match &self.to {
            Recipient::Server(target) => Some((target.cluster, target.addr)),
            Recipient::Everyone(..) => None,
        }
    }

    /// The key for servers of `cluster`.
    pub fn key_for(&self, cluster: ClusterId) -> CancelKey {
        match &self.to {
            Recipient::Server(target) => CancelKey::new(target.key.pid, target.key.secret.to_vec()),
            Recipient::Everyone(short, pid, key) => CancelKey::new(*pid, short.uncover(cluster, *pid, *key)),
        }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order for {:?}", self.server())
    }
}

/// Why a cancel goes nowhere. The sender is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Made by nobody who has the secret, or for a session that has ended.
    #[error("forged, or of a session that has ended, or of a replica with another cancel.secret_file")]
    Forged,
    /// Of a replica that serves another cluster, or of one whose name does not resolve.
    #[error("nobody to tell, the cluster is not served here, or has no address now")]
    Nobody,
    /// The source asks too often, or was wrong too often.
    #[error("rate limited, too many cancels from this source")]
    TooOften,
    /// Too many are under way.
    #[error("too many cancels at the same time")]
    TooMany,
}

impl CancelKeys {
    /// Keys under this secret. Fails when the cryptographic library does.
    pub fn new(secret: &CancelSecret) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let (sealing, short) = secret.keys()?;
        Ok(Self {
            sealer: Sealer::new(sealing),
            short: Arc::new(ShortSecrets::new(short)),
            shared: secret.is_shared(),
            live: Arc::default(),
            sources: Mutex::default(),
            proven: Arc::new(Semaphore::new(MAX_PROVEN)),
            unproven: Arc::new(Semaphore::new(MAX_UNPROVEN)),
        })
    }

    /// The key for a client of `protocol` whose session `target` cancels. `None` when the server's secret does
    /// not fit into a key: better none than one that does nothing.
    pub fn issue(&self, target: Target, protocol: Protocol, reach: Reach) -> Option<Issued> {
        if reach == Reach::ThisSession {
            return Some(self.issue_for_session(target, protocol));
        }
        if protocol >= Protocol::V3_2 {
            let Some(key) = self.sealer.seal(&target) else {
                let bytes = target.key.secret.len();
                tracing::warn!(addr = %target.addr, bytes, "the server's cancel secret is too long to be sealed");
                return None;
            };
            return Some(Issued { key, place: None });
        }
        let secret = target.key.secret.as_slice().try_into().ok()?;
        let given = self.short.cover(target.cluster, target.key.pid, secret);
        Some(self.enter(target, &given))
    }

    /// Nothing of the server's secret is in it, so that it means nothing to other replicas and later.
    fn issue_for_session(&self, target: Target, protocol: Protocol) -> Issued {
        match protocol {
            Protocol::V3_0 => self.enter(target, &random_bytes::<4>()),
            Protocol::V3_2 => self.enter(target, &random_bytes::<SESSION_SECRET>()),
        }
    }

    fn enter(&self, target: Target, given: &[u8]) -> Issued {
        let pid = target.key.pid;
        let place = self.live.enter(CancelKey::new(pid, given), target);
        Issued { key: CancelKey::new(pid, given), place: Some(place) }
    }

    /// What to do with `key`, which came from `source`.
    pub fn judge(&self, key: &CancelKey, source: IpAddr, now: Instant) -> Result<Order, Ignored> {
        // No code panics while it holds the lock, and the budgets are whole at every moment.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let budgets = sources.of(source);
        if !budgets.asking.spend(ASKING, now) {
            return Err(Ignored::TooOften);
        }
        let to = match <[u8; 4]>::try_from(key.secret.as_slice()) {
            Ok(short) => self.judge_short(key, short, budgets, now)?,
            Err(_) => {
                let found = self.live.find(key).or_else(|| self.sealer.open(key));
                found.map(Recipient::Server).ok_or_else(|| wrong(budgets, now))?
            }
        };
        drop(sources);
        let slots = match to {
            Recipient::Server(_) => &self.proven,
            Recipient::Everyone(..) => &self.unproven,
        };
        let slot = Arc::clone(slots).try_acquire_owned().map_err(|_| Ignored::TooMany)?;
        Ok(Order { to, _slot: slot })
    }

    /// A short key is a guess of 32 bits: after a few wrong ones no more are looked at.
    fn judge_short(
        &self,
        key: &CancelKey,
        short: [u8; 4],
        budgets: &mut Budgets,
        now: Instant,
    ) -> Result<Recipient, Ignored> {
        if !budgets.wrong.has(WRONG, now) {
            return Err(Ignored::TooOften);
        }
        match self.live.find(key) {
            Some(target) => Ok(Recipient::Server(target)),
            // Without a shared secret no other replica can have given it out.
            None if !self.shared => Err(wrong(budgets, now)),
            None if budgets.unknown.spend(UNKNOWN, now) => {
                Ok(Recipient::Everyone(Arc::clone(&self.short), key.pid, short))
            }
            None => Err(Ignored::TooOften),
        }
    }
}

fn wrong(budgets: &mut Budgets, now: Instant) -> Ignored {
    budgets.wrong.spend(WRONG, now);
    Ignored::Forged
}

impl fmt::Debug for CancelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelKeys")
    }
}

#[cfg(test)]
mod tests;
