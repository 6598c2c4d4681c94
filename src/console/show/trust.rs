//! `SHOW ISSUERS`, `KEYS` and `STS`: the services that logins depend on.

use crate::console::show::sessions::shown;
use crate::console::state::ConsoleDesk;
use crate::postgres::command_server::{Cell, RowEncoder};

fn yes_or_no(holds: bool) -> Cell {
    if holds { "yes" } else { "no" }.into()
}

/// Issuers, and whether their tokens can be verified.
pub(super) fn issuers(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    for (settings, keys) in desk.current.load().context.verifier.issuers() {
        let status = keys.status();
        rows.push(&[
            shown(&settings.name),
            shown(settings.issuer.as_str()),
            shown(&settings.audience.join(", ")),
            yes_or_no(status.usable),
            status.age.as_secs().into(),
            status.clock_ahead.map_or(Cell::Null, Cell::Number),
        ]);
    }
}

/// Key sets: size, age in seconds, and fetches since the start.
pub(super) fn keys(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    for (name, status) in desk.current.load().context.key_sets() {
        rows.push(&[
            shown(name),
            status.keys.into(),
            status.left_out.into(),
            status.age.as_secs().into(),
            status.max_age.as_secs().into(),
            status.fetches.good.into(),
            status.fetches.failed.into(),
            status.fetches.for_unknown_key.into(),
            status.fetches.for_bad_signature.into(),
        ]);
    }
}

/// STS endpoints: calls since the start by outcome.
pub(super) fn sts(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    for endpoint in desk.current.load().context.aws().sts {
        for (outcome, calls) in &endpoint.tries {
            rows.push(&[
                shown(&endpoint.host),
                yes_or_no(endpoint.paused),
                (*outcome).into(),
                (*calls).into(),
                Cell::Number(endpoint.clock_ahead),
            ]);
        }
    }
}
