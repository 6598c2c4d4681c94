//! The cancel keys that clients hold, and what becomes of a cancel request. Keys are sealed, not registered:
//! whatever replica a cancel arrives at, the key itself says what it is for. `docs/cancel.md` has the reasons.

pub mod deliver;
mod issued;
pub mod key;
mod rate_limit;
mod seal;
mod secret;
mod short;
mod turns;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use self::issued::{FoundKey, IssuedKey, IssuedKeys};
use self::key::CancelKey;
use self::rate_limit::{LOOK_UPS, SourceTable, UNKNOWN, WRONG};
use self::seal::KeySealer;
pub use self::secret::{CancelSecret, CancelSecretError};
use self::short::ShortSecrets;
use self::turns::{CancelTurn, CancelTurns, UnderWay};
use crate::names::random_bytes;
use crate::net::cluster_id::ClusterId;
use crate::postgres::version::MinorVersion;

/// Cancels under way at the same time whose key nobody here can check; each one is a connection to every server of the
/// cluster that a stranger asked for. The others wait for their turn.
const MAX_UNPROVEN: usize = 8;

/// Part of a cancel's time that is kept for its server.
const TIME_TO_TELL: Duration = Duration::from_secs(1);

/// Where and with which key a session's queries are cancelled.
#[derive(Debug)]
pub struct CancelTarget {
    /// The cluster.
    pub cluster: ClusterId,
    /// The server's address: a name could lead to another instance by now.
    pub addr: SocketAddr,
    /// The server's own key.
    pub key: CancelKey,
}

impl CancelTarget {
    /// Another one like it.
    fn copy(&self) -> Self {
        let key = CancelKey::new(self.key.pid, self.key.secret.to_vec());
        Self { cluster: self.cluster, addr: self.addr, key }
    }
}

/// How far a key carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// Any replica with the same secret can carry out its cancels, as long as the server's process lives.
    AnyReplica,
    /// It is for one session, and only this process knows it: the server's process may serve another session
    /// later, which the key must not reach.
    ThisSession,
}

/// Length of the secret of a 3.2 key for one session: as long as PostgreSQL 18 makes its own
/// (`MAX_CANCEL_KEY_LENGTH`, src/include/libpq/pqcomm.h), and not to be guessed.
const SESSION_SECRET: usize = 32;

/// A client's key in the tables of this process: a digest, so that a look-up tells nothing by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct KeyId([u8; 16]);

impl KeyId {
    fn of(key: &CancelKey) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&key.pid.to_be_bytes());
        context.update(&key.secret);
        Self(context.finish().as_ref().first_chunk().copied().unwrap_or_default()) // it has 32 bytes
    }
}

/// Makes the keys of clients and judges those that come back.
pub struct CancelKeys {
    sealer: KeySealer,
    short: Arc<ShortSecrets>,
    /// Whether another replica could have made a key that this process does not know.
    shared: bool,
    live: Arc<IssuedKeys>,
    sources: Mutex<SourceTable>,
    turns: Arc<CancelTurns>,
    unproven: Arc<Semaphore>,
}

/// What a client is given.
#[derive(Debug)]
pub struct ClientKey {
    /// Its key.
    pub key: CancelKey,
    /// To be held as long as the session lives.
    issued: Option<IssuedKey>,
}

impl ClientKey {
    /// Ends the life of a key of [`KeyScope::ThisSession`]: from here on it cancels nothing. Gives the target back if
    /// the key was never used.
    pub fn retire(self) -> Result<CancelTarget, AlreadyUsed> {
        self.issued.and_then(IssuedKey::retire).ok_or(AlreadyUsed)
    }
}

/// A cancel has been carried out for the session, and may arrive at its server at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyUsed;

/// A cancel that is to be carried out when its turn comes.
pub struct CancelOrder {
    to: CancelRecipient,
    turn: CancelTurn,
    unproven: Arc<Semaphore>,
}

/// Who is to be told what.
enum CancelRecipient {
    /// The server of the session.
    Server(CancelTarget),
    /// Every server that the session can be at: the key, which is this one, does not say. Those that do not know
    /// the secret that comes out of it ignore it.
    Everyone(Arc<ShortSecrets>, i32, [u8; 4]),
}

impl CancelOrder {
    /// The one server it is for, if that is known.
    pub fn server(&self) -> Option<(ClusterId, SocketAddr)> {
        match &self.to {
            CancelRecipient::Server(target) => Some((target.cluster, target.addr)),
            CancelRecipient::Everyone(..) => None,
        }
    }

