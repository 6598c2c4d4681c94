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

use self::idle_connection::IdleConnection;
use self::idle_set::{IdleLimits, IdleSet, Reserved};
use self::key::PoolKey;
use self::stats::{CloseReason, PoolStats};
use crate::clock::Clock;
use crate::config::PoolSettings;
use crate::identity::Grant;
use crate::net::dial::ServerStream;
use crate::postgres::cancel::deliver::StatementCancel;
use crate::postgres::cancel::{AlreadyUsed, CancelTarget};
use crate::postgres::message::LoginGreeting;
use crate::postgres::reset::{CHECK_TIMEOUT, RESET_TIMEOUT, ResetError, ServerParameters, check, reset};
use crate::postgres::server_login::{Shortage, UpstreamSession};
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
pub struct ConnectionOrigin {
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
    stats: Arc<PoolStats>,
    idle: Mutex<IdleSet<PoolKey, PooledConnection>>,
    closed: CancellationToken,
}

/// A connection that waits for its person to come again.
struct PooledConnection {
    connection: IdleConnection,
    parameters: ServerParameters,
    cancel: Option<CancelTarget>,
    statement_cancel: Option<StatementCancel>,
    origin: ConnectionOrigin,
    since: Instant,
}

/// The place in the pool of whoever is about to log in.
#[derive(Debug)]
pub struct PoolSlot {
    pool: Arc<Pool>,
    key: Arc<PoolKey>,
    /// The `application_name` that the session has to have.
    name: Option<String>,
}

/// What is remembered of a connection while it serves a session.
#[derive(Debug)]
pub struct PoolCheckout {
    slot: PoolSlot,
    origin: ConnectionOrigin,
    parameters: ServerParameters,
}

/// A connection that its client has left with nothing under way.
#[derive(Debug)]
pub struct ReturnedConnection {
    /// The connection.
    pub stream: ServerStream,
    /// The server has told the client of a parameter.
    pub told_parameter: bool,
    /// How to cancel what it does, if the server says, and if that was never done.
    pub cancel: Result<Option<CancelTarget>, AlreadyUsed>,
    /// How its sessions give up their statements.
    pub statement_cancel: Option<StatementCancel>,
}

impl Pool {
    /// An empty one, which a task of `supervisor` keeps tidy.
    pub fn start(
        settings: PoolSettings,
        stats: Arc<PoolStats>,
        clock: Clock,
        supervisor: &TaskSupervisor,
    ) -> Arc<Self> {
        let limits = IdleLimits { per_key: settings.max_idle_per_login, total: settings.max_idle };
        let idle = Mutex::new(IdleSet::new(limits));
        let pool = Arc::new(Self { settings, clock, stats, idle, closed: CancellationToken::new() });
        let keeper = Arc::downgrade(&pool);
        supervisor.spawn(TaskKind::PoolKeeper, pool.closed.clone(), move || {
            sweep_periodically(Weak::clone(&keeper))
        });
        pool
    }

    /// The slot of a login. The grant is the proof that the person may be let in.
    pub fn slot(self: &Arc<Self>, grant: &Grant, startup: &StartupParams) -> PoolSlot {
        let (key, name) = PoolKey::of(grant, startup);
        PoolSlot { pool: Arc::clone(self), key: Arc::new(key), name }
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.lock().idle()
    }

    /// Closes all that are idle, and keeps none from here on.
    pub fn close(&self) {
        self.closed.cancel();
        let all = self.lock().extract(|_, _| true);
        self.end(all.into_iter().map(|idle| (idle.connection, CloseReason::Pool)));
    }

    /// Closes those whose time is over, and those that their servers have closed.
    fn sweep(&self) {
        let mut reasons = Vec::new();
        let gone = self.lock().extract(|_, idle| {
            let why = self.unusable(idle);
            reasons.extend(why);
            why.is_some()
        });
        self.end(gone.into_iter().map(|idle| idle.connection).zip(reasons));
    }

