//! Rows of SHOW.

mod service;
mod sessions;
mod trust;

use crate::console::state::ConsoleDesk;
use crate::console::topic::Topic;
use crate::postgres::command_server::RowEncoder;

/// Appends the rows of `topic`.
pub(super) fn fill(desk: &ConsoleDesk, topic: Topic, rows: &mut RowEncoder) {
    match topic {
        Topic::Clients => sessions::clients(desk, rows),
        Topic::Clusters => service::clusters(desk, rows),
        Topic::Config => service::config(desk, rows),
        Topic::Databases => service::databases(desk, rows),
        Topic::Fds => service::descriptors(rows),
        Topic::Help => help(rows),
        Topic::Issuers => trust::issuers(desk, rows),
        Topic::Keys => trust::keys(desk, rows),
        Topic::Limits => service::limits(desk, rows),
        Topic::Lists => service::lists(desk, rows),
        Topic::Mem => service::memory(desk, rows),
        Topic::Pools => service::pools(desk, rows),
        Topic::Servers => service::servers(desk, rows),
        Topic::Sessions => sessions::sessions(desk, rows),
        Topic::Stats => service::stats(desk, rows),
        Topic::Sts => trust::sts(desk, rows),
        Topic::Users => service::users(desk, rows),
        Topic::Version => rows.push(&[concat!("pgpassport ", env!("CARGO_PKG_VERSION")).into()]),
    }
}

/// Commands that change the service: form and description.
const CHANGES: [(&str, &str); 8] = [
    (
        "DRAIN CLUSTER",
        "refuses new logins, and ends sessions when they are idle, at the latest after shutdown_timeout",
    ),
    ("KILL ID", "ends a session or a console connection at its next message boundary, within 2 s"),
    ("KILL SUBJECT 'SUB' [ISSUER 'NAME']", "ends all sessions of a person"),
    (
        "PAUSE [CLUSTER]",
        "makes new logins wait until RESUME, and waits until the sessions have ended, at most 30 s",
    ),
    ("RELOAD", "reads the configuration file again, and tells its problems"),
    ("RESUME [CLUSTER]", "lets logins in after PAUSE and DRAIN"),
    ("SET log_level = LEVEL", "error, warn, info, debug, or trace, until the next restart"),
    ("SHUTDOWN", "stops the service as SIGTERM does: sessions end when they are idle"),
];

fn help(rows: &mut RowEncoder) {
    for topic in Topic::ALL {
        rows.push(&[format!("SHOW {}", topic.word()).into(), "view".into(), topic.about().into()]);
    }
    for (command, about) in CHANGES {
        rows.push(&[command.into(), "allow".into(), about.into()]);
    }
}
