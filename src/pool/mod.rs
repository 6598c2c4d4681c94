//! The warm pool: connections whose clients have left, for the same person who comes again in the same way. What may
//! be kept, for whom, and for how long.

mod idle_connection;
mod idle_set;
mod key;
pub mod stats;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::idle_connection::Resting;
use self::idle_set::{Reserved, Shelf, Sizes};
use self::key::Key;
use self::stats::{Closed, Tally};
use crate::clock::Clock;
use crate::config::PoolSettings;
use crate::identity::Grant;
use crate::net::dial::ServerStream;
use crate::postgres::cancel::deliver::Recall;
use crate::postgres::cancel::{Target, Used};
use crate::postgres::message::Greeting;
use crate::postgres::reset::{CHECK_TIMEOUT, Parameters, RESET_TIMEOUT, ResetError, check, reset};
use crate::postgres::server_login::{Shortage, Upstream};
use crate::postgres::startup::StartupParams;
use crate::supervisor::{TaskKind, TaskSupervisor};

/// How often it is looked whose time is over, and which servers have closed.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How long it may take to free a place at a server.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two looks for an idle connection while one is being reset.
const RESET_PAUSE: Duration = Duration::from_millis(10);

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
    idle: Mutex<Shelf<Key, Idle>>,
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
    /// The `application_name` that the session has to have.
    name: Option<String>,
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
    /// An empty one, which a task of `supervisor` keeps tidy.
    pub fn start(
        settings: PoolSettings,
        tally: Arc<Tally>,
        clock: Clock,
        supervisor: &TaskSupervisor,
    ) -> Arc<Self> {
        let sizes = Sizes { per_key: settings.max_idle_per_login, in_all: settings.max_idle };
        let idle = Mutex::new(Shelf::new(sizes));
        let pool = Arc::new(Self { settings, clock, tally, idle, closed: CancellationToken::new() });
        let keeper = Arc::downgrade(&pool);
        supervisor.spawn(TaskKind::PoolKeeper, pool.closed.clone(), move || keep_tidy(Weak::clone(&keeper)));
        pool
    }

    /// The slot of a login. The grant is the proof that the person may be let in.
    pub fn slot(self: &Arc<Self>, grant: &Grant, startup: &StartupParams) -> Slot {
        let (key, name) = Key::of(grant, startup);
        Slot { pool: Arc::clone(self), key: Arc::new(key), name }
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

    /// Closes all that are idle at a server that does not answer: each of them would cost a login as much time.
    fn give_up(&self, server: SocketAddr) {
        tracing::warn!(addr = %server, "a server with idle connections does not answer; they are closed");
        let gone = self.lock().extract(|_, idle| idle.resting.leads_to(server));
        self.end(gone.into_iter().map(|idle| (idle.resting, Closed::Check)));
    }

    fn end(&self, connections: impl Iterator<Item = (Resting, Closed)>) {
        for (resting, why) in connections {
            self.tally.closed(why);
            resting.say_goodbye();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Key, Idle>> {
        // No code panics while it holds the lock, and the shelf is whole at every moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.closed.cancel(); // ends the task that keeps it tidy
    }
}

/// Ends with the pool, which cancels it.
async fn keep_tidy(pool: Weak<Pool>) {
    let mut beat = interval(SWEEP_EVERY);
    loop {
        beat.tick().await;
        match pool.upgrade() {
            Some(pool) if !pool.closed.is_cancelled() => pool.sweep(),
            _ => return std::future::pending().await,
        }
    }
}

impl Slot {
    /// A connection that was opened for the same person and the same wishes, as good as a new one: its server was
    /// asked. Those that turn out not to be good are closed.
    pub async fn take(&self) -> Option<(Upstream, Opened)> {
        let taken = self.find().await;
        self.pool.tally.looked(taken.is_some());
        taken
    }

    async fn find(&self) -> Option<(Upstream, Opened)> {
        let wanted = |idle: &Idle| self.name.as_deref().is_none_or(|name| idle.parameters.has_name(name));
        let deadline = Instant::now() + CHECK_TIMEOUT;
        loop {
            let mut idle = self.pool.lock().take(&self.key, wanted)?;
            if let Some(why) = self.pool.unfit(&mut idle) {
                self.pool.end(std::iter::once((idle.resting, why)));
                continue;
            }
            let server = idle.resting.server();
            let Idle { resting, mut parameters, cancel, recall, opened, .. } = idle;
            let mut stream = match resting.wake() {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "an idle connection cannot be used");
                    self.pool.tally.closed(Closed::Server);
                    continue;
                }
            };
            match timeout_at(deadline, check(&mut stream, &mut parameters, self.name.as_deref())).await {
                Ok(Ok(())) => {
                    let greeting = parameters.greeting();
                    return Some((Upstream { stream, greeting, cancel, recall }, opened));
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "an idle connection is not as it was and is closed");
                    self.pool.end(std::iter::once((Resting::new(stream), Closed::Check)));
                }
                Err(_) => {
                    self.pool.end(std::iter::once((Resting::new(stream), Closed::Check)));
                    if let Some(server) = server {
                        self.pool.give_up(server);
                    }
                    return None;
                }
            }
        }
    }

    /// Frees one place at a server that refused a login of this slot for want of it: the connection that is idle there for
    /// the longest time is closed, whoever it is kept for. `false` when none would help.
    pub async fn make_room(&self, shortage: Shortage, server: SocketAddr) -> bool {
        let helps = |key: &Key| match shortage {
            Shortage::Server => true,
            Shortage::Role => key.user == self.key.user,
            Shortage::Database => key.database == self.key.database,
        };
        let deadline = Instant::now() + ROOM_TIMEOUT;
        loop {
            let (oldest, more) = {
                let mut shelf = self.pool.lock();
                let oldest = shelf.take_oldest(|key, idle| helps(key) && idle.resting.leads_to(server));
                (oldest, shelf.awaits(|key| helps(key) && key.cluster == self.key.cluster))
            };
            match oldest {
                Some(idle) => {
                    self.pool.tally.closed(Closed::Room);
                    idle.resting.end(ROOM_TIMEOUT).await;
                    return true;
                }
                // One is being reset.
                None if more && Instant::now() < deadline => sleep(RESET_PAUSE).await,
                None => return false,
            }
        }
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
        let Self { slot: Slot { pool, key, .. }, opened, mut parameters } = self;
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
        let reserved = pool.lock().reserve(key).ok_or(Closed::Full)?;
        if let Reserved::InsteadOf(idle) = reserved {
            pool.end(std::iter::once((idle.resting, Closed::Full)));
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

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool with {} idle", self.idle())
    }
}

#[cfg(test)]
mod tests;
