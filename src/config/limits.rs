//! `[limits]`: waits and counts of the service as a whole.

use std::time::Duration;

use super::LimitSettings;
use super::reader::Section;
use super::values::{DAY, HOUR, SECOND, none_for_zero};

/// Above any count of connections that one machine can have.
const MOST: usize = 1_000_000;

pub(super) fn limits(section: &Section<'_, '_>) -> LimitSettings {
    let limits = LimitSettings {
        client_login_timeout: section.duration("client_login_timeout", 15 * SECOND, SECOND..=HOUR),
        login_timeout: section.duration("login_timeout", 60 * SECOND, SECOND..=HOUR),
        server_connect_timeout: section.duration("server_connect_timeout", 10 * SECOND, SECOND..=HOUR),
        max_client_conn: section.count("max_client_conn", 1_000, 1..=MOST),
        max_user_client_connections: none_for_zero(section.count("max_user_client_connections", 0, 0..=MOST)),
        max_logins: section.count("max_logins", 1_024, 1..=MOST),
        max_logins_per_address: none_for_zero(section.count("max_logins_per_address", 0, 0..=MOST)),
        shutdown_delay: section.duration("shutdown_delay", Duration::ZERO, Duration::ZERO..=HOUR),
        shutdown_timeout: section.duration("shutdown_timeout", 30 * SECOND, Duration::ZERO..=DAY),
    };
    for (name, time) in [
        ("client_login_timeout", limits.client_login_timeout),
        ("server_connect_timeout", limits.server_connect_timeout),
    ] {
        if time > limits.login_timeout {
            let text =
                "it is longer than login_timeout, which covers the whole login; shorten it or raise that";
            section.reading.problem(&section.span, &format!("limits.{name}"), text);
        }
    }
    section.finish();
    limits
}
