//! Metrics of the log itself: queued lines, lost lines, failed writes.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::LogLabel;
use super::log_queue::QueueStatus;

/// Label with a word from a closed list.
type Closed = [(&'static str, &'static str); 1];

/// State of the log at a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSnapshot {
    /// Queue of standard error.
    pub log: QueueStatus,
    /// True if standard error can be written.
    pub log_writable: bool,
    /// Queue of the audit file; empty if audit records are log lines.
    pub audit: QueueStatus,
    /// True if audit records can be written to their destination.
    pub audit_writable: bool,
    /// Lines and audit records suppressed since start because of their rate.
    pub left_out: (u64, u64),
}

/// The log series.
#[derive(Debug, Default)]
pub(super) struct LogMetrics {
    lost: Family<Closed, Counter>,
    left_out: Family<Closed, Counter>,
    failed_writes: Family<Closed, Counter>,
    writer_panics: Family<Closed, Counter>,
    lines: Family<Closed, Gauge>,
    bytes: Family<Closed, Gauge>,
    writable: Family<Closed, Gauge>,
}

impl LogMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        self.set(&LogSnapshot::default());
        let help = "Log lines and audit records lost because they could not be written in time";
        registry.register("log_lines_lost", help, self.lost.clone());
        let help = "Log lines and audit records suppressed because clients caused too many of their kind";
        registry.register("log_lines_left_out", help, self.left_out.clone());
        let help = "Failed writes of the log; a failed line is retried";
        registry.register("log_write_errors", help, self.failed_writes.clone());
        let help = "Panics of a thread that writes the log; it continued after each";
        registry.register("log_writer_panics", help, self.writer_panics.clone());
        registry.register("log_queue_lines", "Log lines waiting to be written", self.lines.clone());
        registry.register("log_queue_bytes", "Bytes of waiting log lines", self.bytes.clone());
        let help = "1 if the log can be written: the last write succeeded and none is stalled";
        registry.register("log_writable", help, self.writable.clone());
    }

    pub(super) fn set(&self, now: &LogSnapshot) {
        self.set_sink(LogLabel::Log, &now.log, now.log_writable);
        self.set_sink(LogLabel::Audit, &now.audit, now.audit_writable);
        let lines = now.log.lost_lines + now.audit.lost_lines;
        let records = now.log.lost_records + now.audit.lost_records;
        let (lines_left_out, records_left_out) = now.left_out;
        for (kind, left_out) in [(LogLabel::Log, lines_left_out), (LogLabel::Audit, records_left_out)] {
            self.left_out.get_or_create(&[("kind", kind.word())]).inner().store(left_out, Ordering::Relaxed);
        }
        for (kind, lost) in [(LogLabel::Log, lines), (LogLabel::Audit, records)] {
            self.lost.get_or_create(&[("kind", kind.word())]).inner().store(lost, Ordering::Relaxed);
        }
    }

    fn set_sink(&self, sink: LogLabel, status: &QueueStatus, writable: bool) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let sink = [("sink", sink.word())];
        self.failed_writes.get_or_create(&sink).inner().store(status.failed_writes, Ordering::Relaxed);
        self.writer_panics.get_or_create(&sink).inner().store(status.writer_panics, Ordering::Relaxed);
        self.lines.get_or_create(&sink).set(whole(status.lines));
        self.bytes.get_or_create(&sink).set(whole(status.bytes));
        self.writable.get_or_create(&sink).set(i64::from(writable));
    }
}
