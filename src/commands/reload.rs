//! Reload of the configuration while serving: all of it for new connections, or nothing.

use std::future::pending;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::check::outside_problems;
use super::file_watch::WatchedFiles;
use super::pages::{PageContext, Pages, RunningPages};
use crate::accept::acceptor::Generation;
use crate::accept::fd_limit;
use crate::app::GenerationBuilder;
use crate::config::problems::ConfigProblems;
use crate::config::{Config, WatchScope};
use crate::lifecycle;
use crate::names::visible;
use crate::sync::lock;
use crate::telemetry::audit_file::AuditDestination;

/// Longest time for reading the configuration and its files. A file on a network file system can block
/// forever.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Time between two looks that have to agree before changed files are read: programs write several, one after another.
const SETTLE: Duration = Duration::from_secs(1);

/// Longest list of changed files in the log, in bytes.
const MAX_FILES: usize = 512;

/// Most looks at files that change all the time, before they are read as they are.
const MAX_SETTLES: usize = 30;

/// Reads the configuration and the files it names. The error lists all problems.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reloads on request.
pub struct Reloader {
    /// Builds the next configuration.
    pub builder: Arc<GenerationBuilder>,
    /// The current configuration, which a reload replaces.
    pub current: Arc<ArcSwap<Generation>>,
    /// The HTTPS pages.
    pub(super) pages: RunningPages,
    /// Settings of the current configuration.
    pub running: Mutex<Config>,
    /// Reads the next configuration.
    pub load: Load,
    /// Status line for systemd between reloads.
    pub status: String,
    /// True during a reload, so that a reload whose task panics is reported.
    pub under_way: AtomicBool,
    /// State of the watched files when they were last read.
    pub(super) watched: Mutex<WatchedFiles>,
    /// True while a thread reads files.
    pub reading: Arc<AtomicBool>,
}

/// A valid configuration and the parts built from it.
struct PreparedConfig {
    config: Config,
    generation: Generation,
    /// The content of the HTTPS pages.
    pages: Pages,
    /// The destination of audit records, opened again.
    audit: Option<AuditDestination>,
    /// State of the files before they were read.
    watched: WatchedFiles,
}

/// Reason of a reload.
#[derive(Debug)]
enum ReloadCause {
    /// A signal.
    Asked,
    /// Changes of these files.
    Changed(Vec<PathBuf>),
}

impl Reloader {
    /// Reloads each time `wanted` is notified, until the service stops. Notifications during a reload are
    /// merged. Can be called again after a panic.
    pub async fn run(&self, wanted: &Notify) {
        if self.under_way.load(Ordering::Relaxed) {
            self.report(&ReloadCause::Asked, &Err(anyhow!("the last reload panicked")));
            self.answer(self.builder.shared.reloads.last(), &Err(anyhow!("the reload panicked")));
        }
        let shutdown = &self.builder.shared.shutdown;
        loop {
            let cause = tokio::select! {
                biased;
                () = shutdown.asked.cancelled() => return,
                () = shutdown.drain.cancelled() => return,
                () = wanted.notified() => ReloadCause::Asked,
                () = self.builder.shared.reloads.wanted() => ReloadCause::Asked,
                changed = self.files_changed() => ReloadCause::Changed(changed),
            };
            self.under_way.store(true, Ordering::Relaxed);
            lifecycle::reloading();
            let request = self.builder.shared.reloads.last();
            let result = match self.prepared(&cause).await {
                Ok(prepared) => self.take(prepared),
                Err(error) => Err(error),
            };
            self.report(&cause, &result);
            if matches!(cause, ReloadCause::Asked) {
                self.answer(request, &result);
            }
        }
    }

    /// Answers the requests of the console up to `request`.
    fn answer(&self, request: u64, result: &anyhow::Result<()>) {
        let result = result.as_ref().copied().map_err(|error| format!("{error:#}"));
        self.builder.shared.reloads.serve(request, result);
    }

    /// Reads and builds what `cause` asks for.
    async fn prepared(&self, cause: &ReloadCause) -> anyhow::Result<PreparedConfig> {
        let builder = Arc::clone(&self.builder);
        let context = PageContext { shared: Arc::clone(&builder.shared), current: Arc::clone(&self.current) };
        let running = self.running().clone();
        let load = match (cause, running.reload.watch) {
            // The configuration itself is taken when it is asked for, or by its own setting.
            (ReloadCause::Changed(_), WatchScope::Off | WatchScope::Files) => with_its_files(running.clone()),
            (ReloadCause::Asked, _) | (ReloadCause::Changed(_), WatchScope::All) => Arc::clone(&self.load),
        };
        self.on_thread(move || {
            let _runtime = builder.control.enter();
            prepare(&builder, &load, &running, &context)
        })
        .await?
    }

