//! What a client is told when it cannot have a session, or can keep it no longer. Every SQLSTATE and every
//! first word of a message is chosen here; the steps only say what happened.

use crate::names::{MAX_NAME_BYTES, printable};

/// `invalid_password` (PostgreSQL manual, appendix A).
const AUTHENTICATION_FAILED: &str = "28P01";

/// Longest DETAIL or HINT, far below libpq's limit for a whole ErrorResponse.
const MAX_TEXT: usize = 2_000;

/// The step of the login that refused, named in DETAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first packets, before the password.
    Startup,
    /// The token and its verification.
    Token,
    /// The issuer's keys.
    Keys,
    /// Who may log in as whom.
    Authorization,
    /// `AssumeRoleWithWebIdentity`.
    Sts,
    /// Signing the IAM token.
    Signing,
    /// Resolving the server's name.
    UpstreamName,
    /// TCP connections to its addresses.
    UpstreamConnect,
    /// TLS with the server, and its certificate.
    UpstreamTls,
    /// The server's own decision.
    UpstreamLogin,
    /// Our limits.
    Limits,
    /// The audit log.
    Audit,
    /// Waiting too long, stopping, ending.
    Session,
}

impl Stage {
    /// The stable word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Token => "token",
            Self::Keys => "keys",
            Self::Authorization => "authorization",
            Self::Sts => "sts",
            Self::Signing => "signing",
            Self::UpstreamName => "upstream_name",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamLogin => "upstream_login",
            Self::Limits => "limits",
            Self::Audit => "audit",
            Self::Session => "session",
        }
    }
}

/// A refusal as PostgreSQL words it: a severity of FATAL, a code for programs, three texts for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE (PostgreSQL manual, appendix A), chosen by what drivers do with it.
    pub sqlstate: String,
    /// Short, with stable first words: some drivers show nothing else.
    pub message: String,
    /// The step that refused.
    pub stage: Stage,
    /// What happened there.
    pub detail: String,
    /// What to change, and where.
    pub hint: Option<String>,
    /// The server's own words are passed on; our stage stands behind them.
    pub verbatim: bool,
    /// Other fields of the server's own error, by their code: context, and the place in its source.
    pub other: Vec<(u8, String)>,
}

impl Refusal {
    fn new(sqlstate: &str, message: impl Into<String>, stage: Stage, detail: &str) -> Self {
        Self {
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
            stage,
            detail: cut(detail),
            hint: None,
            verbatim: false,
            other: Vec::new(),
        }
    }

