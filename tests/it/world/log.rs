//! Log of this process as JSON lines, at the finest level: all events that the product writes at `trace`.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use pgpassport::config::Config;
use pgpassport::telemetry::logging::{self, LogControl};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;

use super::World;
use super::admin::until;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogAppender;

impl io::Write for LogAppender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// True for events that the product writes at `trace`, and for all events of the tests. The product writes no spans. It
/// writes events of other crates at `debug` and above.
fn is_logged(meta: &Metadata<'_>) -> bool {
    let ours = ["pgpassport", "audit", "it", "aws_emulator"];
    !meta.is_span()
        && (*meta.level() <= Level::DEBUG
            || ours.contains(&meta.target().split_once("::").map_or(meta.target(), |(name, _)| name)))
}

/// Starts collecting, once; gives the place in the log from which the caller should read.
pub(crate) fn start() -> usize {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let lines = layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        let lines = lines.with_writer(|| LogAppender);
        let subscriber = tracing_subscriber::registry().with(filter_fn(is_logged)).with(lines);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    LOG.lock().unwrap().len()
}

/// A log for a service in this process, which logs everything by itself.
pub(crate) fn unused(config: &Config) -> LogControl {
    logging::build(&config.log, &config.audit, Box::new(io::sink()), false).unwrap().1
}

/// A copy of the log since `from`. Parts that log wait for the lock, so no search may hold it.
pub(crate) fn since(from: usize) -> Vec<u8> {
    LOG.lock().unwrap()[from..].to_vec()
}

pub(crate) fn contains(log: &[u8], text: &str) -> bool {
    memchr::memmem::find(log, text.as_bytes()).is_some()
}

/// The first line since `from` with `text`.
async fn line(from: usize, text: &str) -> String {
    find(from, text, |line| line.contains(text)).await
}

/// The first audit record of one of `listeners` in which `field` is `value`.
pub(crate) async fn audit(
    from: usize,
    listeners: &[String],
    field: &str,
    value: impl Into<serde_json::Value>,
) -> serde_json::Value {
    let value = value.into();
    let wanted = |line: &str| {
        line.contains("\"target\":\"audit\"") && {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            // Sessions have two; tests mean the last one, unless they ask for an event.
            (field == "event" || record["event"] != "session.start")
                && record[field] == value
                && listeners.iter().any(|name| record["listener"] == *name)
        }
    };
    serde_json::from_str(&find(from, &format!("an audit record with {field}={value}"), wanted).await).unwrap()
}

/// A name that no other world's listener has, as a line of the configuration, unless `keys` hold one.
pub(crate) fn name_for(keys: &str) -> String {
    static WORLDS: AtomicUsize = AtomicUsize::new(0);
    if keys.contains("name = ") {
        return String::new();
    }
    format!("name = \"world-{}\"", WORLDS.fetch_add(1, Ordering::Relaxed))
}

impl World {
    /// This world's audit record in which `field` is `value`; waits until it is written.
    pub(crate) async fn audit(&self, field: &str, value: &str) -> serde_json::Value {
        audit(self.log_from, &self.listeners, field, value).await
    }

    /// As [`World::audit`], for a value that is no text.
    pub(crate) async fn audit_json(
        &self,
        field: &str,
        value: impl Into<serde_json::Value>,
    ) -> serde_json::Value {
        audit(self.log_from, &self.listeners, field, value).await
    }

    /// The first audit record of `listener` in which `field` is `value`.
    pub(crate) async fn audit_of(&self, listener: &str, field: &str, value: &str) -> serde_json::Value {
        audit(self.log_from, &[listener.to_owned()], field, value).await
    }

    /// True if a part of this process has logged `text` since this world began.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        contains(&since(self.log_from), text)
    }

    /// Log lines since this world began that hold `text`; waits for the first. All worlds of this process share one
    /// log.
    pub(crate) async fn log_line(&self, text: &str) -> String {
        line(self.log_from, text).await
    }
}

/// Waits for a line: the record is written after the client has gone.
async fn find(mut from: usize, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut found = None;
    until(what, async || {
        let log = since(from);
        // The last line may be under way.
        let whole = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&log[..whole]);
        found = text.lines().find(|line| wanted(line)).map(str::to_owned);
        from += whole;
        found.is_some()
    })
    .await;
    found.unwrap()
}