    /// Runs `work` on a separate thread, because file access blocks. A thread that does not finish in time is left alone:
    /// its result is dropped, and no second one is started while it runs.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        if self.reading.swap(true, Ordering::Relaxed) {
            bail!("the files of the previous reload are still being read");
        }
        let reading = ReadingThread(Arc::clone(&self.reading));
        let (sender, receiver) = oneshot::channel();
        let run = move || {
            let (sender, reading) = (sender, reading); // at a panic, the last one goes first
            let done = work();
            drop(reading);
            let _ = sender.send(done); // nobody waits for one that is too late
        };
        thread::Builder::new().name("reload".to_owned()).spawn(run).context("no thread for the reload")?;
        match timeout(READ_TIMEOUT, receiver).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => bail!("reading the configuration panicked"),
            Err(_) => bail!("the files cannot be read within {} s", READ_TIMEOUT.as_secs()),
        }
    }

    /// Waits for a change of watched files, and until they stay the same between two looks. A change is given once,
    /// whether it can be used or not.
    async fn files_changed(&self) -> Vec<PathBuf> {
        loop {
            let settings = self.running().reload;
            if settings.watch == WatchScope::Off {
                return pending().await;
            }
            sleep(settings.interval).await;
            let Ok(mut seen) = self.look().await else { continue };
            if seen.changed_since(&self.watched()).is_empty() {
                continue;
            }
            for _ in 0..MAX_SETTLES {
                sleep(SETTLE).await;
                let Ok(next) = self.look().await else { continue };
                let settled = next == seen;
                seen = next;
                if settled {
                    break;
                }
            }
            let mut watched = self.watched();
            let changed = seen.changed_since(&watched);
            *watched = seen;
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    async fn look(&self) -> anyhow::Result<WatchedFiles> {
        let running = self.running().clone();
        self.on_thread(move || WatchedFiles::of(&running)).await
    }

    /// Takes the new configuration into use. Fails only if the service is stopping.
    fn take(&self, prepared: PreparedConfig) -> anyhow::Result<()> {
        let PreparedConfig { config, generation, pages, audit, watched } = prepared;
        if self.builder.shared.shutdown.is_over() {
            bail!("the service is stopping");
        }
        let before = self.current.swap(Arc::new(generation));
        self.pages.replace(pages);
        if let Some(file) = audit {
            self.builder.shared.log.redirect_audit(file);
        }
        before.context.close_pool(); // what was opened under other rules serves nobody under these
        let ended = self.builder.shared.registry.deny(config.denied.clone())
            + self.builder.shared.console.sessions.deny(config.denied.clone());
        if ended > 0 {
            tracing::info!(
                sessions = ended,
                "access was withdrawn from people with live sessions; their sessions end"
            );
        }
        *self.watched() = watched;
        let mut running = self.running();
        if config.log.level != running.log.level {
            self.builder.shared.log.set_level(config.log.level);
        }
        *running = config;
        Ok(())
    }

    fn report(&self, cause: &ReloadCause, result: &anyhow::Result<()>) {
        self.under_way.store(false, Ordering::Relaxed);
        self.builder.shared.metrics.reloads.reloaded(result.is_ok());
        let files = cause.files();
        let status = match result {
            Ok(()) => {
                tracing::info!(files, "configuration reloaded; new connections use it");
                log_warnings(&self.running());
                self.status.clone()
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(files, error, "configuration not reloaded; the current one stays in use");
                format!("{}; the last reload was refused, see the log", self.status)
            }
        };
        if !self.builder.shared.shutdown.is_over() {
            lifecycle::ready(&status);
        }
    }

    fn watched(&self) -> MutexGuard<'_, WatchedFiles> {
        lock(&self.watched)
    }

    fn running(&self) -> MutexGuard<'_, Config> {
        lock(&self.running)
    }
}

fn prepare(
    builder: &GenerationBuilder,
    load: &Load,
    running: &Config,
    context: &PageContext,
) -> anyhow::Result<PreparedConfig> {
    let before = WatchedFiles::of(running);
    let config = load().map_err(|problems| anyhow!(problems))?;
    let watched = WatchedFiles::of(&config).with_first_states_of(&before);
    let fixed = config.needs_restart(running);
    if !fixed.is_empty() {
        bail!(
            "{} cannot change while the service runs: restart the service, or undo the change",
            fixed.join(", ")
        );
    }
    fd_limit::provide(config.limits.max_client_conn, config.pool.map_or(0, |pool| pool.max_idle))?;
    let generation = builder.build(config.clone(), Some(&context.current.load())).context("not usable")?;
    let pages = Pages::build(&config, context)?;
    let audit = builder.shared.log.open_audit_file()?;
    Ok(PreparedConfig { config, generation, pages, audit, watched })
}

impl ReloadCause {
    /// The changed files, for the log.
    fn files(&self) -> Option<String> {
        let Self::Changed(files) = self else { return None };
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        Some(visible(&names.join(", "), MAX_FILES))
    }
}

/// The running configuration again, with its files as they are now.
fn with_its_files(config: Config) -> Load {
    Arc::new(move || {
        let problems = outside_problems(&config.files, &config.principals);
        if problems.is_empty() {
            return Ok(config.clone());
        }
        Err(ConfigProblems::new(config.file.display().to_string(), problems, Vec::new()).to_string())
    })
}

/// Guard of the thread that reads files.
struct ReadingThread(Arc<AtomicBool>);

impl Drop for ReadingThread {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Logs the configuration's warnings.
pub(super) fn log_warnings(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}
