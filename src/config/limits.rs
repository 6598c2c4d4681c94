//! `[limits]`: timeouts and counts of the whole service.

use std::time::Duration;

use super::reader::SectionReader;
use super::readers::{DAY, HOUR, MOST_CONNECTIONS, SECOND, none_for_zero};

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct LimitSettings {
    /// Total time from accept to the end of the client's token.
    pub client_login_timeout: Duration,
    /// Total time from accept to the session's ReadyForQuery.
    pub login_timeout: Duration,
    /// Time for one TCP and TLS connection attempt to the upstream, for all addresses together.
    pub server_connect_timeout: Duration,
    /// Most concurrent sessions, including logins in progress.
    pub max_client_conn: usize,
    /// Most concurrent sessions of one person in all clusters together; unlimited if absent.
    pub max_user_client_connections: Option<usize>,
    /// Most concurrent connections without a verified token; below `max_client_conn`.
    pub max_logins: usize,
    /// Most of these from one address (IPv6: one /64); unlimited if absent.
    pub max_logins_per_address: Option<usize>,
    /// Time between SIGTERM and the closing of the listeners. Clients are served meanwhile.
    pub shutdown_delay: Duration,
    /// Longest time for which sessions may continue after that.
    pub shutdown_timeout: Duration,
}

pub(super) fn limits(section: &SectionReader<'_, '_>) -> LimitSettings {
    let max_client_conn = section.count("max_client_conn", 1_000, 2..=MOST_CONNECTIONS);
    let max_logins = section.count("max_logins", max_client_conn * 3 / 4, 1..=MOST_CONNECTIONS);
    if max_logins >= max_client_conn {
        let text = format!(
            "{max_logins} is not below max_client_conn ({max_client_conn}): connections without a good token could take \
             every place; write at most {}, or leave it out for three quarters of max_client_conn",
            max_client_conn - 1
        );
        section.wrong("max_logins", text);
    }
    let max_user = section.count("max_user_client_connections", max_client_conn / 2, 0..=MOST_CONNECTIONS);
    let limits = LimitSettings {
        client_login_timeout: section.duration("client_login_timeout", 15 * SECOND, SECOND..=HOUR),
        login_timeout: section.duration("login_timeout", 60 * SECOND, SECOND..=HOUR),
        server_connect_timeout: section.duration("server_connect_timeout", 10 * SECOND, SECOND..=HOUR),
        max_client_conn,
        max_user_client_connections: none_for_zero(max_user),
        max_logins,
        max_logins_per_address: none_for_zero(section.count(
            "max_logins_per_address",
            0,
            0..=MOST_CONNECTIONS,
        )),
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