    /// Why it can serve nobody any more.
    fn unusable(&self, idle: &mut PooledConnection) -> Option<CloseReason> {
        let over = self.expired(&idle.origin, idle.since);
        over.or_else(|| (!idle.connection.is_quiet()).then_some(CloseReason::Server))
    }

    /// Why the time is over of a connection that is idle since then.
    fn expired(&self, origin: &ConnectionOrigin, since: Instant) -> Option<CloseReason> {
        if origin.at.elapsed() >= self.settings.server_lifetime {
            return Some(CloseReason::Lifetime);
        }
        if self.clock.now() >= origin.credentials_expire_at {
            return Some(CloseReason::Credentials);
        }
        (since.elapsed() >= self.settings.server_idle_timeout).then_some(CloseReason::Idle)
    }

    /// Resets a session within [`RESET_TIMEOUT`], and not while the pool is closed.
    async fn reset(
        &self,
        stream: &mut ServerStream,
        parameters: &mut ServerParameters,
        ask: bool,
    ) -> Result<(), CloseReason> {
        let resetting = timeout(RESET_TIMEOUT, reset(stream, parameters, ask));
        let result = self.closed.run_until_cancelled(resetting).await.ok_or(CloseReason::Pool)?;
        result.unwrap_or(Err(ResetError::TimedOut)).map_err(|error| {
            tracing::debug!(%error, "a connection could not be reset and is closed");
            CloseReason::Reset
        })
    }

    /// Closes all that are idle at a server that does not answer: each of them would cost a login as much time.
    fn give_up(&self, server: SocketAddr) {
        tracing::warn!(addr = %server, "a server with idle connections does not answer; they are closed");
        let gone = self.lock().extract(|_, idle| idle.connection.leads_to(server));
        self.end(gone.into_iter().map(|idle| (idle.connection, CloseReason::Check)));
    }

