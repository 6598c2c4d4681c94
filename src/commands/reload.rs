//! Reload of the configuration while serving: all of it for new connections, or nothing.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::accept::acceptor::Generation;
use crate::accept::fd_limit;
use crate::app::GenerationBuilder;
use crate::config::Config;
use crate::lifecycle;

/// Longest time for reading the configuration and its files. A file on a network file system can block
/// forever.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Reads the configuration and the files it names. The error lists all problems.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reloads on request.
pub struct Reloader {
    /// Builds the next configuration.
    pub builder: Arc<GenerationBuilder>,
    /// The current configuration, which a reload replaces.
    pub current: Arc<ArcSwap<Generation>>,
    /// Settings of the current configuration.
    pub running: Mutex<Config>,
    /// Reads the next configuration.
    pub load: Load,
    /// Status line for systemd between reloads.
    pub status: String,
    /// True during a reload, so that a reload whose task panics is reported.
    pub under_way: AtomicBool,
    /// True while a thread reads files.
    pub reading: Arc<AtomicBool>,
}

/// A valid configuration and the parts built from it.
struct PreparedConfig {
    config: Config,
    generation: Generation,
    /// The file of audit records, opened again.
    audit: Option<File>,
}

impl Reloader {
    /// Reloads each time `wanted` is notified, until the service stops. Notifications during a reload are
    /// merged. Can be called again after a panic.
    pub async fn run(&self, wanted: &Notify) {
        if self.under_way.load(Ordering::Relaxed) {
            self.report(&Err(anyhow!("the last reload panicked")));
        }
        let shutdown = &self.builder.shared.shutdown;
        loop {
            tokio::select! {
                biased;
                () = shutdown.asked.cancelled() => return,
                () = shutdown.drain.cancelled() => return,
                () = wanted.notified() => {}
            }
            self.under_way.store(true, Ordering::Relaxed);
            lifecycle::reloading();
            let result = match self.prepared().await {
                Ok(prepared) => self.take(prepared),
                Err(error) => Err(error),
            };
            self.report(&result);
        }
    }

    /// Reads and builds on a separate thread, because file access blocks. A thread that does not finish in
    /// time is left alone: its result is dropped, and no second one is started while it runs.
    async fn prepared(&self) -> anyhow::Result<PreparedConfig> {
        if self.reading.swap(true, Ordering::Relaxed) {
            bail!("the files of the previous reload are still being read");
        }
        let reading = ReadingThread(Arc::clone(&self.reading));
        let (sender, receiver) = oneshot::channel();
        let (builder, load, current) =
            (Arc::clone(&self.builder), Arc::clone(&self.load), self.current.load_full());
        let running = self.running().clone();
        let prepare = move || {
            let (sender, reading) = (sender, reading); // at a panic, the last one goes first
            let _runtime = builder.control.enter();
            let prepared = prepare(&builder, &load, &running, &current);
            drop(reading);
            let _ = sender.send(prepared); // nobody waits for one that is too late
        };
        thread::Builder::new()
            .name("reload".to_owned())
            .spawn(prepare)
            .context("no thread for the reload")?;
        match timeout(READ_TIMEOUT, receiver).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(_)) => bail!("reading the configuration panicked"),
            Err(_) => bail!("the files cannot be read within {} s", READ_TIMEOUT.as_secs()),
        }
    }

    /// Takes the new configuration into use. Fails only if the service is stopping.
    fn take(&self, prepared: PreparedConfig) -> anyhow::Result<()> {
        let PreparedConfig { config, generation, audit } = prepared;
        if self.builder.shared.shutdown.is_over() {
            bail!("the service is stopping");
        }
        let before = self.current.swap(Arc::new(generation));
        if let Some(file) = audit {
            self.builder.shared.log.redirect_audit(file);
        }
        before.context.close_pool(); // what was opened under other rules serves nobody under these
        let ended = self.builder.shared.registry.deny(config.denied.clone());
        if ended > 0 {
            tracing::info!(
                sessions = ended,
                "access was withdrawn from people with live sessions; their sessions end"
            );
        }
        let mut running = self.running();
        if config.log.level != running.log.level {
            self.builder.shared.log.set_level(config.log.level);
        }
        *running = config;
        Ok(())
    }

    fn report(&self, result: &anyhow::Result<()>) {
        self.under_way.store(false, Ordering::Relaxed);
        self.builder.shared.metrics.reloaded(result.is_ok());
        let status = match result {
            Ok(()) => {
                tracing::info!("configuration reloaded; new connections use it");
                super::serve::warn(&self.running());
                self.status.clone()
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "configuration not reloaded; the current one stays in use");
                format!("{}; the last reload was refused, see the log", self.status)
            }
        };
        if !self.builder.shared.shutdown.is_over() {
            lifecycle::ready(&status);
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Config> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(
    builder: &GenerationBuilder,
    load: &Load,
    running: &Config,
    current: &Generation,
) -> anyhow::Result<PreparedConfig> {
    let config = load().map_err(|problems| anyhow!(problems))?;
    let fixed = config.needs_restart(running);
    if !fixed.is_empty() {
        bail!(
            "{} cannot change while the service runs: restart the service, or undo the change",
            fixed.join(", ")
        );
    }
    fd_limit::provide(config.limits.max_client_conn, config.pool.map_or(0, |pool| pool.max_idle))?;
    let generation = builder.build(config.clone(), Some(current)).context("not usable")?;
    let audit = builder.shared.log.open_audit_file()?;
    Ok(PreparedConfig { config, generation, audit })
}

/// Guard of the thread that reads files.
struct ReadingThread(Arc<AtomicBool>);

impl Drop for ReadingThread {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
