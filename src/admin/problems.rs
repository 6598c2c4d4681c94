//! Problems that the status page names first, each with its runbook. The conditions are those of
//! `packaging/monitoring/alerts.yaml` that hold at one moment.

use std::time::Duration;

use super::html::{Escaped, duration};
use super::status_view::StatusView;

/// A condition that an operator should act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Name of the alert.
    pub(super) alert: &'static str,
    /// True if people cannot log in or records are lost.
    pub(super) critical: bool,
    /// The state, as HTML.
    pub(super) text: String,
}

const DAY: i64 = 86_400;

/// Largest difference of clocks, in seconds.
const MAX_CLOCK_DIFFERENCE: i64 = 30;

/// The problems, the critical ones first.
pub(super) fn problems(view: &StatusView) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |alert, critical, text: String| found.push(Problem { alert, critical, text });
    let now = &view.snapshot;
    if let Err(why) = view.ready {
        add("PgpassportNotReady", true, format!("New clients are not accepted: {}.", Escaped(why)));
    }
    for fault in &view.faults {
        add("PgpassportTaskDown", true, format!("{}.", Escaped(fault)));
    }
    found.extend(of_issuers(view));
    let mut add = |alert, critical, text: String| found.push(Problem { alert, critical, text });
    for sts in &now.aws.sts {
        let host = Escaped(&sts.host);
        if sts.paused {
            add("PgpassportStsPaused", true, format!("Calls to {host} pause after failures in a row."));
        }
        if sts.clock_ahead.abs() > MAX_CLOCK_DIFFERENCE {
            let text =
                format!("This machine's clock and that of {host} differ by {} s.", sts.clock_ahead.abs());
            add("PgpassportClockWrong", false, text);
        }
    }
    for cluster in &now.gates {
        let name = Escaped(&cluster.name);
        if cluster.paused {
            let text =
                format!("Cluster {name} is paused: new logins wait for RESUME, {} now.", cluster.waiting);
            add("PgpassportClusterClosed", false, text);
        } else if cluster.draining {
            let text = format!("Cluster {name} is drained: new logins are refused until RESUME.");
            add("PgpassportClusterClosed", false, text);
        }
    }
    for (listener, expires) in &now.certificates {
        let left = expires - view.unix_seconds;
        let listener = Escaped(listener);
        if left < 0 {
            let text = format!("The certificate of listener {listener} has expired.");
            add("PgpassportCertificateExpiresTomorrow", true, text);
        } else if left < 7 * DAY {
            let rest = duration(Duration::from_secs(left.unsigned_abs()));
            let alert = if left < DAY {
                "PgpassportCertificateExpiresTomorrow"
            } else {
                "PgpassportCertificateExpires"
            };
            add(alert, left < DAY, format!("The certificate of listener {listener} expires in {rest}."));
        }
    }
    found.extend(of_the_process(view));
    let (mut found, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|problem| problem.critical);
    found.extend(others);
    found
}

/// Problems of issuers' keys and clocks.
fn of_issuers(view: &StatusView) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |alert, critical, text: String| found.push(Problem { alert, critical, text });
    for issuer in &view.snapshot.issuers {
        let (name, age) = (Escaped(&issuer.name), duration(issuer.age));
        if !issuer.usable {
            let never = issuer.keys == 0;
            let why = if never { "were never fetched".to_owned() } else { format!("are {age} old") };
            add(
                "PgpassportKeysUnusable",
                true,
                format!("Tokens of issuer {name} are refused: its keys {why}."),
            );
        } else if issuer.age > issuer.max_age / 4 {
            let limit = duration(issuer.max_age);
            let text =
                format!("The keys of issuer {name} are {age} old. From {limit} on its tokens are refused.");
            add("PgpassportKeysOld", false, text);
        }
        let ahead = issuer.clock_ahead.unwrap_or(0);
        if ahead.abs() > MAX_CLOCK_DIFFERENCE {
            let text = format!("This machine's clock and that of issuer {name} differ by {} s.", ahead.abs());
            add("PgpassportClockWrong", false, text);
        }
    }
    found
}

/// Problems of configuration, log, and limits.
fn of_the_process(view: &StatusView) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |alert, critical, text: String| found.push(Problem { alert, critical, text });
    let now = &view.snapshot;
    if !view.reload_applied {
        let text =
            "The last reload was refused: the configuration on disk is not the running one.".to_owned();
        add("PgpassportReloadRefused", false, text);
    }
    for (what, writable) in [("The log", now.log.log_writable), ("Audit records", now.log.audit_writable)] {
        if !writable {
            add("PgpassportLogUnwritable", true, format!("{what} cannot be written."));
        }
    }
    let places = now.active + now.waiting;
    if places * 5 > now.max_clients * 4 {
        let text = format!("{places} of {} places are in use.", now.max_clients);
        add("PgpassportNearlyFull", false, text);
    }
    let (open, most) = (now.process.open_files, now.process.max_files);
    if open > most / 5 * 4 {
        add("PgpassportFileDescriptors", false, format!("{open} of {most} file descriptors are in use."));
    }
    found
}
