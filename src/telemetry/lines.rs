//! Formatting of tracing events as lines of a queue: filter, format, and class.

use std::io::{self, Write};
use std::sync::Arc;

use tracing::Metadata;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::{Layer, Registry, registry, reload};

use super::log_queue::{LineKind, LogQueue};
use crate::config::{LogFormat, LogLevel};

/// Target of audit records. Written at every log level; routine ones at `debug`.
pub const AUDIT: &str = "audit";

/// Target of reports about the log itself and of panics. Written at every log level.
pub(super) const NOTICE: &str = "pgpassport::log";

/// Name of audit events of clients without a verified token.
pub(super) const UNVERIFIED: &str = "unverified audit record";

/// Name of other audit events.
pub(super) const VERIFIED: &str = "audit record";

/// Name of audit events that report lost records.
pub(super) const AUDIT_GAP: &str = "audit gap";

/// A boxed subscriber.
pub type AnySubscriber = Box<dyn tracing::Subscriber + Send + Sync>;

/// Handle to change the log level.
pub(super) type LevelHandle = reload::Handle<Targets, Registry>;

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;

/// Subscriber that writes lines to `log` in `format`, and to `audit` in JSON if records have a separate
/// queue.
pub(super) fn subscriber(
    (level, format, colour): (LogLevel, LogFormat, bool),
    log: &Arc<LogQueue>,
    audit: Option<&Arc<LogQueue>>,
) -> (AnySubscriber, LevelHandle) {
    let (filter, handle) = reload::Layer::new(filter(level));
    // A failure to format or write must not be printed: that would wait for standard error, or panic.
    let lines = |queue: &Arc<LogQueue>, colour| {
        layer().log_internal_errors(false).with_ansi(colour).with_writer(LineMaker(Arc::clone(queue)))
    };
    let json = |queue, colour| {
        lines(queue, colour).json().flatten_event(true).with_current_span(false).with_span_list(false)
    };
    // There are no spans here, and formatting those of other crates would be wasted.
    let is_apart = audit.is_some();
    let in_log = filter_fn(move |meta| !meta.is_span() && (!is_apart || meta.target() != AUDIT));
    let in_audit = filter_fn(|meta| !meta.is_span() && meta.target() == AUDIT);
    let mut layers: Vec<Box<dyn Layer<Filtered> + Send + Sync>> = vec![match format {
        LogFormat::Text => lines(log, colour).with_filter(in_log).boxed(),
        LogFormat::Json => json(log, colour).with_filter(in_log).boxed(),
    }];
    layers.extend(audit.map(|queue| json(queue, false).with_filter(in_audit).boxed()));
    (Box::new(registry().with(filter).with(layers)), handle)
}

/// Filter for events of `level` and above.
pub(super) fn filter(level: LogLevel) -> Targets {
    use tracing::level_filters::LevelFilter as Shown;
    let (ours, others, audit) = match level {
        LogLevel::Error => (Shown::ERROR, Shown::ERROR, Shown::INFO),
        LogLevel::Warn => (Shown::WARN, Shown::WARN, Shown::INFO),
        LogLevel::Info => (Shown::INFO, Shown::WARN, Shown::INFO),
        LogLevel::Debug => (Shown::DEBUG, Shown::INFO, Shown::DEBUG),
        LogLevel::Trace => (Shown::TRACE, Shown::DEBUG, Shown::DEBUG),
    };
    Targets::new().with_default(others).with_targets([
        ("pgpassport", ours),
        (NOTICE, Shown::INFO),
        (AUDIT, audit),
    ])
}

/// Class of an event's line.
fn kind(meta: &Metadata<'_>) -> LineKind {
    match (meta.target(), meta.name()) {
        (NOTICE, _) | (AUDIT, AUDIT_GAP) => LineKind::Notice,
        (AUDIT, UNVERIFIED) => LineKind::UnverifiedAudit,
        (AUDIT, _) => LineKind::Audit,
        _ => LineKind::Ordinary,
    }
}

/// Writer factory that pushes each event as a line to the queue.
struct LineMaker(Arc<LogQueue>);

/// Writer of one line.
struct LineWriter<'q> {
    queue: &'q LogQueue,
    kind: LineKind,
}

impl<'q> MakeWriter<'q> for LineMaker {
    type Writer = LineWriter<'q>;

    fn make_writer(&'q self) -> LineWriter<'q> {
        LineWriter { queue: &self.0, kind: LineKind::Ordinary }
    }

    fn make_writer_for(&'q self, meta: &Metadata<'_>) -> LineWriter<'q> {
        LineWriter { queue: &self.0, kind: kind(meta) }
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
