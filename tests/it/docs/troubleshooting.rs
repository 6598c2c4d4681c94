//! The pages for faults know every code, stage, and link; the sizing table has the figures of the benchmarks.

use std::fs;

use pgpassport::commands::doctor::ChainLink;
use pgpassport::postgres::error_response::sqlstate;
use pgpassport::refusal::{Condition, Stage};

use super::root;

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Every condition. A new one does not compile before it is named here.
fn conditions() -> Vec<Condition> {
    let text = String::new;
    let all = vec![
        Condition::TlsRequired,
        Condition::PeerNotAllowed,
        Condition::AuthenticationFailed,
        Condition::AuthenticationTimedOut,
        Condition::CannotConnectNow("x"),
        Condition::TooManyConnections(text()),
        Condition::ProtocolViolation(text()),
        Condition::Unsupported(text()),
        Condition::Terminating("x"),
        Condition::IdleSession,
        Condition::IdleInTransaction,
        Condition::ServerLost,
        Condition::Internal,
    ];
    match Condition::Internal {
        Condition::TlsRequired
        | Condition::PeerNotAllowed
        | Condition::AuthenticationFailed
        | Condition::AuthenticationTimedOut
        | Condition::CannotConnectNow(_)
        | Condition::TooManyConnections(_)
        | Condition::ProtocolViolation(_)
        | Condition::Unsupported(_)
        | Condition::Terminating(_)
        | Condition::IdleSession
        | Condition::IdleInTransaction
        | Condition::ServerLost
        | Condition::Internal
        | Condition::ServerCode(_) => all,
    }
}

#[test]
fn troubleshooting_knows_every_sqlstate_stage_and_link() {
    let page = page("troubleshooting.md");
    for condition in conditions() {
        let code = sqlstate(&condition);
        assert!(page.contains(&format!("\n| {code} | ")), "{code} of {condition:?}");
    }
    // The texts of "cannot connect now" are in the code of the steps.
    let explain = ["aws.rs", "place.rs", "token.rs", "upstream.rs"]
        .map(|name| fs::read_to_string(root().join("src/session/explain").join(name)).unwrap())
        .concat();
    let reason = regex::Regex::new(r#""((?:issuer|AWS|database|audit) [A-Za-z ]+ ?(?:unavailable|unreachable|not trusted|login failed)|(?:issuer keys|database|AWS STS|audit log) (?:unavailable|unreachable|not trusted|login failed))""#).unwrap();
    let mut seen = 0;
    for found in reason.captures_iter(&explain) {
        assert!(page.contains(&format!("cannot connect now: {}", &found[1])), "{}", &found[1]);
        seen += 1;
    }
    assert!(seen >= 6, "{seen} reasons");
    for stage in Stage::ALL {
        assert!(page.contains(&format!("\n| `{}` | ", stage.word())), "{stage:?}");
    }
    for link in ChainLink::ALL {
        assert!(page.contains(&format!("`{}`", link.id())), "{}", link.id());
    }
}

#[test]
fn the_sizing_figures_are_those_of_the_benchmarks() {
    let (sizing, benchmarks) = (page("operations.md"), page("benchmarks.md"));
    let sizing = sizing.split("## Sizing").nth(1).unwrap().split("\n## ").next().unwrap();
    // The column of pgpassport.
    let figure = |what: &str, unit: &str| {
        let row = benchmarks.lines().find(|row| row.contains(&format!(" | {what} | {unit} |")));
        let row = row.unwrap_or_else(|| panic!("{what}, {unit}"));
        row.split('|').nth(8).unwrap().trim().split(' ').next().unwrap().to_owned()
    };
    for (what, unit, shown) in [
        ("5000 idle sessions", "KiB a session", "KiB for an idle session"),
        ("64 clients, one session thread", "µs CPU a transaction", "µs for a small prepared query"),
        ("logins, 8 clients, nothing pooled by pgpassport", "ms CPU a login", "ms for a login with a new"),
        ("logins, 8 clients, warm pools", "ms CPU a login", "ms with the warm pool"),
    ] {
        let wanted = format!("{} {shown}", figure(what, unit));
        assert!(
            sizing.replace('\n', " ").replace("  ", " ").contains(&wanted),
            "docs/operations.md says not: {wanted}"
        );
    }
    let kib: f64 = figure("5000 idle sessions", "KiB a session").parse().unwrap();
    for row in sizing.lines().filter(|row| row.starts_with("| ") && row.ends_with(" |")).skip(1) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace(',', "")).collect();
        let number = |at: usize| cells[at].split(' ').next().unwrap().parse::<f64>().unwrap();
        assert!((number(2) - 2.0 * number(1)).abs() < 0.5, "{row}");
        assert!((number(3) - (2.0 * number(2) + 192.0)).abs() < 0.5, "{row}");
        assert!((number(4) - number(1) * kib / 1024.0).abs() < 0.06 * number(4), "{row}");
        assert!((number(5) - number(1)).abs() < 0.5, "{row}");
    }
}
