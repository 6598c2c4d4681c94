//! Closed lists of words that metrics have as labels.

/// Outcomes of connections: [`super::audit::SessionOutcome::word`].
pub(super) const OUTCOMES: [&str; 10] = [
    "session",
    "console",
    "refused",
    "cancel",
    "no_token",
    "discovery",
    "dropped",
    "health_check",
    "lost",
    "aborted",
];

/// Stages that refuse logins: the words of `refusal::Stage`.
pub(super) const STAGES: [&str; 14] = [
    "startup",
    "token",
    "keys",
    "authorization",
    "sts",
    "signing",
    "upstream_name",
    "upstream_connect",
    "upstream_tls",
    "upstream_login",
    "limits",
    "audit",
    "operator",
    "session",
];

/// Ends of sessions: [`super::audit::SessionOutcome::end`] of a session.
pub(super) const ENDS: [&str; 13] = [
    "client_left",
    "client_lost",
    "server_ended",
    "server_lost",
    "idle",
    "idle_in_transaction",
    "lifetime",
    "token_expired",
    "withdrawn",
    "killed",
    "cluster_drained",
    "drained",
    "stopped",
];

/// Reasons of dropped connections: [`super::audit::SessionOutcome::end`] of a connection that never spoke PostgreSQL.
pub(super) const DROPPED: [&str; 12] = [
    "silent",
    "proxy_header",
    "junk",
    "pre_tls_bytes",
    "repeated",
    "tls",
    "tls_timeout",
    "timeout",
    "no_alpn",
    "crowded",
    "evicted",
    "io",
];

/// Results of cancels: [`super::audit::SessionOutcome::end`] of a cancel.
pub(super) const CANCELS: [&str; 3] = ["forwarded", "ignored", "failed"];
