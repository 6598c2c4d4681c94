//! One current-thread runtime per core; a session is handed to the core with the fewest and never leaves it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::client::listener::Listener;
use crate::limits::Place;
use crate::session::{self, Steps};

/// Accepted connections on their way to a core.
const HAND_OUT: usize = 64;

/// An accepted connection, and what it will meet: the configuration of this moment, for as long as it lives.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) tcp: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) steps: Arc<Steps>,
    pub(super) listener: Arc<Listener>,
    pub(super) place: Place,
}

enum Message {
    Serve(Box<Job>),
    /// Dropped by a core that still runs.
    Pulse(oneshot::Sender<()>),
}

/// The threads that sessions live on.
#[derive(Debug)]
pub struct Cores(Vec<Core>);

#[derive(Debug)]
struct Core {
    messages: mpsc::Sender<Message>,
    sessions: Arc<AtomicUsize>,
    idle: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// Tells whether all cores still run.
#[derive(Debug)]
pub struct Pulse(Vec<mpsc::WeakSender<Message>>);

impl Pulse {
    /// Waits until each core has taken a message. A core that has ended because it was told to is well.
    pub async fn feel(&self) {
        for core in self.0.iter().filter_map(mpsc::WeakSender::upgrade) {
            let (sender, taken) = oneshot::channel();
            if core.send(Message::Pulse(sender)).await.is_ok() {
                drop(core);
                let _ = taken.await; // an error is the sign of life: the core has dropped it
            }
        }
    }
}

impl Cores {
    /// Starts `count` threads, at least one.
    pub fn start(count: usize) -> io::Result<Self> {
        (0..count.max(1)).map(Core::start).collect::<io::Result<_>>().map(Self)
    }

    /// How many threads there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many sessions there are, those that are logging in included.
    pub fn sessions(&self) -> usize {
        self.0.iter().map(|core| core.sessions.load(Ordering::Relaxed)).sum()
    }

    /// For the watchdog.
    pub fn pulse(&self) -> Pulse {
        Pulse(self.0.iter().map(|core| core.messages.downgrade()).collect())
    }

    /// To the core with the fewest sessions: hashing by the kernel would leave a few sessions on one core.
    pub(super) async fn serve(&self, job: Job) {
        let Some(core) = self.0.iter().min_by_key(|core| core.sessions.load(Ordering::Relaxed)) else {
            return;
        };
        core.sessions.fetch_add(1, Ordering::Relaxed);
        if core.messages.send(Message::Serve(Box::new(job))).await.is_err() {
            core.sessions.fetch_sub(1, Ordering::Relaxed);
            tracing::error!("a session thread has ended; its connection is closed");
        }
    }

    /// Waits for the last session. No new ones can come.
    pub async fn ended(self) {
        for core in self.0 {
            drop(core.messages);
            let _ = core.idle.await; // an error means the thread has ended, and its sessions with it
            let _ = core.thread.join();
        }
    }
}

impl Core {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (messages, mut incoming) = mpsc::channel(HAND_OUT);
        let (all_ended, idle) = oneshot::channel();
        let sessions = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sessions);
        let run = move || {
            runtime.block_on(async move {
                let tasks = TaskTracker::new();
                while let Some(message) = incoming.recv().await {
                    match message {
                        Message::Serve(job) => drop(tasks.spawn(run(*job, Counted(Arc::clone(&count))))),
                        Message::Pulse(alive) => drop(alive),
                    }
                }
                tasks.close();
                tasks.wait().await;
            });
            let _ = all_ended.send(()); // nobody may be waiting
        };
        let thread = thread::Builder::new().name(format!("sessions-{number}")).spawn(run)?;
        Ok(Self { messages, sessions, idle, thread })
    }
}

async fn run(job: Job, session: Counted) {
    let Job { tcp, peer, steps, listener, place } = job;
    // Accepted on another runtime's reactor: its socket has to be registered with this one.
    match tcp.into_std().and_then(TcpStream::from_std) {
        Ok(tcp) => Box::pin(session::serve(steps, &listener, (tcp, peer), place)).await,
        Err(error) => tracing::warn!(%error, "a connection could not be handed to its core"),
    }
    drop(session);
}

/// Counts a session out when it ends, also by a panic.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
