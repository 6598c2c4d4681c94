//! Signals and the service manager: when to stop, how patiently, when to reload, and telling systemd.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The three degrees of stopping, each of which includes the ones before.
#[derive(Clone, Debug, Default)]
pub struct Stopping {
    /// New clients should go elsewhere; listeners close when they have been told so long enough.
    pub asked: CancellationToken,
    /// Listeners are closed; sessions end when it does them no harm.
    pub drain: CancellationToken,
    /// End every session now.
    pub now: CancellationToken,
}

impl Stopping {
    /// Whether new clients should still come.
    pub fn is_over(&self) -> bool {
        self.asked.is_cancelled() || self.drain.is_cancelled()
    }
}

/// The signals that end the service or change it.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts to listen; from here on these signals no longer kill the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into `stopping`: the first SIGTERM or SIGINT asks everybody to leave, the second one, or a
    /// SIGQUIT, ends everything at once. Until then each SIGHUP wakes whoever waits for `reload`; those that come
    /// while it is busy are one. Returns when nothing more can be asked for.
    pub async fn drive(mut self, stopping: &Stopping, reload: &Notify) {
        if self.next(Some(reload)).await == Asked::Drain {
            tracing::info!("stopping: no new clients; a second signal ends all sessions at once");
            notify(&[NotifyState::Stopping, NotifyState::Status("stopping: sessions may end by themselves")]);
            stopping.asked.cancel();
            self.next(None).await;
        }
        tracing::info!("stopping at once");
        notify(&[NotifyState::Stopping, NotifyState::Status("stopping at once")]);
        stopping.asked.cancel();
        stopping.drain.cancel();
        stopping.now.cancel();
    }

    async fn next(&mut self, reload: Option<&Notify>) -> Asked {
        loop {
            tokio::select! {
                biased; // a reload that is asked for together with the end is not worth beginning
                _ = self.quit.recv() => return Asked::Now,
                _ = self.terminate.recv() => return Asked::Drain,
                _ = self.interrupt.recv() => return Asked::Drain,
                _ = self.hangup.recv() => match reload {
                    Some(reload) => reload.notify_one(),
                    None => tracing::info!("SIGHUP is ignored: the service is stopping"),
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Asked {
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

/// Tells systemd that the service is well, as long as `pulse` says so, at half the interval it asks for, if it
/// asks. Never returns.
pub async fn feed_watchdog<F: Future<Output = ()>>(pulse: impl Fn() -> F) {
    let Some(interval) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut beat = tokio::time::interval(interval / 2);
    loop {
        beat.tick().await;
        pulse().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
