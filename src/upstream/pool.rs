//! The warm pool: connections whose clients have left, for the same person who comes again in the same way. What may
//! be kept, for whom, and for how long.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::cancel::Recall;
use super::dial::ServerStream;
use super::login::{Upstream, Wanted, startup_packet};
use super::reset::{Parameters, RESET_TIMEOUT, ResetError, reset};
use super::resting::Resting;
use super::shelf::{Shelf, Sizes};
use super::tally::{Closed, Tally};
use crate::auth::Grant;
use crate::cancel::{Target, Used};
use crate::client::startup::StartupParams;
use crate::clock::Clock;
use crate::config::PoolSettings;
use crate::names::{DbName, DbUser, Issuer, RoleArn, Subject};
use crate::wire::Greeting;

/// How often it is looked whose time is over, and which servers have closed.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Whom a connection may serve: exactly the one it was opened for, asking for exactly the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    cluster: String,
    database: DbName,
    user: DbUser,
    issuer: Issuer,
    subject: Subject,
    role: RoleArn,
    /// The startup packet: protocol version and all parameters, in their order, forced settings included.
    packet: Vec<u8>,
}

/// How a connection was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// When the server let it in.
    pub at: Instant,
    /// When the role credentials expire that it was opened with.
    pub credentials_expire_at: SystemTime,
    /// Their name in CloudTrail.
    pub role_session_name: String,
}

/// Connections that are kept under one configuration.
pub struct Pool {
    settings: PoolSettings,
    clock: Clock,
    tally: Arc<Tally>,
    idle: Mutex<Shelf<Arc<Key>, Idle>>,
    closed: CancellationToken,
}

/// A connection that waits for its person to come again.
struct Idle {
    resting: Resting,
    parameters: Parameters,
    cancel: Option<Target>,
    recall: Option<Recall>,
    opened: Opened,
    since: Instant,
}

/// The place in the pool of whoever is about to log in.
#[derive(Debug)]
pub struct Slot {
    pool: Arc<Pool>,
    key: Arc<Key>,
}

/// What is remembered of a connection while it serves a session.
#[derive(Debug)]
pub struct Lent {
    slot: Slot,
    opened: Opened,
    parameters: Parameters,
}

/// A connection that its client has left with nothing under way.
#[derive(Debug)]
pub struct Left {
    /// The connection.
    pub stream: ServerStream,
    /// The server has told the client of a parameter.
    pub told_parameter: bool,
    /// How to cancel what it does, if the server says, and if that was never done.
    pub cancel: Result<Option<Target>, Used>,
    /// How its sessions give up their statements.
    pub recall: Option<Recall>,
}

impl Pool {
    /// An empty one. Its timekeeper runs on `control`.
    pub fn start(settings: PoolSettings, tally: Arc<Tally>, clock: Clock, control: &Handle) -> Arc<Self> {
        let sizes = Sizes { per_key: settings.max_idle_per_login, in_all: settings.max_idle };
        let idle = Mutex::new(Shelf::new(sizes));
        let pool = Arc::new(Self { settings, clock, tally, idle, closed: CancellationToken::new() });
        control.spawn(keep_tidy(Arc::downgrade(&pool)));
        pool
    }

    /// The slot of a login. The grant is the proof that the person may be let in.
    pub fn slot(self: &Arc<Self>, grant: &Grant, startup: &StartupParams) -> Slot {
        let key = Key {
            cluster: grant.cluster().name.clone(),
            database: grant.database().clone(),
            user: grant.db_user().clone(),
            issuer: grant.issuer().clone(),
            subject: grant.subject().clone(),
            role: grant.role().clone(),
            packet: startup_packet(Wanted::of(grant, startup), startup.protocol()).to_vec(),
        };
        Slot { pool: Arc::clone(self), key: Arc::new(key) }
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.lock().idle()
    }

    /// Closes all that are idle, and keeps none from here on.
    pub fn close(&self) {
        self.closed.cancel();
        let all = self.lock().extract(|_, _| true);
        self.end(all.into_iter().map(|idle| (idle.resting, Closed::Pool)));
    }

    /// Closes those whose time is over, and those that their servers have closed.
    fn sweep(&self) {
        let mut reasons = Vec::new();
        let gone = self.lock().extract(|_, idle| {
            let why = self.unfit(idle);
            reasons.extend(why);
            why.is_some()
        });
        self.end(gone.into_iter().map(|idle| idle.resting).zip(reasons));
    }

    /// Why it can serve nobody any more.
    fn unfit(&self, idle: &mut Idle) -> Option<Closed> {
        let over = self.over(&idle.opened, idle.since);
        over.or_else(|| (!idle.resting.is_quiet()).then_some(Closed::Server))
    }

    /// Why the time is over of a connection that is idle since then.
    fn over(&self, opened: &Opened, since: Instant) -> Option<Closed> {
        if opened.at.elapsed() >= self.settings.server_lifetime {
            return Some(Closed::Lifetime);
        }
        if self.clock.now() >= opened.credentials_expire_at {
            return Some(Closed::Credentials);
        }
        (since.elapsed() >= self.settings.server_idle_timeout).then_some(Closed::Idle)
    }