    /// Waits until no other cancel of the session is under way. `None` when another one, which began after this one
    /// arrived, has carried it out.
    pub async fn turn(&self, deadline: Instant) -> Result<Option<UnderWay<'_>>, CancelIgnored> {
        self.turn.begin(deadline).await
    }

    /// The places for cancels whose key is not proven, of all clusters together.
    pub fn unproven(&self) -> &Semaphore {
        &self.unproven
    }

    /// The key for servers of `cluster`.
    pub fn key_for(&self, cluster: ClusterId) -> CancelKey {
        match &self.to {
            CancelRecipient::Server(target) => CancelKey::new(target.key.pid, target.key.secret.to_vec()),
            CancelRecipient::Everyone(short, pid, key) => {
                CancelKey::new(*pid, short.uncover(cluster, *pid, *key))
            }
        }
    }
}

impl fmt::Debug for CancelOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order for {:?}", self.server())
    }
}

/// Why a cancel goes nowhere. The sender is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelIgnored {
    /// Made by nobody who has the secret.
    #[error("forged, or of a session that ended long ago, or of a replica with another cancel.secret_file")]
    Forged,
    /// As [`Self::Forged`], and not the first one of its source.
    #[error(
        "rate limited, a wrong key, and the source's budget of wrong keys (5 at once, then 5 a minute) is spent"
    )]
    WrongBudget,
    /// The source has spent a budget, and too many of its keys wait to be looked up.
    #[error(
        "rate limited, the source has spent a budget, and too many of its 4-byte keys wait (100 a second are looked up)"
    )]
    LookUpBudget,
    /// Nobody here can check the key, and the source sent too many of the kind.
    #[error(
        "rate limited, the source's budget of 4-byte keys of other replicas (200 at once, then 10 a second) is spent"
    )]
    UnknownBudget,
    /// The key of a session that has ended.
    #[error("of a session that has ended")]
    Ended,
    /// Of a replica that serves another cluster, or of one whose name does not resolve.
    #[error("nobody to tell, the cluster is not served here, or has no address now")]
    Nobody,
    /// The other cancels of the session take too long, or there are too many of them.
    #[error("too many cancels at the same time, of this session (16, one after the other, 5 s each)")]
    SessionBusy,
    /// No place came free in time among those for keys that are proven.
    #[error("too many cancels at the same time, of this cluster (64), and none ended within 5 s")]
    ClusterBusy,
    /// No place came free in time among those for keys that are not.
    #[error(
        "too many cancels at the same time, with 4-byte keys of other replicas (8), and none ended within 5 s"
    )]
    UnprovenBusy,
}

