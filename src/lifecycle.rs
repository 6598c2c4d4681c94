//! Signals and the service manager: stop, reload, and notifications to systemd.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::supervisor::{TaskName, TaskSupervisor};

/// Time between two health checks of the tasks.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Stop requests in three degrees. Each includes the ones before.
#[derive(Clone, Debug, Default)]
pub struct ShutdownTokens {
    /// Stop requested: `/readyz` fails, and clients are served until the listeners close.
    pub asked: CancellationToken,
    /// Listeners are closed. Each session ends at the next moment without a transaction or query.
    pub drain: CancellationToken,
    /// All sessions end immediately.
    pub now: CancellationToken,
}

impl ShutdownTokens {
    /// Requests a graceful stop, unless one was requested before.
    pub fn ask(&self) {
        if self.asked.is_cancelled() {
            return;
        }
        self.asked.cancel();
        tracing::info!("stopping: /readyz answers 503; a second signal ends all sessions immediately");
        notify(&[NotifyState::Stopping, NotifyState::Status("stopping: waiting for sessions to end")]);
    }

    /// True if a stop was requested, so that new clients should go elsewhere.
    pub fn is_over(&self) -> bool {
        self.asked.is_cancelled() || self.drain.is_cancelled()
    }
}

/// Reloads that operators request on the console, and their results.
#[derive(Debug)]
pub struct ReloadRequests {
    wanted: Notify,
    asked: AtomicU64,
    /// Number of the last request that was served, and its result.
    served: watch::Sender<(u64, Result<(), String>)>,
}

impl Default for ReloadRequests {
    fn default() -> Self {
        Self { wanted: Notify::new(), asked: AtomicU64::new(0), served: watch::Sender::new((0, Ok(()))) }
    }
}

impl ReloadRequests {
    /// Requests a reload and waits for its result. A reload that began before the request does not count.
    pub async fn request(&self) -> Result<(), String> {
        let mut served = self.served.subscribe();
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wanted.notify_one();
        let result = served.wait_for(|(last, _)| *last >= number).await;
        result.map_or_else(|_| Err("the service is stopping".to_owned()), |result| result.1.clone())
    }

    /// Waits for a request.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Number of the last request so far; a reload that begins now serves it.
    pub fn last(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Answers the requests up to `number`.
    pub fn serve(&self, number: u64, result: Result<(), String>) {
        drop(self.served.send_replace((number, result)));
    }
}

/// Receivers of the signals that stop or reload the service.
#[derive(Debug)]
pub struct ServiceSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl ServiceSignals {
    /// Starts to receive. From here on these signals no longer kill the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into `shutdown`: the first SIGTERM or SIGINT requests a graceful stop; a second one, or
    /// SIGQUIT, ends all sessions immediately. Until then each SIGHUP notifies `reload`; SIGHUPs during a
    /// reload are merged. Returns when no further request is possible. Can be called again after a panic,
    /// because the requested degree is kept in `shutdown` and carried out before anything is reported.
    pub async fn drive(&mut self, shutdown: &ShutdownTokens, reload: &Notify) {
        let first = tokio::select! {
            biased;
            () = shutdown.asked.cancelled() => SignalAction::Drain, // by an operator, or before a panic
            first = self.next(Some(reload)) => first,
        };
        if first == SignalAction::Drain {
            shutdown.ask();
            self.next(None).await;
        }
        shutdown.asked.cancel();
        shutdown.drain.cancel();
        shutdown.now.cancel();
        tracing::info!("stopping immediately");
        notify(&[NotifyState::Stopping, NotifyState::Status("stopping immediately")]);
    }

    async fn next(&mut self, reload: Option<&Notify>) -> SignalAction {
        loop {
            tokio::select! {
                biased; // a reload requested together with a stop is skipped
                _ = self.quit.recv() => return SignalAction::Now,
                _ = self.terminate.recv() => return SignalAction::Drain,
                _ = self.interrupt.recv() => return SignalAction::Drain,
                _ = self.hangup.recv() => match reload {
                    Some(reload) => reload.notify_one(),
                    None => tracing::info!("SIGHUP ignored: the service is stopping"),
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum SignalAction {
    Drain,
    Now,
}

/// Notifies systemd, if it started the process, that the service accepts clients.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Notifies systemd that a reload has begun; [`ready`] ends it (`Type=notify-reload`, systemd 253; older
/// versions show it as a status).
pub fn reloading() {
    let since = NotifyState::monotonic_usec_now();
    match since {
        Ok(since) => notify(&[NotifyState::Reloading, since]),
        Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// Checks the health of all tasks every second, logs each fault and its end, and feeds the systemd watchdog
/// while there is no fault, at twice the requested rate or faster. Never returns.
pub async fn monitor(supervisor: &TaskSupervisor) {
    let watchdog = sd_notify::watchdog_enabled();
    let mut beat = interval(watchdog.map_or(CHECK_EVERY, |limit| CHECK_EVERY.min(limit / 2)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported: Vec<TaskName> = Vec::new();
    loop {
        beat.tick().await;
        let faults = supervisor.faults();
        for fault in faults.iter().filter(|fault| !reported.contains(&fault.task)) {
            tracing::error!(task = %fault.task, %fault, "task is not working");
        }
        for task in reported.iter().filter(|task| faults.iter().all(|fault| fault.task != **task)) {
            tracing::info!(%task, "task works again");
        }
        if faults.is_empty() && watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        reported = faults.into_iter().map(|fault| fault.task).collect();
    }
}

/// Sends states to the service manager, if there is one. Never waits for it.
fn notify(states: &[NotifyState<'_>]) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(path.as_bytes(), states) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}

/// Sends one datagram with a line per state (`sd_notify(3)`). `@` begins an abstract socket name.
fn send(path: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    let addr = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
    socket.send_to_addr(lines.join("\n").as_bytes(), &addr).map(drop)
}
