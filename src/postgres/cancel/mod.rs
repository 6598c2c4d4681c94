//! Cancel keys of clients and the handling of cancel requests. Keys are sealed instead of registered, so that
//! any replica can read the target from the key. `docs/cancel.md` has the reasons.

pub mod deliver;
mod issued;
pub mod key;
mod rate_limit;
mod seal;
mod secret;
mod short;
mod turns;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
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
use crate::names::source::Source;
use crate::net::cluster_id::ClusterId;
use crate::postgres::version::MinorVersion;
use crate::protocol::{AlreadyUsed, KeyScope};
use crate::sync::lock;

/// Most concurrent cancels whose key cannot be verified here. Each connects to every server of the cluster at
/// the request of an unauthenticated sender. Further ones wait.
const MAX_UNPROVEN: usize = 8;

/// Part of a cancel's time reserved for its delivery.
const TIME_TO_TELL: Duration = Duration::from_secs(1);

/// Server and key for cancelling a session's statements.
#[derive(Debug)]
pub struct CancelTarget {
    /// Cluster of the session.
    pub cluster: ClusterId,
    /// Address of the server; a name could resolve to another instance by now.
    pub addr: SocketAddr,
    /// The server's own key.
    pub key: CancelKey,
}

impl CancelTarget {
    /// A copy.
    fn copy(&self) -> Self {
        let key = CancelKey::new(self.key.pid, self.key.secret.to_vec());
        Self { cluster: self.cluster, addr: self.addr, key }
    }
}

/// Length of the secret of a 3.2 key for one session: the length that PostgreSQL 18 uses
/// (`MAX_CANCEL_KEY_LENGTH`, src/include/libpq/pqcomm.h), long enough to prevent guessing.
const SESSION_SECRET: usize = 32;

/// Identifier of a client's key in the tables: a digest, so that the time of a lookup reveals nothing.
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

/// Issues clients' keys and judges the keys of cancel requests.
pub struct CancelKeys {
    sealer: KeySealer,
    short: Arc<ShortSecrets>,
    /// True if another replica can have made a key that this process does not know.
    shared: bool,
    live: Arc<IssuedKeys>,
    sources: Mutex<SourceTable>,
    turns: Arc<CancelTurns>,
    unproven: Arc<Semaphore>,
}

/// The key of a client.
#[derive(Debug)]
pub struct ClientKey {
    /// Its key.
    pub key: CancelKey,
    /// Entry in the table, held while the session lives.
    issued: Option<IssuedKey>,
}

impl ClientKey {
    /// Invalidates a key of [`KeyScope::ThisSession`]. Returns the target if the key was never used.
    pub fn retire(self) -> Result<CancelTarget, AlreadyUsed> {
        self.issued.and_then(IssuedKey::retire).ok_or(AlreadyUsed)
    }
}

/// A cancel to carry out in its turn.
pub struct CancelOrder {
    to: CancelRecipient,
    turn: CancelTurn,
    unproven: Arc<Semaphore>,
}

/// Recipients of a cancel.
enum CancelRecipient {
    /// The server of the session.
    Server(CancelTarget),
    /// All servers at which the session can be, because the key does not identify the server. Servers that do
    /// not know the resulting secret ignore the cancel.
    Everyone(Arc<ShortSecrets>, i32, [u8; 4]),
}

impl CancelOrder {
    /// The only server of the cancel, if known.
    pub fn server(&self) -> Option<(ClusterId, SocketAddr)> {
        match &self.to {
            CancelRecipient::Server(target) => Some((target.cluster, target.addr)),
            CancelRecipient::Everyone(..) => None,
        }
    }

    /// Waits until no other cancel of the session is in progress. `None` if another one, which began after
    /// this one arrived, was carried out.
    pub async fn turn(&self, deadline: Instant) -> Result<Option<UnderWay<'_>>, CancelIgnored> {
        self.turn.begin(deadline).await
    }

    /// Semaphore for cancels with unproven keys, shared by all clients.
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