    fn end(&self, connections: impl Iterator<Item = (IdleConnection, CloseReason)>) {
        for (connection, why) in connections {
            self.stats.closed(why);
            connection.terminate();
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdleSet<PoolKey, PooledConnection>> {
        // No code panics while it holds the lock, and the idle set is whole at every moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.closed.cancel(); // ends the task that keeps it tidy
    }
}

/// Ends with the pool, which cancels it.
async fn sweep_periodically(pool: Weak<Pool>) {
    let mut beat = interval(SWEEP_EVERY);
    loop {
        beat.tick().await;
        match pool.upgrade() {
            Some(pool) if !pool.closed.is_cancelled() => pool.sweep(),
            _ => return std::future::pending().await,
        }
    }
}

impl PoolSlot {
    /// A connection that was opened for the same person and the same wishes, as good as a new one: its server was
    /// asked. Those that turn out not to be good are closed.
    pub async fn take(&self) -> Option<(UpstreamSession, ConnectionOrigin)> {
        let taken = self.find().await;
        self.pool.stats.looked_up(taken.is_some());
        taken
    }

    async fn find(&self) -> Option<(UpstreamSession, ConnectionOrigin)> {
        let login =
            |idle: &PooledConnection| self.name.as_deref().is_none_or(|name| idle.parameters.has_name(name));
        let deadline = Instant::now() + CHECK_TIMEOUT;
        loop {
            let mut idle = self.pool.lock().take(&self.key, login)?;
            if let Some(why) = self.pool.unusable(&mut idle) {
                self.pool.end(std::iter::once((idle.connection, why)));
                continue;
            }
            let server = idle.connection.server();
            let PooledConnection { connection, mut parameters, cancel, statement_cancel, origin, .. } = idle;
            let mut stream = match connection.wake() {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "an idle connection cannot be used");
                    self.pool.stats.closed(CloseReason::Server);
                    continue;
                }
            };
            match timeout_at(deadline, check(&mut stream, &mut parameters, self.name.as_deref())).await {
                Ok(Ok(())) => {
                    let greeting = parameters.greeting();
                    return Some((UpstreamSession { stream, greeting, cancel, statement_cancel }, origin));
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "an idle connection is not as it was and is closed");
                    self.pool.end(std::iter::once((IdleConnection::new(stream), CloseReason::Check)));
                }
                Err(_) => {
                    self.pool.end(std::iter::once((IdleConnection::new(stream), CloseReason::Check)));
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
        let helps = |key: &PoolKey| match shortage {
            Shortage::Server => true,
            Shortage::Role => key.user == self.key.user,
            Shortage::Database => key.database == self.key.database,
        };
        let deadline = Instant::now() + ROOM_TIMEOUT;
        loop {
            let (oldest, more) = {
                let mut idle_set = self.pool.lock();
                let oldest = idle_set.take_oldest(|key, idle| helps(key) && idle.connection.leads_to(server));
                (oldest, idle_set.awaits(|key| helps(key) && key.cluster == self.key.cluster))
            };
            match oldest {
                Some(idle) => {
                    self.pool.stats.closed(CloseReason::Room);
                    idle.connection.end(ROOM_TIMEOUT).await;
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
    pub fn check_out(self, origin: ConnectionOrigin, greeting: &LoginGreeting) -> Option<PoolCheckout> {
        Some(PoolCheckout { slot: self, origin, parameters: ServerParameters::of(greeting)? })
    }
}

impl PoolCheckout {
    /// Resets the connection and keeps it, or closes it. The client is gone and waits for nothing.
    pub async fn give_back(self, returned: ReturnedConnection) {
        let Self { slot: PoolSlot { pool, key, .. }, origin, mut parameters } = self;
        let ReturnedConnection { mut stream, told_parameter, cancel, statement_cancel } = returned;
        let resetting = async {
            let cancel = cancel.map_err(|AlreadyUsed| CloseReason::Cancelled)?;
            if let Some(why) = pool.expired(&origin, Instant::now()) {
                return Err(why);
            }
            let reservation = SlotReservation::reserve(&pool, &key)?;
            pool.reset(&mut stream, &mut parameters, told_parameter).await?;
            Ok((reservation, cancel))
        };
        let kept = resetting.await;
        let mut connection = IdleConnection::new(stream);
        match kept {
            Err(why) => pool.end(std::iter::once((connection, why))),
            Ok(_) if !connection.is_quiet() => pool.end(std::iter::once((connection, CloseReason::Server))),
            Ok((reservation, cancel)) => {
                let since = Instant::now();
                reservation.fill(PooledConnection {
                    connection,
                    parameters,
                    cancel,
                    statement_cancel,
                    origin,
                    since,
                });
            }
        }
    }

    /// The connection ends with its session.
    pub fn discard(self) {
        self.slot.pool.stats.closed(CloseReason::Session);
    }
}

/// Room for one connection; given up when it is dropped unfilled.
struct SlotReservation<'a> {
    pool: &'a Pool,
    key: &'a Arc<PoolKey>,
    filled: bool,
}

impl<'a> SlotReservation<'a> {
    fn reserve(pool: &'a Pool, key: &'a Arc<PoolKey>) -> Result<Self, CloseReason> {
        if pool.closed.is_cancelled() {
            return Err(CloseReason::Pool);
        }
        let reserved = pool.lock().reserve(key).ok_or(CloseReason::Full)?;
        if let Reserved::InsteadOf(idle) = reserved {
            pool.end(std::iter::once((idle.connection, CloseReason::Full)));
        }
        Ok(Self { pool, key, filled: false })
    }

    fn fill(mut self, idle: PooledConnection) {
        let mut idle_set = self.pool.lock();
        // Looked at under the lock: whoever closes the pool empties the idle set under it afterwards.
        if self.pool.closed.is_cancelled() {
            drop(idle_set);
            return self.pool.end(std::iter::once((idle.connection, CloseReason::Pool)));
        }
        idle_set.put(self.key, idle);
        self.filled = true;
        self.pool.stats.kept();
    }
}

impl Drop for SlotReservation<'_> {
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