    /// Adds what to change.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(cut(hint));
        self
    }

    /// 28000, and only this: a driver that sees it connects again with TLS.
    pub fn tls_required() -> Self {
        Self::new(
            "28000",
            "connection requires TLS",
            Stage::Startup,
            "this connection is not encrypted, so no token was asked for",
        )
        .hint("Connect with sslmode=verify-full (JDBC: sslmode=verify-full, node-postgres: ssl=true).")
    }

    /// 28P01: this person may not log in, or not like this. `user` is what the client asked for.
    pub fn authentication(user: &str, stage: Stage, detail: &str) -> Self {
        let user = printable(user, MAX_NAME_BYTES);
        Self::new(
            AUTHENTICATION_FAILED,
            format!("password authentication failed for user \"{user}\""),
            stage,
            detail,
        )
    }

    /// Says who failed in PostgreSQL's words for OAUTHBEARER, where no password was ever asked for.
    #[must_use]
    pub fn by_bearer_token(mut self, user: &str) -> Self {
        let user = printable(user, MAX_NAME_BYTES);
        self.message = format!("OAuth bearer authentication failed for user \"{user}\"");
        self
    }

    /// Whether the person or the token is refused, and not the moment, the protocol or the proxy's state.
    pub fn rejects_the_person(&self) -> bool {
        self.sqlstate == AUTHENTICATION_FAILED
    }

    /// 57P03: nobody's fault who is asking, and worth another try, here or at the next host.
    pub fn cannot_connect_now(what: &str, stage: Stage, detail: &str) -> Self {
        Self::new("57P03", format!("cannot connect now: {what}"), stage, detail)
    }

    /// 57014, as PostgreSQL ends a login that its client does not finish.
    pub fn authentication_timeout() -> Self {
        let detail = "the token did not come in time";
        Self::new("57014", "canceling authentication due to timeout", Stage::Token, detail)
            .hint("Send the token at once; the limit is limits.client_login_timeout.")
    }

    /// 53300: a limit is reached. `key` is what sets it in the configuration.
    pub fn too_many_connections(whom: &str, detail: &str, key: &str) -> Self {
        Self::new("53300", format!("too many connections for {whom}"), Stage::Limits, detail)
            .hint(&format!("Try again when other connections have ended, or have {key} raised."))
    }

    /// 53300 too: the cluster takes no more new logins for the moment.
    pub fn login_queue_full(cluster: &str, per_second: usize) -> Self {
        Self::new(
            "53300",
            format!("too many connections for cluster \"{cluster}\""),
            Stage::Limits,
            &format!(
                "new logins are let in at {per_second} a second, and the turns of the next 10 seconds are taken"
            ),
        )
        .hint(
            "Try again in a few seconds, or raise cluster.max_logins_per_second. AWS throttles new IAM logins at \
             about 200 a second.",
        )
    }

    /// 08P01: the bytes do not follow the protocol.
    pub fn malformed(what: &str) -> Self {
        Self::new("08P01", what, Stage::Startup, "the message does not follow the PostgreSQL protocol")
    }

    /// 0A000: something PostgreSQL has and this login cannot.
    pub fn unsupported(message: &str, detail: &str) -> Self {
        Self::new("0A000", message, Stage::Startup, detail)
    }

    /// 57P01: a live session is ended.
    pub fn terminating(reason: &str, detail: &str) -> Self {
        Self::new("57P01", format!("terminating connection due to {reason}"), Stage::Session, detail)
    }

    /// 57P05, in PostgreSQL's words: the client was silent for too long.
    pub fn idle_session_timeout() -> Self {
        let detail = "the client sent nothing for as long as session.client_idle_timeout";
        Self::new("57P05", "terminating connection due to idle-session timeout", Stage::Session, detail)
            .hint("Connect again.")
    }

    /// 25P03, in PostgreSQL's words: and inside a transaction.
    pub fn idle_in_transaction_timeout() -> Self {
        let message = "terminating connection due to idle-in-transaction timeout";
        let detail = "the client left a transaction open for as long as session.idle_transaction_timeout";
        Self::new("25P03", message, Stage::Session, detail)
            .hint("The transaction was rolled back. End transactions as soon as their work is done.")
    }

    /// 08006: the server went away in the middle of a session.
    pub fn server_connection_lost() -> Self {
        Self::new(
            "08006",
            "server connection lost",
            Stage::Session,
            "the database server closed the connection or cannot be reached any more",
        )
        .hint("Connect again. After a failover the endpoint's name may take half a minute to move.")
    }

    /// What the server itself said, behind which DETAIL has our stage.
    pub fn verbatim(sqlstate: &str, message: &str, detail: &str, hint: Option<&str>) -> Self {
        let refusal = Self::new(sqlstate, cut(message), Stage::UpstreamLogin, detail);
        Self { hint: hint.map(cut), verbatim: true, ..refusal }
    }

    /// Adds other fields of what the server said.
    #[must_use]
    pub fn with_fields(mut self, other: &[(u8, String)]) -> Self {
        self.other = other.iter().map(|(code, text)| (*code, cut(text))).collect();
        self
    }

    /// XX000: a fault of ours; the log has it under the session's id.
    pub fn internal(stage: Stage) -> Self {
        Self::new("XX000", "internal error in the proxy", stage, "this is a fault of pgpassport")
            .hint("Report the session id to whoever runs the proxy; the log line with it has the cause.")
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_only_the_asked_name_is_echoed_escaped_and_cut() {
        let refusal = Refusal::authentication("x\u{1b}[31m\"y", Stage::Token, "d");
        assert_eq!(refusal.message, r#"password authentication failed for user "x\u{1b}[31m\"y""#);
        let long = Refusal::authentication(&"u".repeat(200), Stage::Token, "d");
        assert_eq!(long.message.matches('u').count(), 63 + "authentication".matches('u').count() + 1);
    }

    #[test]
    fn c11_texts_stay_far_below_what_libpq_reads() {
        for (characters, kept) in [(1_000, 2_000), (1_001, 2_000), (5_000, 2_000), (999, 1_998)] {
            let long = "é".repeat(characters);
            let refusal = Refusal::verbatim("53300", &long, &long, Some(&long));
            let texts = [refusal.message, refusal.detail, refusal.hint.unwrap()];
            assert_eq!(texts.map(|text| text.len()), [kept; 3], "{characters}");
        }
        assert_eq!(cut(&format!("x{}", "é".repeat(1_000))).len(), 1_999, "a character is not halved");
        let ours = Refusal::authentication("al", Stage::Token, &"d".repeat(2_001)).hint(&"h".repeat(2_001));
        assert_eq!((ours.detail.len(), ours.hint.unwrap().len()), (2_000, 2_000));
        assert_eq!(cut("a\0b"), "a b", "a NUL would end the field");
    }
}