impl CancelKeys {
    /// Keys under this secret. Fails when the cryptographic library does.
    pub fn new(secret: &CancelSecret) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let (sealing, short) = secret.keys()?;
        Ok(Self {
            sealer: KeySealer::new(sealing),
            short: Arc::new(ShortSecrets::new(short)),
            shared: secret.is_shared(),
            live: Arc::default(),
            sources: Mutex::default(),
            turns: Arc::default(),
            unproven: Arc::new(Semaphore::new(MAX_UNPROVEN)),
        })
    }

    /// The key for a client of `protocol` whose session `target` cancels. `None` when the server's secret does
    /// not fit into a key: better none than one that does nothing.
    pub fn issue(&self, target: CancelTarget, protocol: MinorVersion, scope: KeyScope) -> Option<ClientKey> {
        if scope == KeyScope::ThisSession {
            return Some(self.issue_for_session(target, protocol));
        }
        if protocol >= MinorVersion::V3_2 {
            let Some(key) = self.sealer.seal(&target) else {
                let bytes = target.key.secret.len();
                tracing::warn!(addr = %target.addr, bytes, "the server's cancel secret is too long to be sealed");
                return None;
            };
            return Some(ClientKey { key, issued: None });
        }
        let secret = target.key.secret.as_slice().try_into().ok()?;
        let given = self.short.cover(target.cluster, target.key.pid, secret);
        Some(self.enter(target, &given))
    }

    /// Nothing of the server's secret is in it, so that it means nothing to other replicas and later.
    fn issue_for_session(&self, target: CancelTarget, protocol: MinorVersion) -> ClientKey {
        match protocol {
            MinorVersion::V3_0 => self.enter(target, &random_bytes::<4>()),
            MinorVersion::V3_2 => self.enter(target, &random_bytes::<SESSION_SECRET>()),
        }
    }

    fn enter(&self, target: CancelTarget, given: &[u8]) -> ClientKey {
        let pid = target.key.pid;
        let place = self.live.enter(CancelKey::new(pid, given), target);
        ClientKey { key: CancelKey::new(pid, given), issued: Some(place) }
    }

    /// Judges `key`, which came from `source`. A key of a live session and a sealed one are never limited. Any other is
    /// charged to its source, and waits for its turn until `deadline` where that helps.
    pub async fn judge(
        &self,
        key: &CancelKey,
        source: IpAddr,
        deadline: Instant,
    ) -> Result<CancelOrder, CancelIgnored> {
        let to = match <[u8; 4]>::try_from(key.secret.as_slice()) {
            Ok(short) => self.judge_short(key, short, source, deadline).await?,
            Err(_) => self.judge_long(key)?,
        };
        let turn = self.turns.enter(KeyId::of(key))?;
        Ok(CancelOrder { to, turn, unproven: Arc::clone(&self.unproven) })
    }

    /// A long key cannot be guessed, and so wrong ones need no budget.
    fn judge_long(&self, key: &CancelKey) -> Result<CancelRecipient, CancelIgnored> {
        match self.live.find(key) {
            Some(FoundKey::Live(target)) => Ok(CancelRecipient::Server(target)),
            Some(FoundKey::Ended) => Err(CancelIgnored::Ended),
            None => self.sealer.open(key).map(CancelRecipient::Server).ok_or(CancelIgnored::Forged),
        }
    }

    /// A short key is a guess of 32 bits: those of a source that has spent a budget are looked up one after the other.
    async fn judge_short(
        &self,
        key: &CancelKey,
        short: [u8; 4],
        source: IpAddr,
        deadline: Instant,
    ) -> Result<CancelRecipient, CancelIgnored> {
        let latest = deadline.checked_sub(TIME_TO_TELL).unwrap_or(deadline);
        let mut looked_up = self.look_up(key, source, latest, false);
        if let ShortKey::Later(turn) = looked_up {
            sleep_until(turn).await;
            looked_up = self.look_up(key, source, latest, true);
        }
        match looked_up {
            ShortKey::Known(target) => Ok(CancelRecipient::Server(target)),
            ShortKey::Ignored(why) => Err(why),
            ShortKey::Unknown(turn) => {
                sleep_until(turn).await;
                Ok(CancelRecipient::Everyone(Arc::clone(&self.short), key.pid, short))
            }
            ShortKey::Later(_) => Err(CancelIgnored::LookUpBudget), // it has waited
        }
    }

    /// One look into the table, and its price. No wait that follows ends after `latest`; `waited` tells that the key has
    /// waited for this look.
    fn look_up(&self, key: &CancelKey, source: IpAddr, latest: Instant, waited: bool) -> ShortKey {
        let now = Instant::now();
        // Held for the whole look, so that sessions on other threads cannot look more often than the budget allows.
        let mut sources = self.sources();
        let budgets = sources.of(source);
        if !waited && budgets.is_over(now) {
            let turn = budgets.look_ups.reserve(LOOK_UPS, now, latest);
            return turn.map_or(ShortKey::Ignored(CancelIgnored::LookUpBudget), ShortKey::Later);
        }
        match self.live.find(key) {
            Some(FoundKey::Live(target)) => ShortKey::Known(target),
            Some(FoundKey::Ended) => ShortKey::Ignored(CancelIgnored::Ended),
            // Only with a shared secret can another replica have given it out.
            None if self.shared => match budgets.unknown.reserve(UNKNOWN, now, latest) {
                Some(turn) => ShortKey::Unknown(turn),
                None => ShortKey::Ignored(CancelIgnored::UnknownBudget),
            },
            None if budgets.wrong.spend(WRONG, now) => ShortKey::Ignored(CancelIgnored::Forged),
            None => ShortKey::Ignored(CancelIgnored::WrongBudget),
        }
    }

    fn sources(&self) -> MutexGuard<'_, SourceTable> {
        // No code panics while it holds the lock, and the budgets are whole at every moment.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A short key, looked up.
enum ShortKey {
    /// A live session's, which this cancels.
    Known(CancelTarget),
    /// Perhaps another replica's, to be carried out from this moment on.
    Unknown(Instant),
    /// Nobody's.
    Ignored(CancelIgnored),
    /// To be looked up at this moment: its source has spent a budget.
    Later(Instant),
}

impl fmt::Debug for CancelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelKeys")
    }
}

#[cfg(test)]
mod tests;