    /// Resets a session within [`RESET_TIMEOUT`], and not while the pool is closed.
    async fn reset(
        &self,
        stream: &mut ServerStream,
        parameters: &mut Parameters,
        ask: bool,
    ) -> Result<(), Closed> {
        let resetting = timeout(RESET_TIMEOUT, reset(stream, parameters, ask));
        let result = self.closed.run_until_cancelled(resetting).await.ok_or(Closed::Pool)?;
        result.unwrap_or(Err(ResetError::TimedOut)).map_err(|error| {
            tracing::debug!(%error, "a connection could not be reset and is closed");
            Closed::Reset
        })
    }

    fn end(&self, connections: impl Iterator<Item = (Resting, Closed)>) {
        for (resting, why) in connections {
            self.tally.closed(why);
            resting.say_goodbye();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Arc<Key>, Idle>> {
        // No code panics while it holds the lock, and the shelf is whole at every moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as there is a pool to keep tidy.
async fn keep_tidy(pool: Weak<Pool>) {
    let mut beat = interval(SWEEP_EVERY);
    loop {
        beat.tick().await;
        match pool.upgrade() {
            Some(pool) if !pool.closed.is_cancelled() => pool.sweep(),
            _ => return,
        }
    }
}

impl Slot {
    /// A connection that was opened for the same person and the same wishes, as good as a new one. Those that turn
    /// out not to be good are closed.
    pub fn take(&self) -> Option<(Upstream, Opened)> {
        let taken = self.find();
        self.pool.tally.looked(taken.is_some());
        taken
    }

    fn find(&self) -> Option<(Upstream, Opened)> {
        loop {
            let mut idle = self.pool.lock().take(&self.key)?;
            if let Some(why) = self.pool.unfit(&mut idle) {
                self.pool.end(std::iter::once((idle.resting, why)));
                continue;
            }
            let Idle { resting, parameters, cancel, recall, opened, .. } = idle;
            match resting.wake() {
                Ok(stream) => {
                    return Some((
                        Upstream { stream, greeting: parameters.greeting(), cancel, recall },
                        opened,
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "an idle connection cannot be used");
                    self.pool.tally.closed(Closed::Server);
                }
            }
        }
    }

    /// The server has no room for one more: what waits for the same person with other wishes is given up, so that the
    /// next try finds some. What waits for others is theirs.
    pub fn make_room(&self) {
        let same_person = |key: &Key| {
            (&key.cluster, &key.issuer, &key.subject)
                == (&self.key.cluster, &self.key.issuer, &self.key.subject)
        };
        let given_up = self.pool.lock().extract(|key, _| same_person(key));
        self.pool.end(given_up.into_iter().map(|idle| (idle.resting, Closed::Room)));
    }

    /// Remembers what is needed to keep a connection when its session ends. `None` for one that says too much of
    /// itself to be remembered.
    pub fn lend(self, opened: Opened, greeting: &Greeting) -> Option<Lent> {
        Some(Lent { slot: self, opened, parameters: Parameters::of(greeting)? })
    }
}

impl Lent {
    /// Resets the connection and keeps it, or closes it. The client is gone and waits for nothing.
    pub async fn come_back(self, left: Left) {
        let Self { slot: Slot { pool, key }, opened, mut parameters } = self;
        let Left { mut stream, told_parameter, cancel, recall } = left;
        let resetting = async {
            let cancel = cancel.map_err(|Used| Closed::Cancelled)?;
            if let Some(why) = pool.over(&opened, Instant::now()) {
                return Err(why);
            }
            let room = Room::reserve(&pool, &key)?;
            pool.reset(&mut stream, &mut parameters, told_parameter).await?;
            Ok((room, cancel))
        };
        let kept = resetting.await;
        let mut resting = Resting::new(stream);
        match kept {
            Err(why) => pool.end(std::iter::once((resting, why))),
            Ok(_) if !resting.is_quiet() => pool.end(std::iter::once((resting, Closed::Server))),
            Ok((room, cancel)) => {
                let since = Instant::now();
                room.fill(Idle { resting, parameters, cancel, recall, opened, since });
            }
        }
    }

    /// The connection ends with its session.
    pub fn is_lost(self) {
        self.slot.pool.tally.closed(Closed::Session);
    }
}

/// Room for one connection; given up when it is dropped unfilled.
struct Room<'a> {
    pool: &'a Pool,
    key: &'a Arc<Key>,
    filled: bool,
}

impl<'a> Room<'a> {
    fn reserve(pool: &'a Pool, key: &'a Arc<Key>) -> Result<Self, Closed> {
        if pool.closed.is_cancelled() {
            return Err(Closed::Pool);
        }
        if !pool.lock().reserve(key) {
            return Err(Closed::Full);
        }
        Ok(Self { pool, key, filled: false })
    }

    fn fill(mut self, idle: Idle) {
        let mut shelf = self.pool.lock();
        // Looked at under the lock: whoever closes the pool empties the shelf under it afterwards.
        if self.pool.closed.is_cancelled() {
            drop(shelf);
            return self.pool.end(std::iter::once((idle.resting, Closed::Pool)));
        }
        shelf.put(self.key, idle);
        self.filled = true;
        self.pool.tally.kept();
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.pool.lock().release(self.key);
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key of {:?} in {}", self.user, self.cluster)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool with {} idle", self.idle())
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
