//! Where log lines go and what they look like. Levels below `debug` of other crates stay silent whatever is
//! configured: some of them print what passes through them.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::reload;

use crate::config::{LogFormat, LogLevel, LogSettings};

/// The target of audit records; they are written at every level of logging, those of routine at `debug`.
pub const AUDIT: &str = "audit";

/// Changes from which level on lines are written.
pub type SetLevel = Arc<dyn Fn(LogLevel) + Send + Sync>;

/// Sends log lines to standard error from here on. The first call in a process wins.
pub fn start(settings: &LogSettings) -> SetLevel {
    let (subscriber, set_level) = subscriber(settings, io::stderr, io::stderr().is_terminal());
    // A second start happens in tests only; the first subscriber stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    set_level
}

/// The subscriber behind [`start`], with a writer of the caller's choice.
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    colour: bool,
) -> (Box<dyn tracing::Subscriber + Send + Sync>, SetLevel)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_writer(writer).with_ansi(colour);
    match settings.format {
        LogFormat::Text => {
            let builder = builder.with_env_filter(filter(settings.level)).with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Arc::new(move |level| set(handle.reload(filter(level)))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            let builder = builder.with_env_filter(filter(settings.level)).with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Arc::new(move |level| set(handle.reload(filter(level)))))
        }
    }
}

/// Fails only when the subscriber is gone.
fn set(result: Result<(), reload::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "the level of logging cannot be changed");
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let (ours, others, audit) = match level {
        LogLevel::Error => ("error", "error", "info"),
        LogLevel::Warn => ("warn", "warn", "info"),
        LogLevel::Info => ("info", "warn", "info"),
        LogLevel::Debug => ("debug", "info", "debug"),
        LogLevel::Trace => ("trace", "debug", "debug"),
    };
    EnvFilter::new(format!("{others},pgpassport={ours},{AUDIT}={audit}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
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
            let writer = sink.clone();
            let settings = LogSettings { level: LogLevel::Warn, format };
            let (subscriber, set_level) = subscriber(&settings, move || writer.clone(), false);
            let say = || {
                tracing::info!(target: "pgpassport::x", "ours");
                tracing::trace!(target: "hyper", "theirs");
                tracing::info!(target: AUDIT, "record");
            };
            tracing::subscriber::with_default(subscriber, || {
                say();
                set_level(LogLevel::Trace);
                say();
                set_level(LogLevel::Error);
                say();
            });
            let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.matches("ours").count(), 1, "{text}");
            assert_eq!(text.matches("record").count(), 3, "{text}");
            assert!(!text.contains("theirs"), "{text}");
        }
    }
}
