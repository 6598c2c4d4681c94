//! Why there is no place for a login, or none any more, in words for the person who made it.

use crate::refusal::{Refusal, Stage};
use crate::session::permits::{NoPlace, Whose};

pub(super) fn explain(why: &NoPlace) -> Refusal {
    match why {
        NoPlace::Full(full) => {
            let what = match full.of {
                Whose::Clients => "connections",
                Whose::Logins => "logins in progress",
                Whose::Address => "logins in progress from one address",
                Whose::User(_) => "sessions of one person",
                Whose::Cluster(_) => "sessions of this cluster",
                Whose::Group(_) => "sessions of one group",
            };
            Refusal::too_many_connections(
                &full.of.to_string(),
                &format!("the limit of {what} is {}", full.max),
                full.of.key(),
            )
        }
        NoPlace::Descriptors => Refusal::too_many_connections(
            "the proxy",
            "the proxy has run out of file descriptors",
            "LimitNOFILE of its service",
        ),
        NoPlace::Stopping => Refusal::cannot_connect_now(
            "the proxy is shutting down",
            Stage::Session,
            "this proxy ends its sessions and takes no new ones",
        )
        .hint("Connect to another host, or try again in a moment."),
    }
}

pub(super) fn withdrawn(user: &str) -> Refusal {
    Refusal::authentication(user, Stage::Authorization, "the access of this subject or token is withdrawn")
        .hint("Ask whoever runs the proxy.")
}

pub(super) fn audit_unwritable() -> Refusal {
    Refusal::cannot_connect_now(
        "audit log unavailable",
        Stage::Audit,
        "audit records cannot be written, and nobody is let in without one",
    )
    .hint("Nothing is wrong with your token. Connect to another host, or try again in a moment.")
}
