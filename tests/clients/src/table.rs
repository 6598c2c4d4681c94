//! The page for people: changes when it should read differently.

use std::fmt::Write as _;

use crate::clients::ClientProgram;
use crate::protocol::MatrixProtocol;
use crate::report::{CellOutcome, MatrixReport};

const POSTGRESQL: &str = "\
# Clients

Written by `make clients`, which runs every program of `tests/clients/programs` through the proxy, with a real
PostgreSQL behind it. Do not edit. [connecting.md](connecting.md) says how each client is told to connect.

| column | what is done |
|---|---|
| 800, 3,000, 16,000 | a login over TLS with `verify-full` and a token of so many bytes |
| verify-full | a certificate of another authority is refused, and so is another host name |
| refusal | a login with an expired token: the error that the program receives |
| prepared | one prepared statement, executed twice |
| error | a transaction with an error in it: SQLSTATE 22012, then 25P02, then a rollback and on |
| COPY | 10,000 rows in and out |
| cancel | a running query is cancelled: 57014 arrives and the session goes on |
| 50 MB | a result of 52,428,800 bytes, length and SHA-256 compared |
| NOTIFY | a notification of another session arrives |
| drain | the proxy is stopped by SIGTERM and started again: the old session ends, a new one works |

`ok`: as it should be. `limit`: the client has a limit there, shown by the run. `–`: the client has no such thing.

";

const MYSQL: &str = "\
# Clients of MySQL

Written by `make clients`, which runs every program of `tests/clients/programs` that speaks MySQL's protocol through the proxy,
with a real MySQL behind it. Do not edit.

| column | what is done |
|---|---|
| 800, 3,000, 16,000, 20,000 | a login over TLS with a verified certificate and a token of so many bytes |
| verify | a certificate of another authority is refused, and so is another host name |
| refusal | a login with an expired token: the error that the program receives |
| prepared | one statement prepared on the server, executed twice (the binary protocol) |
| error | a transaction with a duplicate key in it: 1062 and 23000, then a rollback and on |
| multi | several statements in one text: each result arrives |
| INFILE | `LOAD DATA LOCAL INFILE` of 10,000 rows |
| cancel | a running query is cancelled, and the session goes on |
| 50 MB | a result of 52,428,800 bytes, length and SHA-256 compared |
| 17 MiB | one row that is longer than a packet |
| reset | the session is reset: a variable of it is gone |
| drain | the proxy is stopped by SIGTERM and started again: the old session ends, a new one works |

`ok`: as it should be. `limit`: the client has a limit there, shown by the run. `–`: the client has no such thing.

";

/// The whole page. Nothing in it but the versions depends on when or where it is written.
pub(crate) fn page(protocol: MatrixProtocol, rows: &[(&ClientProgram, &MatrixReport)]) -> String {
    let head = match protocol {
        MatrixProtocol::Postgresql => POSTGRESQL,
        MatrixProtocol::Mysql => MYSQL,
    };
    let (mut page, checks) = (head.to_owned(), protocol.checks());
    let headings: Vec<&str> = checks.iter().map(|(_, heading)| *heading).collect();
    let headings = headings.join(" | ");
    let _ = writeln!(page, "| client | version | {headings} |\n|---|---|{}", "---|".repeat(checks.len()));
    for (client, report) in rows {
        let cells: Vec<&str> = checks.iter().map(|(check, _)| word(report, check)).collect();
        let _ = writeln!(page, "| {} | {} | {} |", client.name, report.version, cells.join(" | "));
    }
    page.push_str("\n## Notes\n");
    for (client, report) in rows {
        let notes: Vec<String> =
            checks.iter().filter_map(|(check, heading)| note(report, check, heading)).collect();
        let extras = report.extras.iter().map(|extra| format!("- works too: {extra}"));
        let limits = report.limits.iter().map(|limit| format!("- **limit**: {limit}"));
        let lines: Vec<String> = notes.into_iter().chain(extras).chain(limits).collect();
        if !lines.is_empty() {
            let _ = writeln!(page, "\n**{}**\n\n{}", client.name, lines.join("\n"));
        }
    }
    page
}

fn word(report: &MatrixReport, check: &str) -> &'static str {
    match report.cells.get(check).map(|cell| cell.outcome) {
        Some(CellOutcome::Ok) => "ok",
        Some(CellOutcome::Limit) => "limit",
        Some(CellOutcome::Absent) => "–",
        Some(CellOutcome::Failed) | None => "**failed**",
    }
}

fn note(report: &MatrixReport, check: &str, heading: &str) -> Option<String> {
    let note = &report.cells.get(check)?.note;
    (!note.is_empty()).then(|| format!("- {heading}: {}", without_session(&note.replace('\n', " "))))
}

/// The text without the proxy's session id, which each run has anew.
fn without_session(text: &str) -> String {
    let Some((before, rest)) = text.split_once(" Session ") else { return text.to_owned() };
    let behind = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    format!("{before}{}", behind.strip_prefix('.').unwrap_or(behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_does_not_reach_the_page() {
        assert_eq!(without_session("stopping. Session fdad7e8c2676bddf.`; again"), "stopping.`; again");
        assert_eq!(without_session("no id"), "no id");
    }
}
