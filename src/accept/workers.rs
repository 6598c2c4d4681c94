//! One current-thread runtime per core; a session is handed to the core with the fewest and never leaves it.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_util::FutureExt;
use futures_util::future::select_ok;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::postgres::listener::Listener;
use crate::session::permits::ConnectionAdmission;
use crate::session::{self, SessionContext};
use crate::supervisor::{Heartbeat, TaskKind, TaskName, TaskSupervisor};

/// Accepted connections on their way to a core.
const HAND_OUT: usize = 64;

/// An accepted connection, and what it will meet: the configuration of this moment, for as long as it lives.
#[derive(Debug)]
pub(crate) struct AcceptedConnection {
    pub(crate) tcp: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) context: Arc<SessionContext>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) admission: ConnectionAdmission,
}

/// A job that is counted as a session of its core.
type SessionGuard = (Box<AcceptedConnection>, Count);

/// The threads that sessions live on.
#[derive(Debug)]
pub struct WorkerThreads {
    cores: Vec<WorkerThread>,
    /// No new sessions come.
    closing: CancellationToken,
}

#[derive(Debug)]
struct WorkerThread {
    jobs: mpsc::Sender<SessionGuard>,
    sessions: Arc<AtomicUsize>,
    heartbeat: Heartbeat,
    /// The thread has ended, and its sessions with it.
    ended: CancellationToken,
}

impl WorkerThreads {
    /// Starts `count` threads, at least one. Each is a task of `supervisor`, whose receiving end begins again after a
    /// fault while its sessions go on.
    pub fn start(count: usize, supervisor: &TaskSupervisor) -> io::Result<Self> {
        let closing = CancellationToken::new();
        let workers = (0..count.max(1)).map(|number| WorkerThread::start(number, supervisor, &closing));
        Ok(Self { cores: workers.collect::<io::Result<_>>()?, closing })
    }

    /// How many threads there are.
    pub fn count(&self) -> usize {
        self.cores.len()
    }

    /// How many sessions there are, those that are logging in included.
    pub fn sessions(&self) -> usize {
        self.cores.iter().map(|worker| worker.sessions.load(Ordering::Relaxed)).sum()
    }

    /// To the core with the fewest sessions: hashing by the kernel would leave a few sessions on one core. A core that
    /// does not answer, has ended or has no room for one more is passed over.
    pub(crate) async fn serve(&self, connection: AcceptedConnection) {
        let mut workers: Vec<_> = self.cores.iter().collect();
        workers
            .sort_by_key(|worker| (!worker.heartbeat.is_recent(), worker.sessions.load(Ordering::Relaxed)));
        let mut connection = Box::new(connection);
        for worker in &workers {
            match worker.jobs.try_send((connection, Count::one(&worker.sessions))) {
                Ok(()) => return,
                Err(TrySendError::Full((back, _)) | TrySendError::Closed((back, _))) => connection = back,
            }
        }
        let room = workers.into_iter().map(|worker| {
            Box::pin(
                async move { worker.jobs.reserve().await.map(|room| (room, Count::one(&worker.sessions))) },
            )
        });
        match select_ok(room).await {
            Ok(((room, count), _)) => room.send((connection, count)),
            Err(_) => {
                if let Some(left_out) = connection.context.noise.line("no_session_thread") {
                    tracing::error!(left_out, "all session threads have ended; a connection is closed");
                }
            }
        }
    }

    /// Waits for the last session. New ones are not taken any more.
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
        // The thread first: a runtime that no thread takes could not be dropped here, in an asynchronous context.
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
        // Sessions block in nothing.
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let _ = give.send(runtime); // the thread waits for it
        Ok(Self { jobs, sessions: Arc::default(), heartbeat, ended })
    }
}

/// Begins sessions until no more can come, and waits for their end.
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

/// Serves one connection. A panic ends it, and nothing else.
async fn run(connection: AcceptedConnection, count: Count) {
    let AcceptedConnection { tcp, peer, context, listener, admission } = connection;
    let metrics = Arc::clone(&context.metrics);
    // Accepted on another runtime's reactor: its socket has to be registered with this one.
    match tcp.into_std().and_then(TcpStream::from_std) {
        Ok(tcp) => {
            let serving = Box::pin(session::serve(context, &listener, (tcp, peer), admission));
            if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                metrics.connection_aborted();
            }
        }
        Err(error) => {
            if let Some(left_out) = context.noise.line("handing_over") {
                tracing::warn!(%error, left_out, "a connection could not be handed to its core");
            }
        }
    }
    drop(count);
}

/// One session of a core, until it is dropped: at its end, also by a panic, or with a job that no core takes.
#[derive(Debug)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn one(sessions: &Arc<AtomicUsize>) -> Self {
        sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(sessions))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
