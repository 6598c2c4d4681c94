//! Taking a changed configuration while serving: the whole of it for new connections, or nothing of it.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::app::Host;
use crate::config::Config;
use crate::lifecycle;
use crate::server::{Generation, descriptors};
use crate::telemetry::logging::LogControl;

/// Reads the configuration and the files it names; an error says all that is wrong.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reloads when it is woken.
pub struct Reloader {
    /// What stays.
    pub host: Arc<Host>,
    /// What is replaced.
    pub current: Arc<ArcSwap<Generation>>,
    /// The configuration it was built from.
    pub running: Config,
    /// Where the next one comes from.
    pub load: Load,
    /// The running log.
    pub log: LogControl,
    /// What systemd shows between reloads.
    pub status: String,
}

impl Reloader {
    /// Reloads each time `wanted` is notified, until the service stops. Wakes that come during a reload are one.
    pub async fn run(mut self, wanted: Arc<Notify>) {
        let stopping = self.host.stopping.clone();
        loop {
            tokio::select! {
                biased;
                () = stopping.asked.cancelled() => return,
                () = stopping.drain.cancelled() => return,
                () = wanted.notified() => {}
            }
            lifecycle::reloading();
            let host = Arc::clone(&self.host);
            let (self_again, result) = match tokio::task::spawn_blocking(move || self.reload()).await {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(%error, "reloading has broken down; restart to change the configuration");
                    host.metrics.reloaded(false);
                    return;
                }
            };
            self = self_again;
            self.report(&result);
        }
    }

    fn reload(mut self) -> (Self, anyhow::Result<()>) {
        let result = self.replace();
        (self, result)
    }

    fn replace(&mut self) -> anyhow::Result<()> {
        let config = (self.load)().map_err(|problems| anyhow!(problems))?;
        let fixed = config.needs_restart(&self.running);
        if !fixed.is_empty() {
            bail!(
                "{} cannot change while the service runs: restart it, or take the change back",
                fixed.join(", ")
            );
        }
        descriptors::provide(config.limits.max_client_conn, config.pool.map_or(0, |pool| pool.max_idle))?;
        let next = self.host.build(config.clone(), Some(&self.current.load())).context("not usable")?;
        if self.host.stopping.is_over() {
            bail!("the service is stopping");
        }
        let before = self.current.swap(Arc::new(next));
        before.steps.close_pool(); // what was opened under other rules serves nobody under these
        let ended = self.host.roll.deny(config.denied.clone());
        if ended > 0 {
            tracing::info!(
                sessions = ended,
                "the access of people with sessions is withdrawn; they are ended"
            );
        }
        if config.log.level != self.running.log.level {
            self.log.set_level(config.log.level);
        }
        self.running = config;
        Ok(())
    }

    fn report(&self, result: &anyhow::Result<()>) {
        self.host.metrics.reloaded(result.is_ok());
        let status = match result {
            Ok(()) => {
                tracing::info!("the configuration is reloaded; new connections meet it");
                super::serve::warn(&self.running);
                self.status.clone()
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the configuration is not reloaded; the old one stays in force");
                format!("{}; the last reload was refused, see the log", self.status)
            }
        };
        if !self.host.stopping.is_over() {
            lifecycle::ready(&status);
        }
    }
}
