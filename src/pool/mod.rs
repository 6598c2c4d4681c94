//! Connection pool: server connections of ended sessions, kept for further sessions of the same person with
//! the same startup parameters.
//!
//! idle -> checked out -> returned -> reset -> idle

mod idle;
mod idle_connection;
mod idle_set;
mod key;
pub mod stats;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::idle::IdleConnections;
use self::idle_connection::IdleConnection;
use self::idle_set::{IdleLimits, IdleSet, Reservation};
use self::key::PoolKey;
use self::stats::{CloseReason, PoolStats};
use crate::clock::Clock;
use crate::config::PoolSettings;
use crate::identity::Grant;
use crate::net::dial::ServerStream;
use crate::protocol::{AlreadyUsed, Protocol, ServerSession, Shortage};
use crate::supervisor::{TaskKind, TaskSupervisor};
use crate::sync::lock;

/// Interval of the sweep for expired connections and those closed by the server.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Longest time for freeing a connection slot at a server.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two checks for an idle connection while one is being reset.
const RESET_PAUSE: Duration = Duration::from_millis(10);

/// Facts about a connection's login.
#[derive(Clone, Debug)]
pub struct ConnectionOrigin {
    /// Time of the login.
    pub at: Instant,
    /// Expiry of the role credentials used for the login.
    pub credentials_expire_at: SystemTime,
    /// RoleSessionName of the credentials.
    pub role_session_name: String,
    /// Access key id of the credentials, which is not a secret.
    pub access_key_id: String,
}

/// Idle connections under one configuration.
pub struct Pool<P: Protocol> {
    settings: PoolSettings,
    clock: Clock,
    stats: Arc<PoolStats>,
    idle: Mutex<IdleSet<PoolKey, PooledConnection<P>>>,
    closed: CancellationToken,
}

/// An idle connection of the pool.
struct PooledConnection<P: Protocol> {
    connection: IdleConnection,
    parameters: P::Parameters,
    cancel: Option<P::CancelTarget>,
    statement_cancel: Option<P::StatementCancel>,
    origin: ConnectionOrigin,
    since: Instant,
}

/// Handle of a login to the pool.
#[derive(Debug)]
pub struct PoolSlot<P: Protocol> {
    pool: Arc<Pool<P>>,
    key: Arc<PoolKey>,
    /// The `application_name` that the session must have.
    name: Option<String>,
}

/// Facts kept while a pooled connection serves a session.
#[derive(Debug)]
pub struct PoolCheckout<P: Protocol> {
    slot: PoolSlot<P>,
    origin: ConnectionOrigin,
    parameters: P::Parameters,
}

/// A connection that its client has left idle.
#[derive(Debug)]
pub struct ReturnedConnection<P: Protocol> {
    /// The connection.
    pub stream: ServerStream,
    /// True if the server has reported a parameter to the client.
    pub told_parameter: bool,
    /// Target of cancels of the session; `Err` if a cancel was sent, `None` if the server has no cancel key.
    pub cancel: Result<Option<P::CancelTarget>, AlreadyUsed>,
    /// Way to cancel the statement of a returned session.
    pub statement_cancel: Option<P::StatementCancel>,
}

