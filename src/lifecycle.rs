//! Signals and the service manager: when to stop, how patiently, and telling systemd.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two degrees of stopping.
#[derive(Clone, Debug, Default)]
pub struct Stopping {
    /// Take no new clients; let sessions end by themselves.
    pub drain: CancellationToken,
    /// End every session now.
    pub now: CancellationToken,
}

/// The signals that end the service.
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

    /// Turns signals into `stopping`: the first SIGTERM or SIGINT drains, the second one, or a SIGQUIT,
    /// ends everything at once. Returns when nothing more can be asked for.
    pub async fn drive(mut self, stopping: &Stopping) {
        if self.next().await == Asked::Drain {
            tracing::info!("stopping: no new clients; a second signal ends all sessions at once");
            notify(&[NotifyState::Stopping]);
            stopping.drain.cancel();
            self.next().await;
        }
        tracing::info!("stopping at once");
        notify(&[NotifyState::Stopping]);
        stopping.drain.cancel();
        stopping.now.cancel();
    }

    async fn next(&mut self) -> Asked {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Asked::Drain,
                _ = self.interrupt.recv() => return Asked::Drain,
                _ = self.quit.recv() => return Asked::Now,
                // Its default would end the service, which nobody means by it.
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP is ignored: the configuration is read at start; restart to change it");
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

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