/// Reason why a cancel is ignored. The sender is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelIgnored {
    /// Made by nobody who has the secret.
    #[error("forged, or of a session that ended long ago, or of a replica with another cancel.secret_file")]
    Forged,
    /// Like [`Self::Forged`], over the source's budget.
    #[error(
        "rate limited, a wrong key, and the source's budget of wrong keys (5 at once, then 5 a minute) is spent"
    )]
    WrongBudget,
    /// The source has exceeded a budget, and too many of its keys wait for a lookup.
    #[error(
        "rate limited, the source has spent a budget, and too many of its 4-byte keys wait (100 a second are looked up)"
    )]
    LookUpBudget,
    /// The key cannot be verified here, and the source has exceeded its budget of such keys.
    #[error(
        "rate limited, the source's budget of 4-byte keys of other replicas (200 at once, then 10 a second) is spent"
    )]
    UnknownBudget,
    /// The key of a session that has ended.
    #[error("of a session that has ended")]
    Ended,
    /// From a replica of another cluster, or the name does not resolve now.
    #[error("nobody to tell, the cluster is not served here, or has no address now")]
    Nobody,
    /// The session's other cancels take too long or are too many.
    #[error("too many cancels at the same time, of this session (16, one after the other, 5 s each)")]
    SessionBusy,
    /// No slot for a proven key became free in time.
    #[error("too many cancels at the same time, of this cluster (64), and none ended within 5 s")]
    ClusterBusy,
    /// No slot for an unproven key became free in time.
    #[error(
        "too many cancels at the same time, with 4-byte keys of other replicas (8), and none ended within 5 s"
    )]
    UnprovenBusy,
}

impl CancelKeys {
    /// Keys derived from this secret. Fails if the cryptographic library fails.
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

    /// Issues a key to a client of `protocol` for its session's `target`. `None` if the server's secret does
    /// not fit into a key; a key without effect would be worse than none.
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

    /// Issues a random key. It is independent of the server's secret, so it is useless at other replicas
    /// and later.
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

    /// Judges a `key` from `source`. Keys of live sessions and sealed keys are never rate-limited. Other keys
    /// count against their source's budget and wait for their turn until `deadline` if that helps.
    pub async fn judge(
        &self,
        key: &CancelKey,
        source: Source,
        deadline: Instant,
    ) -> Result<CancelOrder, CancelIgnored> {
        let to = match <[u8; 4]>::try_from(key.secret.as_slice()) {
            Ok(short) => self.judge_short(key, short, source, deadline).await?,
            Err(_) => self.judge_long(key)?,
        };
        let turn = self.turns.enter(KeyId::of(key))?;
        Ok(CancelOrder { to, turn, unproven: Arc::clone(&self.unproven) })
    }

    /// Long keys cannot be guessed, so wrong ones need no budget.
    fn judge_long(&self, key: &CancelKey) -> Result<CancelRecipient, CancelIgnored> {
        match self.live.find(key) {
            Some(FoundKey::Live(target)) => Ok(CancelRecipient::Server(target)),
            Some(FoundKey::Ended) => Err(CancelIgnored::Ended),
            None => self.sealer.open(key).map(CancelRecipient::Server).ok_or(CancelIgnored::Forged),
        }
    }

    /// Short keys can be guessed (32 bits), so those of a source over budget are looked up one at a time.
    async fn judge_short(
        &self,
        key: &CancelKey,
        short: [u8; 4],
        source: Source,
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

    /// Looks the key up and charges the source. No following wait ends after `latest`. `waited` is true if
    /// the key has waited for this lookup.
    fn look_up(&self, key: &CancelKey, source: Source, latest: Instant, waited: bool) -> ShortKey {
        let now = Instant::now();
        // Held for the whole lookup, so that sessions on other threads cannot exceed the budget.
        let mut sources = self.sources();
        let budgets = sources.of(source);
        if !waited && budgets.is_over(now) {
            let turn = budgets.look_ups.reserve(LOOK_UPS, now, latest);
            return turn.map_or(ShortKey::Ignored(CancelIgnored::LookUpBudget), ShortKey::Later);
        }
        match self.live.find(key) {
            Some(FoundKey::Live(target)) => ShortKey::Known(target),
            Some(FoundKey::Ended) => ShortKey::Ignored(CancelIgnored::Ended),
            // Another replica can have issued it only with a shared secret.
            None if self.shared => match budgets.unknown.reserve(UNKNOWN, now, latest) {
                Some(turn) => ShortKey::Unknown(turn),
                None => ShortKey::Ignored(CancelIgnored::UnknownBudget),
            },
            None if budgets.wrong.spend(WRONG, now) => ShortKey::Ignored(CancelIgnored::Forged),
            None => ShortKey::Ignored(CancelIgnored::WrongBudget),
        }
    }

    fn sources(&self) -> MutexGuard<'_, SourceTable> {
        lock(&self.sources)
    }
}

/// Result of the lookup of a short key.
enum ShortKey {
    /// Key of a live session, with its target.
    Known(CancelTarget),
    /// Possibly another replica's key; carried out at this time.
    Unknown(Instant),
    /// Nobody's key.
    Ignored(CancelIgnored),
    /// Looked up at this time, because the source has exceeded a budget.
    Later(Instant),
}

impl fmt::Debug for CancelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelKeys")
    }
}

#[cfg(test)]
mod tests;
