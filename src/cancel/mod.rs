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
use crate::names::Endpoint;
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
    _place: Option<Place>,
}

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
    pub fn issue(&self, target: Target, protocol: Protocol) -> Option<Issued> {
        if protocol >= Protocol::V3_2 {
            let Some(key) = self.sealer.seal(&target) else {
                let bytes = target.key.secret.len();
                tracing::warn!(addr = %target.addr, bytes, "the server's cancel secret is too long to be sealed");
                return None;
            };
            return Some(Issued { key, _place: None });
        }
        let Target { cluster, addr, key } = target;
        let secret = key.secret.as_slice().try_into().ok()?;
        let given = self.short.cover(cluster, key.pid, secret);
        let place = self.live.enter(CancelKey::new(key.pid, given), (cluster, addr));
        Some(Issued { key: CancelKey::new(key.pid, given), _place: Some(place) })
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
            Err(_) => self.sealer.open(key).map(Recipient::Server).ok_or_else(|| wrong(budgets, now))?,
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
            Some((cluster, addr)) => {
                let secret = self.short.uncover(cluster, key.pid, short);
                Ok(Recipient::Server(Target { cluster, addr, key: CancelKey::new(key.pid, secret) }))
            }
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