impl<P: Protocol> Pool<P> {
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
        let sweeper = Arc::downgrade(&pool);
        supervisor.spawn(TaskKind::PoolKeeper, pool.closed.clone(), move || {
            sweep_periodically(Weak::clone(&sweeper))
        });
        pool
    }

    /// Handle of a login. The grant proves that the login is permitted.
    pub fn slot(self: &Arc<Self>, grant: &Grant, startup: &P::Startup) -> PoolSlot<P> {
        let wishes = P::wishes(grant, startup);
        PoolSlot { pool: Arc::clone(self), key: Arc::new(PoolKey::of(grant, &wishes)), name: wishes.name }
    }

    /// Closes expired connections and those that their servers have closed.
    fn sweep(&self) {
        let mut reasons = Vec::new();
        let gone = self.lock().extract(|_, idle| {
            let why = self.unusable(idle);
            reasons.extend(why);
            why.is_some()
        });
        self.end(gone.into_iter().map(|idle| idle.connection).zip(reasons));
    }

    /// Reason to close an idle connection, if any.
    fn unusable(&self, idle: &mut PooledConnection<P>) -> Option<CloseReason> {
        let over = self.expired(&idle.origin, idle.since);
        over.or_else(|| (!idle.connection.is_quiet()).then_some(CloseReason::Server))
    }

    /// Reason why a connection idle since `since` has expired, if any.
    fn expired(&self, origin: &ConnectionOrigin, since: Instant) -> Option<CloseReason> {
        if origin.at.elapsed() >= self.settings.server_lifetime {
            return Some(CloseReason::Lifetime);
        }
        if self.clock.now() >= origin.credentials_expire_at {
            return Some(CloseReason::Credentials);
        }
        (since.elapsed() >= self.settings.server_idle_timeout).then_some(CloseReason::Idle)
    }

    /// Resets a session within the time limit of its protocol. Fails once the pool is closed.
    async fn reset(
        &self,
        stream: &mut ServerStream,
        parameters: &mut P::Parameters,
        ask: bool,
    ) -> Result<(), CloseReason> {
        let resetting = timeout(P::RESET_TIMEOUT, P::reset(stream, parameters, ask));
        let result = self.closed.run_until_cancelled(resetting).await.ok_or(CloseReason::Pool)?;
        let problem = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} seconds", P::RESET_TIMEOUT.as_secs()),
        };
        tracing::debug!(error = problem, "a connection could not be reset and is closed");
        Err(CloseReason::Reset)
    }

    /// Closes all idle connections to a server that does not answer, because each would cost a login the same
    /// time.
    fn give_up(&self, server: SocketAddr) {
        tracing::warn!(addr = %server, "server does not answer; closing its idle connections");
        let gone = self.lock().extract(|_, idle| idle.connection.leads_to(server));
        self.end(gone.into_iter().map(|idle| (idle.connection, CloseReason::Check)));
    }

    fn end(&self, connections: impl Iterator<Item = (IdleConnection, CloseReason)>) {
        for (connection, why) in connections {
            self.stats.closed(why);
            connection.terminate(P::TERMINATE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdleSet<PoolKey, PooledConnection<P>>> {
        lock(&self.idle)
    }
}

impl<P: Protocol> Drop for Pool<P> {
    fn drop(&mut self) {
        self.closed.cancel(); // ends the task that keeps it tidy
    }
}

/// Ends with the pool, which cancels it.
async fn sweep_periodically<P: Protocol>(pool: Weak<Pool<P>>) {
    let mut beat = interval(SWEEP_EVERY);
    loop {
        beat.tick().await;
        match pool.upgrade() {
            Some(pool) if !pool.closed.is_cancelled() => pool.sweep(),
            _ => return std::future::pending().await,
        }
    }
}

impl<P: Protocol> PoolSlot<P> {
    /// A connection that was opened for the same person and the same wishes, as good as a new one: its server was
    /// asked. Those that turn out not to be good are closed.
    pub async fn take(&self) -> Option<(ServerSession<P>, ConnectionOrigin)> {
        let taken = self.find().await;
        self.pool.stats.looked_up(taken.is_some());
        taken
    }

    async fn find(&self) -> Option<(ServerSession<P>, ConnectionOrigin)> {
        let login = |idle: &PooledConnection<P>| {
            self.name.as_deref().is_none_or(|name| P::has_name(&idle.parameters, name))
        };
        let deadline = Instant::now() + P::CHECK_TIMEOUT;
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
                    tracing::warn!(%error, "idle connection is unusable");
                    self.pool.stats.closed(CloseReason::Server);
                    continue;
                }
            };
            match timeout_at(deadline, P::check(&mut stream, &mut parameters, self.name.as_deref())).await {
                Ok(Ok(())) => {
                    let greeting = P::greeting(&parameters);
                    return Some((ServerSession { stream, greeting, cancel, statement_cancel }, origin));
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "idle connection failed its check; closing the connection");
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

    /// Frees a connection slot at a server that refused a login of this handle because of a shortage: closes
    /// the connection of any person that has been idle there longest. `false` if closing one would not
    /// help.
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
                    idle.connection.end(P::TERMINATE, ROOM_TIMEOUT).await;
                    return true;
                }
                // A connection is being reset.
                None if more && Instant::now() < deadline => sleep(RESET_PAUSE).await,
                None => return false,
            }
        }
    }

    /// Facts for keeping the connection when its session ends. `None` if the server's greeting is too large
    /// to keep.
    pub fn check_out(self, origin: ConnectionOrigin, greeting: &P::Greeting) -> Option<PoolCheckout<P>> {
        Some(PoolCheckout { slot: self, origin, parameters: P::parameters(greeting)? })
    }
}

impl<P: Protocol> PoolCheckout<P> {
    /// Resets the connection and keeps it, or closes it, also if it is not `wanted` any more. The client is gone and
    /// waits for nothing.
    pub async fn give_back(self, returned: ReturnedConnection<P>, wanted: impl Fn() -> bool) {
        let Self { slot: PoolSlot { pool, key, .. }, origin, mut parameters } = self;
        let ReturnedConnection { mut stream, told_parameter, cancel, statement_cancel } = returned;
        let resetting = async {
            let cancel = cancel.map_err(|AlreadyUsed| CloseReason::Cancelled)?;
            if let Some(why) = pool.expired(&origin, Instant::now()) {
                return Err(why);
            }
            if !wanted() {
                return Err(CloseReason::Pool);
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
                let idle =
                    PooledConnection { connection, parameters, cancel, statement_cancel, origin, since };
                reservation.fill(idle, wanted);
            }
        }
    }

    /// Records that the connection ends with its session.
    pub fn discard(self) {
        self.slot.pool.stats.closed(CloseReason::Session);
    }
}

/// Reservation for one connection, released on drop unless filled.
struct SlotReservation<'a, P: Protocol> {
    pool: &'a Pool<P>,
    key: &'a Arc<PoolKey>,
    filled: bool,
}

impl<'a, P: Protocol> SlotReservation<'a, P> {
    fn reserve(pool: &'a Pool<P>, key: &'a Arc<PoolKey>) -> Result<Self, CloseReason> {
        if pool.closed.is_cancelled() {
            return Err(CloseReason::Pool);
        }
        let reserved = pool.lock().reserve(key).ok_or(CloseReason::Full)?;
        if let Reservation::InsteadOf(idle) = reserved {
            pool.end(std::iter::once((idle.connection, CloseReason::Full)));
        }
        Ok(Self { pool, key, filled: false })
    }

    fn fill(mut self, idle: PooledConnection<P>, wanted: impl Fn() -> bool) {
        let mut idle_set = self.pool.lock();
        // Checked under the lock, because a close empties the idle set under it afterwards.
        if self.pool.closed.is_cancelled() || !wanted() {
            drop(idle_set);
            return self.pool.end(std::iter::once((idle.connection, CloseReason::Pool)));
        }
        idle_set.put(self.key, idle);
        self.filled = true;
        self.pool.stats.kept();
    }
}

impl<P: Protocol> Drop for SlotReservation<'_, P> {
    fn drop(&mut self) {
        if !self.filled {
            self.pool.lock().release(self.key);
        }
    }
}

impl<P: Protocol> fmt::Debug for Pool<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool with {} idle", self.idle())
    }
}

#[cfg(test)]
mod tests;
