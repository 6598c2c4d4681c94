//! Signals and the service manager: when to stop, how patiently, when to reload, and telling systemd.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::supervisor::{TaskName, TaskSupervisor};

/// Time between two looks at the health of the tasks.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The three degrees of stopping, each of which includes the ones before.
#[derive(Clone, Debug, Default)]
pub struct ShutdownTokens {
    /// The service is asked to stop: `/readyz` says so, and clients are served until the listeners close.
    pub asked: CancellationToken,
    /// Listeners are closed; sessions end when it does them no harm.
    pub drain: CancellationToken,
    /// End every session now.
    pub now: CancellationToken,
}

impl ShutdownTokens {
    /// Whether the service is asked to stop, so that new clients should go elsewhere.
    pub fn is_over(&self) -> bool {
        self.asked.is_cancelled() || self.drain.is_cancelled()
    }
}

/// The signals that end the service or change it.
#[derive(Debug)]
pub struct ServiceSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl ServiceSignals {
    /// Starts to listen; from here on these signals no longer kill the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into `shutdown`: the first SIGTERM or SIGINT asks everybody to leave, the second one, or a
    /// SIGQUIT, ends everything at once. Until then each SIGHUP wakes whoever waits for `reload`; those that come
    /// while it is busy are one. Returns when nothing more can be asked for. Can be called again after a panic: what
    /// has been asked for is in `shutdown`, and is done before it is told.
    pub async fn drive(&mut self, shutdown: &ShutdownTokens, reload: &Notify) {
        let first =
            if shutdown.asked.is_cancelled() { SignalAction::Drain } else { self.next(Some(reload)).await };
        if first == SignalAction::Drain {
            if !shutdown.asked.is_cancelled() {
                shutdown.asked.cancel();
                tracing::info!("stopping: /readyz answers 503; a second signal ends all sessions at once");
                notify(&[
                    NotifyState::Stopping,
                    NotifyState::Status("stopping: sessions may end by themselves"),
                ]);
            }
            self.next(None).await;
        }
        shutdown.asked.cancel();
        shutdown.drain.cancel();
        shutdown.now.cancel();
        tracing::info!("stopping at once");
        notify(&[NotifyState::Stopping, NotifyState::Status("stopping at once")]);
    }

    async fn next(&mut self, reload: Option<&Notify>) -> SignalAction {
        loop {
            tokio::select! {
                biased; // a reload that is asked for together with the end is not worth beginning
                _ = self.quit.recv() => return SignalAction::Now,
                _ = self.terminate.recv() => return SignalAction::Drain,
                _ = self.interrupt.recv() => return SignalAction::Drain,
                _ = self.hangup.recv() => match reload {
                    Some(reload) => reload.notify_one(),
                    None => tracing::info!("SIGHUP is ignored: the service is stopping"),
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

/// Tells systemd, if it started us, that clients can come.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd that the configuration is being read again; [`ready`] tells it that this is over
/// (`Type=notify-reload`, systemd 253; older ones take it for a status).
pub fn reloading() {
    let since = NotifyState::monotonic_usec_now();
    match since {
        Ok(since) => notify(&[NotifyState::Reloading, since]),
        Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// Looks at the health of all tasks every second, logs each fault and its end, and tells systemd that the service is
/// well as long as there is none, at least at half the interval it asks for, if it asks. Never returns.
pub async fn monitor(supervisor: &TaskSupervisor) {
    let watchdog = sd_notify::watchdog_enabled();
    let mut beat = interval(watchdog.map_or(CHECK_EVERY, |limit| CHECK_EVERY.min(limit / 2)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Vec<TaskName> = Vec::new();
    loop {
        beat.tick().await;
        let faults = supervisor.faults();
        for fault in faults.iter().filter(|fault| !told.contains(&fault.task)) {
            tracing::error!(task = %fault.task, %fault, "a task of the service does not work");
        }
        for task in told.iter().filter(|task| faults.iter().all(|fault| fault.task != **task)) {
            tracing::info!(%task, "a task of the service works again");
        }
        if faults.is_empty() && watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        told = faults.into_iter().map(|fault| fault.task).collect();
    }
}

/// Tells the service manager, if one listens. A manager that does not read is not waited for.
fn notify(states: &[NotifyState<'_>]) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(path.as_bytes(), states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// One datagram with a line for each state (`sd_notify(3)`); `@` begins the name of an abstract socket.
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
