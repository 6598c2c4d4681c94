//! The log: lines to standard error, audit records among them or in their own file, level, and flush.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::audit_file::{self, AuditDestination, AuditGate};
pub use super::lines::{AUDIT, AnySubscriber};
use super::lines::{AUDIT_GAP, LevelHandle, NOTICE, filter, subscriber};
use super::log_metrics::LogSnapshot;
use super::log_queue::{LineKind, LogQueue};
use super::log_writer::{self, WriterReport};
use super::noise::NoiseLimiter;
use super::panics;
use crate::config::{AuditSettings, LogLevel, LogSettings, WhenUnwritable};
use crate::sync::lock;

/// Longest wait at the end of the process for lines to be written.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Most bytes that a writable pipe takes atomically (`PIPE_BUF`, `pipe(7)`).
const MAX_UNCUT: usize = 4_096;

/// Handle of the running log: level, queues, flush.
#[derive(Clone)]
pub struct LogControl {
    level: LevelHandle,
    current: Arc<Mutex<LogLevel>>,
    log: Arc<LogQueue>,
    audit: Option<AuditFile>,
    noise: Arc<NoiseLimiter>,
}

/// The audit file.
#[derive(Clone)]
struct AuditFile {
    path: PathBuf,
    queue: Arc<LogQueue>,
}

/// Reason why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogStartError {
    /// The system allows no thread.
    #[error("the log cannot be started: {0}")]
    Thread(io::Error),
    /// The file of audit records.
    #[error(transparent)]
    AuditFile(#[from] AuditFileError),
}

/// The audit file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("audit.to: {}: {error}", .path.display())]
pub struct AuditFileError {
    path: PathBuf,
    error: io::Error,
}

impl LogControl {
    /// Counters and state for metrics.
    pub fn snapshot(&self) -> LogSnapshot {
        LogSnapshot {
            log: self.log.status(),
            log_writable: self.log.writable().is_ok(),
            audit: self.audit.as_ref().map(|audit| audit.queue.status()).unwrap_or_default(),
            audit_writable: self.records().audit_writable().is_ok(),
            left_out: self.noise.left_out(),
        }
    }

    /// Rate limiter of lines that clients can cause.
    pub fn noise(&self) -> Arc<NoiseLimiter> {
        Arc::clone(&self.noise)
    }

    /// Changes the log level.
    pub fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.level.reload(filter(level)) {
            tracing::debug!(%error, "the level of logging cannot be changed"); // the subscriber is gone
        }
        *lock(&self.current) = level;
    }

    /// Current log level.
    pub fn level(&self) -> LogLevel {
        *lock(&self.current)
    }

    /// Gate for logins while audit records cannot be written.
    pub fn audit_gate(&self, when_unwritable: WhenUnwritable) -> AuditGate {
        AuditGate::new(Arc::clone(self.records()), when_unwritable)
    }

    /// Opens the destination of audit records by name, if they have one of their own.
    pub fn open_audit_file(&self) -> Result<Option<AuditDestination>, AuditFileError> {
        self.audit.as_ref().map(|audit| open(&audit.path)).transpose()
    }

    /// Writes audit records to `destination` from now on.
    pub fn redirect_audit(&self, destination: AuditDestination) {
        if let Some(audit) = &self.audit {
            audit.queue.redirect(destination);
        }
    }

    /// Writes `text` unchanged.
    pub fn say(&self, text: &str) {
        say(&self.log, text);
    }

    /// Waits until everything is written, at most for [`FLUSH_LIMIT`].
    pub fn flush(&self) {
        let audit = self.audit.as_ref().map(|audit| &*audit.queue);
        log_writer::flush([&*self.log].into_iter().chain(audit), FLUSH_LIMIT);
    }

    /// Queue of audit records.
    fn records(&self) -> &Arc<LogQueue> {
        self.audit.as_ref().map_or(&self.log, |audit| &audit.queue)
    }
}

impl AuditFile {
    fn start(path: &Path) -> Result<Self, LogStartError> {
        let queue = log_writer::start("audit-writer", open(path)?, Box::new(report_audit));
        Ok(Self { path: path.to_owned(), queue: queue.map_err(LogStartError::Thread)? })
    }
}

