//! Rows of SHOW.

mod sessions;

use crate::console::desk::ConsoleDesk;
use crate::console::topic::Topic;
use crate::postgres::command_server::RowEncoder;

/// Appends the rows of `topic`.
pub(super) fn fill(desk: &ConsoleDesk, topic: Topic, rows: &mut RowEncoder) {
    match topic {
        Topic::Clients => sessions::clients(desk, rows),
        Topic::Help => help(rows),
        Topic::Sessions => sessions::sessions(desk, rows),
        Topic::Version => rows.push(&[concat!("pgpassport ", env!("CARGO_PKG_VERSION")).into()]),
    }
}

/// Commands that change the service: form and description.
const CHANGES: [(&str, &str); 1] =
    [("SET log_level = LEVEL", "error, warn, info, debug, or trace, until the next restart")];

fn help(rows: &mut RowEncoder) {
    for topic in Topic::ALL {
        rows.push(&[format!("SHOW {}", topic.word()).into(), "view".into(), topic.about().into()]);
    }
    for (command, about) in CHANGES {
        rows.push(&[command.into(), "allow".into(), about.into()]);
    }
}
