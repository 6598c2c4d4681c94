//! The text of `/readyz?verbose`: a line for each part that logins depend on.

use std::fmt::{Display, Write};
use std::time::Duration;

use super::html::days_left;
use super::status_view::StatusView;
use crate::telemetry::cluster_metrics::ClusterSnapshot;

/// The lines, each with a mark, and the verdict of `/readyz` at the end. `+` works, `!` needs an operator.
pub(super) fn report(view: &StatusView) -> String {
    let mut text = String::new();
    let mut line = |good: bool, what: &dyn Display| {
        let _ = writeln!(text, "[{}] {what}", if good { '+' } else { '!' });
    };
    let now = &view.snapshot;
    for issuer in &now.issuers {
        let (name, keys, age) = (&issuer.name, issuer.keys, seconds(issuer.age));
        let state = if issuer.usable { format!("{keys} keys") } else { "no usable keys".to_owned() };
        line(issuer.usable, &format!("issuer {name}: {state}, {age} old"));
    }
    for sts in &now.aws.sts {
        let state = if sts.paused { "calls pause after failures in a row" } else { "in use" };
        line(!sts.paused, &format!("STS {}: {state}", sts.host));
    }
    for cluster in &now.gates {
        line(!cluster.paused && !cluster.draining, &format!("cluster {}: {}", cluster.name, gate(cluster)));
    }
    for (listener, expires) in &now.certificates {
        let left = u64::try_from(expires - view.unix_seconds).unwrap_or(0);
        let state = if left > 0 { days_left(left) } else { "expired".to_owned() };
        line(left > 0, &format!("certificate of {listener}: {state}"));
    }
    let written = now.log.audit_writable;
    line(written, &format!("audit records: {}", if written { "written" } else { "cannot be written" }));
    let applied = if view.reload_applied { "applied" } else { "refused; the former one is in use" };
    line(view.reload_applied, &format!("configuration: last reload {applied}"));
    for fault in &view.faults {
        line(false, fault);
    }
    match view.ready {
        Ok(()) => text.push_str("ready\n"),
        Err(why) => {
            let _ = writeln!(text, "not ready: {why}");
        }
    }
    text
}

fn gate(cluster: &ClusterSnapshot) -> String {
    match (cluster.paused, cluster.draining) {
        (true, _) => format!("paused, {} logins wait", cluster.waiting),
        (false, true) => "drained, new logins are refused".to_owned(),
        (false, false) => "open".to_owned(),
    }
}

fn seconds(duration: Duration) -> impl Display {
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}
