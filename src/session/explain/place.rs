//! Refusals because of limits, closed clusters, a stop of the service, withdrawn access, or an unwritable audit log.

use crate::refusal::{Refusal, Stage};
use crate::session::gate::ClusterClosed;
use crate::session::permits::{AdmissionError, LimitScope};

pub(super) fn explain(why: &AdmissionError) -> Refusal {
    match why {
        AdmissionError::LimitReached(full) => {
            let what = match full.scope {
                LimitScope::Clients => "connections",
                LimitScope::Logins => "logins in progress",
                LimitScope::Address => "logins in progress from one address",
                LimitScope::User(_) => "sessions of one person",
                LimitScope::Cluster(_) => "sessions of this cluster",
                LimitScope::Group(_) => "sessions of one group",
                LimitScope::Console => return console_full(full.max),
            };
            Refusal::too_many_connections(
                &full.scope.to_string(),
                &format!("the limit of {what} is {}", full.max),
                full.scope.key(),
            )
        }
        AdmissionError::Descriptors => Refusal::too_many_connections(
            "the proxy",
            "the proxy has run out of file descriptors",
            "LimitNOFILE of its service",
        ),
    }
}

fn console_full(max: usize) -> Refusal {
    let detail = format!("the limit of its connections is {max}");
    Refusal::too_many_connections("the console", &detail, "")
        .hint("Close other connections to the console, or try again when they have ended.")
}

pub(super) fn withdrawn() -> Refusal {
    Refusal::authentication(Stage::Authorization, "the access of this subject or token is withdrawn")
        .hint("Ask the operator of the proxy.")
}

pub(super) fn audit_unwritable() -> Refusal {
    Refusal::cannot_connect_now(
        "audit log unavailable",
        Stage::Audit,
        "audit records cannot be written, and nobody is let in without one",
    )
    .hint("Nothing is wrong with your token. Connect to another host, or try again in a moment.")
}

pub(super) fn cluster_closed(closed: &ClusterClosed) -> Refusal {
    match closed {
        ClusterClosed::Paused(cluster) => {
            let detail = format!(
                "an operator has paused cluster \"{cluster}\", and the login waited as long as limits.login_timeout allows"
            );
            Refusal::cannot_connect_now("the cluster is paused", Stage::Operator, &detail).hint(
                "Nothing is wrong with your token. Connect again when the operator of the proxy has resumed the \
                 cluster.",
            )
        }
        ClusterClosed::Drained(cluster) => {
            let detail = format!("an operator drains cluster \"{cluster}\", which takes no new sessions");
            Refusal::cannot_connect_now("the cluster is drained", Stage::Operator, &detail).hint(
                "Nothing is wrong with your token. Connect to another host, or again when the operator of the \
                 proxy has resumed the cluster.",
            )
        }
    }
}
