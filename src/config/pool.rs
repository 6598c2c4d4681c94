//! `[pool]`: whether connections are kept when their clients leave, how many, and for how long.

use std::time::Duration;

use super::reader::Section;
use super::values::{DAY, SECOND};

/// Above any count of connections that a server has.
const MOST: usize = 10_000;

/// `[pool]` with a mode other than "off".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Idle connections in all.
    pub max_idle: usize,
    /// Idle connections for the same person, database and startup parameters.
    pub max_idle_per_login: usize,
    /// How long a connection may be idle.
    pub server_idle_timeout: Duration,
    /// How old it may be, from its login, when it is given to the next session.
    pub server_lifetime: Duration,
}

/// `None` when it is off.
pub(super) fn pool(section: &Section<'_, '_>) -> Option<PoolSettings> {
    let on = section.choice("mode", false, &[("off", false), ("session", true)]);
    let settings = PoolSettings {
        max_idle: section.count("max_idle", 100, 1..=MOST),
        max_idle_per_login: section.count("max_idle_per_login", 10, 1..=MOST),
        server_idle_timeout: section.duration("server_idle_timeout", 60 * SECOND, SECOND..=DAY),
        server_lifetime: section.duration("server_lifetime", 600 * SECOND, SECOND..=DAY),
    };
    section.finish();
    on.then_some(settings)
}