fn open(path: &Path) -> Result<AuditDestination, AuditFileError> {
    audit_file::open(path).map_err(|error| AuditFileError { path: path.to_owned(), error })
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Starts logging: log lines and panic messages to standard error, audit records to their destination. The
/// first call in a process wins.
pub fn start(settings: &LogSettings, audit: &AuditSettings) -> Result<LogControl, LogStartError> {
    let colour = io::stderr().is_terminal();
    let (subscriber, control) = build(settings, audit, stderr(), colour)?;
    // A second start happens in tests only; the first subscriber stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    panics::report_to_log(control.noise());
    if control.audit.is_some() {
        // Also the first write, so that an unwritable file is detected before the first login.
        tracing::info!(target: AUDIT, version = env!("CARGO_PKG_VERSION"), "audit log started");
    }
    Ok(control)
}

/// Writes `text` to standard error like [`start`], for a service that cannot start. A stalled reader does not
/// delay the process, and a closed one does not kill it.
pub fn last_words(text: &str) {
    match log_writer::start("log-writer", stderr(), Box::new(drop)) {
        Ok(queue) => {
            say(&queue, text);
            log_writer::flush([&*queue], FLUSH_LIMIT);
        }
        // The system allows no thread that could wait for a reader.
        Err(_) if takes_a_line(&io::stderr()) => {
            let line = format!("{}\n", text.trim_end());
            let _ = stderr().write_all(line.as_bytes().get(..MAX_UNCUT).unwrap_or(line.as_bytes()));
        }
        Err(_) => {}
    }
}

fn say(queue: &LogQueue, text: &str) {
    queue.push(LineKind::Notice, format!("{}\n", text.trim_end()).as_bytes());
}

/// True if a write of at most [`MAX_UNCUT`] bytes would not block.
fn takes_a_line(to: &impl AsFd) -> bool {
    let mut polled = PollFd::new(to.as_fd(), PollFlags::POLLOUT);
    let asked = poll(std::slice::from_mut(&mut polled), PollTimeout::ZERO);
    asked.is_ok() && polled.revents().is_some_and(|now| now.contains(PollFlags::POLLOUT))
}

/// Standard error without the lock of the standard library, on which other writers would wait.
fn stderr() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stderr()),
    }
}

/// Subscriber and control of [`start`], with another destination for log lines.
pub fn build(
    settings: &LogSettings,
    audit: &AuditSettings,
    destination: Box<dyn Write + Send>,
    colour: bool,
) -> Result<(AnySubscriber, LogControl), LogStartError> {
    let log =
        log_writer::start("log-writer", destination, Box::new(report)).map_err(LogStartError::Thread)?;
    let audit = audit.file.as_deref().map(AuditFile::start).transpose()?;
    let records = audit.as_ref().map(|audit| &audit.queue);
    let (subscriber, level) = subscriber((settings.level, settings.format, colour), &log, records);
    let current = Arc::new(Mutex::new(settings.level));
    Ok((subscriber, LogControl { level, current, log, audit, noise: Arc::default() }))
}

/// Reports to the log's own queue, where they wait until writing works again.
fn report(report: WriterReport) {
    match report {
        WriterReport::Failing(error) => {
            tracing::warn!(target: NOTICE, %error, "the log cannot be written; lines are queued");
        }
        WriterReport::Missed(missed) => tracing::warn!(
            target: NOTICE,
            lost_lines = missed.lines,
            lost_audit_records = missed.records,
            failed_writes = missed.failed_writes,
            "the log can be written again; lines after the ones above were lost"
        ),
    }
}

/// Reports on the audit queue: to the log, and lost records also to the audit destination.
fn report_audit(report: WriterReport) {
    match report {
        WriterReport::Failing(error) => tracing::error!(
            target: NOTICE,
            %error,
            "audit records cannot be written and are queued; audit.when_unwritable decides about logins"
        ),
        WriterReport::Missed(missed) => {
            tracing::warn!(
                target: NOTICE,
                lost_audit_records = missed.records,
                failed_writes = missed.failed_writes,
                "audit records can be written again"
            );
            if missed.records > 0 {
                let lost_audit_records = missed.records;
                tracing::warn!(name: AUDIT_GAP, target: AUDIT, lost_audit_records, "audit records were lost");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::LogFormat;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_follows_and_others_print_nothing_below_debug() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let sink = Sink::default();
            let no_file = AuditSettings { file: None, when_unwritable: WhenUnwritable::Continue };
            let settings = LogSettings { level: LogLevel::Warn, format };
            let (subscriber, control) = build(&settings, &no_file, Box::new(sink.clone()), false).unwrap();
            let say = || {
                tracing::info!(target: "pgpassport::x", "ours");
                tracing::trace!(target: "hyper", "theirs");
                tracing::info!(target: AUDIT, "record");
            };
            tracing::subscriber::with_default(subscriber, || {
                say();
                control.set_level(LogLevel::Trace);
                say();
                control.set_level(LogLevel::Error);
                say();
            });
            control.flush();
            let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.matches("ours").count(), 1, "{text}");
            assert_eq!(text.matches("record").count(), 3, "{text}");
            assert!(!text.contains("theirs"), "{text}");
        }
    }
}
