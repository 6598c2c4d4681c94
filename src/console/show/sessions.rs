//! `SHOW SESSIONS` and `SHOW CLIENTS`: live sessions, and connections to the console.

use std::time::{Duration, SystemTime};

use crate::console::state::ConsoleDesk;
use crate::names::client_addr::ClientAddr;
use crate::names::visible;
use crate::postgres::command_server::{Cell, RowEncoder};
use crate::session::registry::{SessionSnapshot, SessionState};

/// Longest text of a cell that comes from a token.
const MAX_SHOWN: usize = 255;

/// Sessions with the words of the proxy.
pub(super) fn sessions(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let now = desk.shared.clock.now();
    for session in desk.shared.registry.list() {
        let facts = &session.facts;
        rows.push(&[
            facts.id.to_string().into(),
            shown(&facts.person.subject),
            shown(&facts.person.issuer),
            shown(&facts.cluster),
            shown(&facts.database),
            shown(&facts.db_user),
            session.state_word().into(),
            age(facts.since, now).into(),
            session.work.to_server.into(),
            session.work.to_client.into(),
            session.work.counts.queries.into(),
            session.work.counts.transactions.into(),
            facts.client.to_string().into(),
            shown(&facts.listener),
            facts.protocol.word().into(),
            time(facts.since).into(),
        ]);
    }
}

/// Sessions and console connections in PgBouncer's columns.
pub(super) fn clients(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let of_sessions = desk.shared.registry.list();
    let of_console = desk.shared.console.sessions.list();
    for client in of_sessions.iter().chain(&of_console) {
        rows.push(&client_row(client));
    }
}

fn client_row(client: &SessionSnapshot) -> [Cell; 12] {
    let facts = &client.facts;
    let (addr, port) = match facts.client {
        ClientAddr::Tcp(addr) => (addr.ip().to_string(), addr.port()),
        unix @ ClientAddr::Unix(_) => (unix.to_string(), 0),
    };
    [
        "C".into(),
        shown(&facts.db_user),
        shown(&facts.database),
        state(client),
        addr.into(),
        usize::from(port).into(),
        time(facts.since).into(),
        facts.tls.into(),
        facts.application.as_deref().map_or(Cell::Null, shown),
        facts.id.to_string().into(),
        client.work.counts.queries.into(),
        client.work.counts.transactions.into(),
    ]
}

/// `idle`, or `active` in a statement or a transaction.
pub(super) fn state(session: &SessionSnapshot) -> Cell {
    if session.state == SessionState::Idle { "idle" } else { "active" }.into()
}

/// A text that may come from outside, cut and escaped.
pub(super) fn shown(text: &str) -> Cell {
    visible(text, MAX_SHOWN).into()
}

/// Seconds, minutes, hours and days since `since`.
fn age(since: SystemTime, now: SystemTime) -> String {
    let whole = now.duration_since(since).unwrap_or_default().as_secs();
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

/// A time in UTC, with PostgreSQL's spelling.
fn time(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}
