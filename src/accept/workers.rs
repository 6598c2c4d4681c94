//! Worker threads, one current-thread runtime per core. A session is assigned to the worker with the fewest
//! sessions and stays there.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_util::FutureExt;
use futures_util::future::select_ok;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::names::client_addr::ClientAddr;
use crate::net::client_socket::ClientSocket;
use crate::session::listener::ListenerService;
use crate::session::permits::ConnectionAdmission;
use crate::session::shared::Shared;
use crate::supervisor::{Heartbeat, TaskKind, TaskName, TaskSupervisor};

/// Capacity of a worker's queue of accepted connections.
const HAND_OUT: usize = 64;

/// An accepted connection and the listener's service of the current configuration.
#[derive(Debug)]
pub(crate) struct AcceptedConnection {
    pub(crate) socket: ClientSocket,
    pub(crate) peer: ClientAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) service: Arc<dyn ListenerService>,
    pub(crate) admission: ConnectionAdmission,
}

/// A connection that counts as a session of its worker.
type SessionGuard = (Box<AcceptedConnection>, WorkerSession);

/// The threads that run sessions.
#[derive(Debug)]
pub struct WorkerThreads {
    cores: Vec<WorkerThread>,
    /// Cancelled when no new sessions are accepted.
    closing: CancellationToken,
}

#[derive(Debug)]
struct WorkerThread {
    jobs: mpsc::Sender<SessionGuard>,
    sessions: Arc<AtomicUsize>,
    heartbeat: Heartbeat,
    /// Cancelled when the thread and its sessions have ended.
    ended: CancellationToken,
}

impl WorkerThreads {
    /// Starts `count` threads, at least one. Each is a task of `supervisor`, which restarts a worker's
    /// receiver after a panic while its sessions continue.
    pub fn start(count: usize, supervisor: &TaskSupervisor) -> io::Result<Self> {
        let closing = CancellationToken::new();
        let workers = (0..count.max(1)).map(|number| WorkerThread::start(number, supervisor, &closing));
        Ok(Self { cores: workers.collect::<io::Result<_>>()?, closing })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.cores.len()
    }

    /// Number of sessions, including those that are logging in.
    pub fn sessions(&self) -> usize {
        self.cores.iter().map(|worker| worker.sessions.load(Ordering::Relaxed)).sum()
    }

    /// Hands a connection to the worker with the fewest sessions; balancing by the kernel's hash would leave
    /// a few sessions on one core. Workers that are stalled, ended or full are skipped.
    pub(crate) async fn serve(&self, connection: AcceptedConnection) {
        let mut workers: Vec<_> = self.cores.iter().collect();
        workers.sort_unstable_by_key(|worker| {
            (!worker.heartbeat.is_recent(), worker.sessions.load(Ordering::Relaxed))
        });
        let mut connection = Box::new(connection);
        for worker in &workers {
            match worker.jobs.try_send((connection, WorkerSession::one(&worker.sessions))) {
                Ok(()) => return,
                Err(TrySendError::Full((back, _)) | TrySendError::Closed((back, _))) => connection = back,
            }
        }
        let room = workers.into_iter().map(|worker| {
            Box::pin(async move {
                worker.jobs.reserve().await.map(|room| (room, WorkerSession::one(&worker.sessions)))
            })
        });
        match select_ok(room).await {
            Ok(((room, count), _)) => room.send((connection, count)),
            Err(_) => {
                if let Some(left_out) = connection.shared.log.noise().line("no_session_thread") {
                    tracing::error!(left_out, "all worker threads have ended; closing the connection");
                }
            }
        }
    }

    /// Waits for the last session. New ones are rejected.
    pub async fn ended(&self) {
        self.closing.cancel();
        for worker in &self.cores {
            worker.ended.cancelled().await;
        }
    }
}

impl WorkerThread {
    fn start(number: usize, supervisor: &TaskSupervisor, closing: &CancellationToken) -> io::Result<Self> {
        let (jobs, incoming) = mpsc::channel(HAND_OUT);
        let entry = supervisor.register(TaskName::of(TaskKind::SessionThread, number));
        let (heartbeat, ended) = (entry.heartbeat(), CancellationToken::new());
        let (closing, end) = (closing.clone(), ended.clone());
        // The thread is spawned first: an unused runtime must not be dropped in an asynchronous context.
        let (give, given) = std::sync::mpsc::channel::<Runtime>();
        let run = move || {
            let _end = end.clone().drop_guard(); // also when the thread dies
            let (incoming, tasks) = (Mutex::new(incoming), TaskTracker::new());
            let receive = || async {
                receive(&mut *incoming.lock().await, &closing, &tasks).await;
                end.cancel();
            };
            if let Ok(runtime) = given.recv() {
                runtime.block_on(entry.run_thread(&end, receive));
            }
        };
        thread::Builder::new().name(format!("sessions-{number}")).spawn(run)?;
        // Sessions make no blocking calls.
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let _ = give.send(runtime); // the thread waits for it
        Ok(Self { jobs, sessions: Arc::default(), heartbeat, ended })
    }
}

/// Starts sessions until the queue is closed, then waits for their end.
async fn receive(
    incoming: &mut mpsc::Receiver<SessionGuard>,
    closing: &CancellationToken,
    tasks: &TaskTracker,
) {
    loop {
        let received = tokio::select! {
            biased;
            received = incoming.recv() => received,
            () = closing.cancelled(), if !incoming.is_closed() => {
                incoming.close(); // those who are in the queue are served
                continue;
            }
        };
        let Some((connection, count)) = received else { break };
        drop(tasks.spawn(run(*connection, count)));
    }
    tasks.close();
    tasks.wait().await;
}

/// Runs one connection. A panic ends only this connection.
async fn run(connection: AcceptedConnection, count: WorkerSession) {
    let AcceptedConnection { socket, peer, shared, service, admission } = connection;
    // Accepted on another runtime's reactor, so the socket has to be registered with this one.
    match socket.reregister() {
        Ok(socket) => {
            let serving = service.serve((socket, peer), admission);
            drop(service); // a long session must not keep alive what a reload has replaced
            if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                shared.metrics.connections.aborted();
            }
        }
        Err(error) => {
            if let Some(left_out) = shared.log.noise().line("handing_over") {
                tracing::warn!(%error, left_out, "a connection could not be moved to its worker");
            }
        }
    }
    drop(count);
}

/// Guard that counts one session of a worker until it is dropped: at the session's end, in a panic, or with a
/// connection that no worker accepts.
#[derive(Debug)]
struct WorkerSession(Arc<AtomicUsize>);

impl WorkerSession {
    fn one(sessions: &Arc<AtomicUsize>) -> Self {
        sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(sessions))
    }
}

impl Drop for WorkerSession {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
