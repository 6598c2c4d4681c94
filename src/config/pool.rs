//! `[pool]`: number and lifetime of server connections that are kept after a session.

use std::time::Duration;

use super::reader::SectionReader;
use super::readers::{DAY, SECOND};

/// Largest configurable count, above any real number of server connections.
const MOST: usize = 10_000;

/// `[pool]` with a mode other than "off".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Most idle connections in total.
    pub max_idle: usize,
    /// Most idle connections for the same person, database and startup parameters.
    pub max_idle_per_login: usize,
    /// Longest idle time of a connection.
    pub server_idle_timeout: Duration,
    /// Longest age of a connection, since its login, at the start of a session.
    pub server_lifetime: Duration,
}

/// The pool's settings; `None` if it is off.
pub(super) fn pool(section: &SectionReader<'_, '_>) -> Option<PoolSettings> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{problem, read, with};

    #[test]
    fn it_is_off_unless_it_is_on() {
        assert_eq!(read(&with(&[])).unwrap().pool, None);
        assert_eq!(read(&with(&[("max_idle", "max_idle = 7")])).unwrap().pool, None);
        let on = read(&with(&[("mode", "mode = \"session\"")])).unwrap();
        let defaults = PoolSettings {
            max_idle: 100,
            max_idle_per_login: 10,
            server_idle_timeout: Duration::from_mins(1),
            server_lifetime: Duration::from_mins(10),
        };
        assert_eq!((on.pool, on.warnings), (Some(defaults), vec![]));
        let told = problem(&[("mode", "mode = \"transaction\"")]);
        assert!(told.contains("pool.mode") && told.contains("\"session\""), "{told}");
        for (key, wrong) in [
            ("max_idle", "max_idle = 0"),
            ("max_idle", "max_idle = 10001"),
            ("max_idle_per_login", "max_idle_per_login = 0"),
            ("server_idle_timeout", "server_idle_timeout = \"0s\""),
            ("server_lifetime", "server_lifetime = 600"),
        ] {
            assert!(problem(&[(key, wrong)]).contains(&format!("pool.{key}")), "{wrong}");
        }
    }

    #[test]
    fn replicas_that_share_a_secret_are_told_what_they_lose() {
        let both = [("mode", "mode = \"session\""), ("secret_file", "secret_file = \"x\"")];
        let warnings = read(&with(&both)).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("pool.mode"), "{warnings:?}");
        assert_eq!(read(&with(&both[1..])).unwrap().warnings, [] as [&str; 0]);
    }
}
