//! Where log lines go and what they look like. Levels below `debug` of other crates stay silent whatever is
//! configured: some of them print what passes through them.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, LogLevel, LogSettings};

/// The target of audit records; they are written at every level of logging, those of routine at `debug`.
pub const AUDIT: &str = "audit";

/// Sends log lines to standard error from here on. The first call in a process wins.
pub fn start(settings: &LogSettings) {
    let subscriber = subscriber(settings, io::stderr, io::stderr().is_terminal());
    // A second start happens in tests only; the first subscriber stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The subscriber behind [`start`], with a writer of the caller's choice.
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    colour: bool,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(settings.level))
        .with_writer(writer)
        .with_ansi(colour);
    match settings.format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish(),
        ),
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
