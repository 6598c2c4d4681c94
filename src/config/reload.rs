//! `[reload]`: which changed files are taken without a signal.

use std::time::Duration;

use super::reader::SectionReader;
use super::readers::{HOUR, SECOND};

/// `[reload]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Files whose changes are taken.
    pub watch: WatchScope,
    /// Time between two looks at them.
    pub interval: Duration,
}

/// Files whose changes are taken without a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchScope {
    /// None.
    Off,
    /// Certificates, keys, authorities and other files that the configuration names.
    Files,
    /// And the configuration itself.
    All,
}

pub(super) fn reload(section: &SectionReader<'_, '_>) -> ReloadSettings {
    let scopes = [("off", WatchScope::Off), ("files", WatchScope::Files), ("all", WatchScope::All)];
    let watch = section.choice("watch", WatchScope::Files, &scopes);
    let interval = section.duration("interval", Duration::from_secs(10), SECOND..=HOUR);
    section.finish();
    ReloadSettings { watch, interval }
}
