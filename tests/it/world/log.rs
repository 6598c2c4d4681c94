//! Everything that anything in this process logs, at the finest level, as JSON lines.

use std::io;
use std::sync::{Mutex, Once};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Appender;

impl io::Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Appender {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        Self
    }
}

/// Starts collecting, once; gives the place in the log from which the caller should read.
pub(crate) fn start() -> usize {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(BoxMakeWriter::new(Appender))
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    LOG.lock().unwrap().len()
}

pub(crate) fn contains(from: usize, text: &str) -> bool {
    let log = LOG.lock().unwrap();
    memchr::memmem::find(&log[from..], text.as_bytes()).is_some()
}

/// The first line since `from` with `text`.
pub(crate) async fn line(from: usize, text: &str) -> String {
    find(from, text, |line| line.contains(text)).await
}

/// The first audit record in which each field is its value.
pub(crate) async fn audit(from: usize, fields: &[(&str, &str)]) -> serde_json::Value {
    let wanted = |line: &str| {
        let record = || serde_json::from_str::<serde_json::Value>(line).unwrap();
        line.contains("\"target\":\"audit\"") && {
            let record = record();
            fields.iter().all(|(field, value)| record[field] == *value)
        }
    };
    serde_json::from_str(&find(from, &format!("an audit record with {fields:?}"), wanted).await).unwrap()
}

/// Looks again and again: the record is written after the client has gone. The limit is for a broken build.
async fn find(from: usize, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    for _ in 0..3_000 {
        let text = {
            let log = LOG.lock().unwrap();
            String::from_utf8_lossy(&log[from..]).into_owned()
        };
        // The last line may be under way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if let Some(line) = whole.lines().find(|line| wanted(line)) {
            return line.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never logged: {what}");
}
