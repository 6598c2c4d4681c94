//! Accepting clients and handing them out: one acceptor, one current-thread runtime per core, each new
//! session to the core with the fewest; a session never leaves its thread. And ending them all.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::client::listener::Listener;
use crate::session::{self, Place, Steps};

/// Connections the kernel may hold for us while we are busy; it caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 1_024;

/// Accepted connections on their way to a core.
const HAND_OVER: usize = 64;

/// Connections above `max_client_conn` that are told so at the same time; more are closed in silence.
const MAX_REFUSALS: usize = 64;

/// Pause after the first failed accept, doubled up to [`MAX_PAUSE`]: without one, a process that has run out
/// of descriptors spins.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Listens on `addr`.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// A listening socket, and what its clients meet.
#[derive(Debug)]
pub struct Door {
    /// Where they connect.
    pub socket: TcpListener,
    /// What they meet.
    pub listener: Arc<Listener>,
}

/// Serves clients of `doors` until `until` completes, then closes them. Sessions go on in the returned
/// [`Sessions`].
pub async fn accept(
    doors: Vec<Door>,
    steps: Arc<Steps>,
    cores: usize,
    until: impl Future<Output = ()>,
) -> io::Result<Sessions> {
    let limit = steps.max_client_conn();
    let seats = Arc::new(Semaphore::new(limit));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let cores = (0..cores.max(1)).map(|n| Core::start(n, &steps)).collect::<io::Result<Vec<_>>>()?;
    let mut until = std::pin::pin!(until);
    let mut pause = FIRST_PAUSE;
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut until => break,
            accepted = next(&doors, &mut turn) => accepted,
        };
        match accepted {
            Ok((tcp, peer, listener)) => {
                pause = FIRST_PAUSE;
                let place = match Arc::clone(&seats).try_acquire_owned() {
                    Ok(seat) => Place::Seat(seat),
                    Err(_) => match Arc::clone(&refusals).try_acquire_owned() {
                        Ok(standing) => Place::Full { limit, _standing: standing },
                        Err(_) => continue, // closed: even saying no has a limit
                    },
                };
                hand_over(&cores, Job { tcp, peer, listener, place }).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; pausing");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
    Ok(Sessions { cores })
}

/// The next client of any door. Doors take turns, so that a busy one does not starve the others.
async fn next(doors: &[Door], turn: &mut usize) -> io::Result<(TcpStream, SocketAddr, Arc<Listener>)> {
    poll_fn(|cx| {
        let from = *turn % doors.len().max(1);
        let (later, first) = doors.split_at(from);
        for (number, door) in first.iter().chain(later).enumerate() {
            if let Poll::Ready(accepted) = door.socket.poll_accept(cx) {
                *turn = from + number + 1;
                return Poll::Ready(accepted.map(|(tcp, peer)| (tcp, peer, Arc::clone(&door.listener))));
            }
        }
        Poll::Pending
    })
    .await
}

/// To the core with the fewest sessions: hashing by the kernel would leave a few sessions on one core.
async fn hand_over(cores: &[Core], job: Job) {
    let Some(core) = cores.iter().min_by_key(|core| core.sessions.load(Ordering::Relaxed)) else { return };
    core.sessions.fetch_add(1, Ordering::Relaxed);
    if core.jobs.send(job).await.is_err() {
        core.sessions.fetch_sub(1, Ordering::Relaxed);
        tracing::error!("a session thread has ended; its connection is closed");
    }
}

/// The sessions that go on after the listener is closed.
#[derive(Debug)]
pub struct Sessions {
    cores: Vec<Core>,
}

impl Sessions {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.cores.iter().map(|core| core.sessions.load(Ordering::Relaxed)).sum()
    }

    /// Waits for the last one.
    pub async fn ended(self) {
        for core in self.cores {
            drop(core.jobs);
            let _ = core.idle.await; // an error means the thread has ended, and its sessions with it
            let _ = core.thread.join();
        }
    }
}

struct Job {
    tcp: TcpStream,
    peer: SocketAddr,
    listener: Arc<Listener>,
    place: Place<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Core {
    jobs: mpsc::Sender<Job>,
    sessions: Arc<AtomicUsize>,
    idle: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Core {
    fn start(number: usize, steps: &Arc<Steps>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (jobs, mut incoming) = mpsc::channel::<Job>(HAND_OVER);
        let (all_ended, idle) = oneshot::channel();
        let sessions = Arc::new(AtomicUsize::new(0));
        let (count, steps) = (Arc::clone(&sessions), Arc::clone(steps));
        let run = move || {
            runtime.block_on(async move {
                let tasks = TaskTracker::new();
                while let Some(job) = incoming.recv().await {
                    let session = Counted(Arc::clone(&count));
                    tasks.spawn(run_session(Arc::clone(&steps), job, session));
                }
                tasks.close();
                tasks.wait().await;
            });
            let _ = all_ended.send(()); // nobody may be waiting
        };
        let thread = thread::Builder::new().name(format!("sessions-{number}")).spawn(run)?;
        Ok(Self { jobs, sessions, idle, thread })
    }
}

async fn run_session(steps: Arc<Steps>, job: Job, session: Counted) {
    // Accepted on another runtime's reactor: its socket has to be registered with this one.
    match job.tcp.into_std().and_then(TcpStream::from_std) {
        Ok(tcp) => Box::pin(session::serve(&steps, &job.listener, tcp, job.peer, job.place)).await,
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
