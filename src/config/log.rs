//! `[log]`: level and format of log lines.

use super::reader::SectionReader;

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Lowest level that is logged.
    pub level: LogLevel,
    /// Format of a line.
    pub format: LogFormat,
}

/// Log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Faults of the proxy.
    Error,
    /// Also faults of others that operators should know.
    Warn,
    /// Also the lifecycle of the service.
    Info,
    /// Also each step of each session.
    Debug,
    /// Also everything else; never secrets.
    Trace,
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// A JSON object per line, for collectors.
    Json,
}

impl LogLevel {
    /// All levels with their words.
    pub const WORDS: [(&str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The word of `log.level`.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, level)| *level == self).map_or("", |(word, _)| word)
    }
}

pub(super) fn log(section: &SectionReader<'_, '_>) -> LogSettings {
    let log = LogSettings {
        level: section.choice("level", LogLevel::Info, &LogLevel::WORDS),
        format: section.choice(
            "format",
            LogFormat::Text,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        ),
    };
    section.finish();
    log
}
