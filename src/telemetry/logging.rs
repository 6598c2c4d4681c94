//! Log lines from the code to standard error: what they look like, which are written, and the queue between. Levels
//! below `debug` of other crates stay silent whatever is configured: some of them print what passes through them.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, registry, reload};

use super::log_metrics::LogSnapshot;
use super::log_queue::{LineKind, LogQueue};
use super::log_writer::{self, Report};
use super::panics;
use crate::config::{LogFormat, LogLevel, LogSettings};

/// The target of audit records; they are written at every level of logging, those of routine at `debug`.
pub const AUDIT: &str = "audit";

/// The target of reports about the log itself and of panics; they are written at every level of logging.
pub(super) const NOTICE: &str = "pgpassport::log";

/// Longest time that the end of the process waits for lines to be written.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// A subscriber of any type.
pub type AnySubscriber = Box<dyn tracing::Subscriber + Send + Sync>;

type SetLevel = Arc<dyn Fn(LogLevel) + Send + Sync>;

/// The running log: its level, its queue, its end.
#[derive(Clone)]
pub struct LogControl {
    set_level: SetLevel,
    queue: Arc<LogQueue>,
}

impl LogControl {
    /// Counts and state for metrics.
    pub fn snapshot(&self) -> LogSnapshot {
        LogSnapshot { log: self.queue.status(), log_writable: self.queue.writable().is_ok() }
    }

    /// Writes lines of this level and above from now on.
    pub fn set_level(&self, level: LogLevel) {
        (self.set_level)(level);
    }

    /// Writes `text` as it is.
    pub fn say(&self, text: &str) {
        self.queue.push(LineKind::Notice, format!("{}\n", text.trim_end()).as_bytes());
    }

    /// Waits until everything is written, at most for [`FLUSH_LIMIT`].
    pub fn flush(&self) {
        log_writer::flush([&*self.queue], FLUSH_LIMIT);
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

/// Sends log lines and messages of panics to standard error from here on. The first call in a process wins.
pub fn start(settings: &LogSettings) -> io::Result<LogControl> {
    let colour = io::stderr().is_terminal();
    let (subscriber, control) = build(settings, stderr(), colour)?;
    // A second start happens in tests only; the first subscriber stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    panics::report_to_log();
    Ok(control)
}

/// Writes `text` to standard error as [`start`] would, for a service that cannot start: a reader that has stalled does
/// not keep the process, and one that has gone does not kill it.
pub fn last_words(text: &str) {
    if let Ok(queue) = log_writer::start("log-writer", stderr(), Box::new(drop)) {
        queue.push(LineKind::Notice, format!("{}\n", text.trim_end()).as_bytes());
        log_writer::flush([&*queue], FLUSH_LIMIT);
    }
}

/// Standard error without the lock that all others who write there would wait for.
fn stderr() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(std::fs::File::from(fd)),
        Err(_) => Box::new(io::stderr()),
    }
}

/// The subscriber and the control behind [`start`], with a destination of the caller's choice.
pub fn build(
    settings: &LogSettings,
    destination: Box<dyn Write + Send>,
    colour: bool,
) -> io::Result<(AnySubscriber, LogControl)> {
    let queue = log_writer::start("log-writer", destination, Box::new(report))?;
    let (filter, handle) = reload::Layer::new(filter(settings.level));
    // A failure to format or to write must not be printed: who prints it would wait for standard error, or panic.
    let layer = tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .with_ansi(colour)
        .with_writer(Lines(Arc::clone(&queue)));
    let layer = match settings.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    // Nothing here has spans; those of other crates would be formatted for nothing.
    let layer = layer.with_filter(filter_fn(is_event));
    let subscriber = Box::new(registry().with(filter).with(layer));
    let set_level = Arc::new(move |level| {
        if let Err(error) = handle.reload(self::filter(level)) {
            tracing::debug!(%error, "the level of logging cannot be changed"); // the subscriber is gone
        }
    });
    Ok((subscriber, LogControl { set_level, queue }))
}

fn is_event(meta: &Metadata<'_>) -> bool {
    meta.is_event()
}

fn filter(level: LogLevel) -> EnvFilter {
    let (ours, others, audit) = match level {
        LogLevel::Error => ("error", "error", "info"),
        LogLevel::Warn => ("warn", "warn", "info"),
        LogLevel::Info => ("info", "warn", "info"),
        LogLevel::Debug => ("debug", "info", "debug"),
        LogLevel::Trace => ("trace", "debug", "debug"),
    };
    EnvFilter::new(format!("{others},pgpassport={ours},{NOTICE}=info,{AUDIT}={audit}"))
}

/// Reports on the log's own queue; they wait there until writing works again.
fn report(report: Report) {
    match report {
        Report::Failing(error) => {
            tracing::warn!(target: NOTICE, %error, "the log cannot be written; lines wait for it");
        }
        Report::Missed(missed) => tracing::warn!(
            target: NOTICE,
            lost_lines = missed.lines,
            lost_audit_records = missed.records,
            failed_writes = missed.failed_writes,
            "the log can be written again; what is lost came after the lines above"
        ),
    }
}

/// Makes of each event a line of the queue.
struct Lines(Arc<LogQueue>);

/// Takes one line.
struct LineWriter<'q> {
    queue: &'q LogQueue,
    kind: LineKind,
}

impl<'q> MakeWriter<'q> for Lines {
    type Writer = LineWriter<'q>;

    fn make_writer(&'q self) -> LineWriter<'q> {
        LineWriter { queue: &self.0, kind: LineKind::Ordinary }
    }

    fn make_writer_for(&'q self, meta: &Metadata<'_>) -> LineWriter<'q> {
        let kind = match meta.target() {
            AUDIT => LineKind::Audit,
            NOTICE => LineKind::Notice,
            _ => LineKind::Ordinary,
        };
        LineWriter { queue: &self.0, kind }
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(self.kind, line); // the whole line: the layer writes it in one piece
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_follows_and_others_print_nothing_below_debug() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let sink = Sink::default();
            let settings = LogSettings { level: LogLevel::Warn, format };
            let (subscriber, control) = build(&settings, Box::new(sink.clone()), false).unwrap();
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
