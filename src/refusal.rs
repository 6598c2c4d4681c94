//! The answer to a client that gets no session or loses it, independent of the protocol. A refusal states one
//! condition; each protocol's front maps it to its own codes and messages.

use crate::words::word_enum;

/// Longest DETAIL or HINT, far below libpq's limit for a whole ErrorResponse.
pub(crate) const MAX_TEXT: usize = 2_000;

/// SQLSTATEs of servers that report a shortage, a server that is not ready, or an internal error. 08004 is MySQL's for
/// too many connections.
const FAILURES_OF_SERVERS: [&str; 4] = ["53300", "57P03", "XX000", "08004"];

/// Remedy for a token that was good once. The agent of the client's side knows it by this text.
pub(crate) const FRESH_TOKEN: &str = "Get a fresh token from your identity provider and connect again.";

/// Remedy for a passing failure outside the client.
pub(crate) const TRY_AGAIN: &str = "Nothing is wrong with your token. Try again in a moment.";

/// The party that has to act on a failed login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The person who runs the client.
    Client,
    /// The operator of the issuer, AWS or the database, or nobody.
    Outside,
    /// The person who configured role, policy or limits.
    Operator,
    /// The developers of the proxy.
    Proxy,
}

word_enum! {
    /// Stage of the login that refused, named in DETAIL.
    pub enum Stage {
        /// The first packets, before the password.
        Startup = "startup",
        /// The token and its verification.
        Token = "token",
        /// The issuer's keys.
        Keys = "keys",
        /// The access policy.
        Authorization = "authorization",
        /// `AssumeRoleWithWebIdentity`.
        Sts = "sts",
        /// Signing the IAM token.
        Signing = "signing",
        /// Resolving the server's name.
        UpstreamName = "upstream_name",
        /// TCP connections to its addresses.
        UpstreamConnect = "upstream_connect",
        /// TLS with the server, and its certificate.
        UpstreamTls = "upstream_tls",
        /// The server's login.
        UpstreamLogin = "upstream_login",
        /// Limits of the proxy.
        Limits = "limits",
        /// The audit log.
        Audit = "audit",
        /// An operator has paused or drained the cluster.
        Operator = "operator",
        /// Timeouts, stop and end of a session.
        Session = "session",
    }
}

/// Condition of a refusal. Each front has a code for each, chosen by how drivers react to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The connection is not encrypted.
    TlsRequired,
    /// The client's process may not use this Unix socket.
    PeerNotAllowed,
    /// The person may not log in as requested. The front adds the requested name.
    AuthenticationFailed,
    /// The client did not finish its login in time.
    AuthenticationTimedOut,
    /// A failure outside the client that is worth another attempt, here or at the next host.
    CannotConnectNow(&'static str),
    /// A limit is reached; the text names its scope.
    TooManyConnections(String),
    /// The client's bytes do not follow the protocol.
    ProtocolViolation(String),
    /// A feature of the protocol that this login does not support.
    Unsupported(String),
    /// The proxy ends a live session for this reason.
    Terminating(&'static str),
    /// The client was silent for too long.
    IdleSession,
    /// The client was silent for too long inside a transaction.
    IdleInTransaction,
    /// The server went away in the middle of a session.
    ServerLost,
    /// A fault of the proxy; the log has the cause under the session's id.
    Internal,
    /// The server's own code.
    ServerCode(String),
}

/// A remedy: the change and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Text for every protocol.
    Text(String),
    /// Connect with TLS; each front names its drivers' settings.
    UseTls,
    /// Send the complete token by the listener's method.
    SendToken,
    /// Send a JWT by the listener's method.
    SendJwt,
}

impl<T: AsRef<str>> From<T> for Hint {
    fn from(text: T) -> Self {
        Self::Text(cut(text.as_ref()))
    }
}

/// The part of the server's error that the client gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerWords {
    /// Message.
    pub message: String,
    /// Other fields, each with the protocol's code.
    pub other: Vec<(u8, String)>,
}

/// A refusal: a condition for programs, texts for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The condition.
    pub condition: Condition,
    /// The step that refused.
    pub stage: Stage,
    /// The event in that stage; with [`Self::words`], the server's text.
    pub detail: String,
    /// The remedy.
    pub hint: Option<Hint>,
    /// Sentence after the remedy.
    pub note: Option<String>,
    /// The server's message, if it is passed on.
    pub words: Option<ServerWords>,
}

impl Refusal {
    fn new(condition: Condition, stage: Stage, detail: &str) -> Self {
        Self { condition, stage, detail: cut(detail), hint: None, note: None, words: None }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a sentence after the remedy.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        self.note = Some(cut(note));
        self
    }

    /// [`Condition::TlsRequired`]: without TLS no token is requested.
    pub fn tls_required() -> Self {
        let detail = "this connection is not encrypted, so no token was asked for";
        Self::new(Condition::TlsRequired, Stage::Startup, detail).hint(Hint::UseTls)
    }

    /// [`Condition::PeerNotAllowed`]: nothing is read from the process, so no token is requested.
    pub fn peer_not_allowed(uid: u32) -> Self {
        let detail = format!("this socket does not serve the user with uid {uid}, so no token was asked for");
        Self::new(Condition::PeerNotAllowed, Stage::Startup, &detail)
            .hint("Connect as a user that the operator lists in listen.peer_users or listen.peer_groups.")
    }

    /// [`Condition::AuthenticationFailed`].
    pub fn authentication(stage: Stage, detail: &str) -> Self {
        Self::new(Condition::AuthenticationFailed, stage, detail)
    }

    /// True if the person or the token is refused, false for temporary conditions, protocol errors and states
    /// of the proxy.
    pub fn rejects_the_person(&self) -> bool {
        self.condition == Condition::AuthenticationFailed
    }

    /// True if neither the person nor the client can change it: a failure of the database, AWS, an issuer, a limit, or the
    /// proxy.
    pub fn is_failure(&self) -> bool {
        match &self.condition {
            Condition::CannotConnectNow(_) | Condition::TooManyConnections(_) | Condition::Internal => true,
            Condition::ServerCode(code) => FAILURES_OF_SERVERS.iter().any(|failure| code.ends_with(failure)),
            Condition::TlsRequired
            | Condition::PeerNotAllowed
            | Condition::AuthenticationFailed
            | Condition::AuthenticationTimedOut
            | Condition::ProtocolViolation(_)
            | Condition::Unsupported(_)
            | Condition::Terminating(_)
            | Condition::IdleSession
            | Condition::IdleInTransaction
            | Condition::ServerLost => false,
        }
    }

    /// True if it is a fault of the proxy.
    pub fn is_internal(&self) -> bool {
        self.condition == Condition::Internal
    }

    /// [`Condition::CannotConnectNow`].
    pub fn cannot_connect_now(what: &'static str, stage: Stage, detail: &str) -> Self {
        Self::new(Condition::CannotConnectNow(what), stage, detail)
    }

    /// [`Condition::AuthenticationTimedOut`].
    pub fn authentication_timeout() -> Self {
        let detail = "the token did not come in time";
        Self::new(Condition::AuthenticationTimedOut, Stage::Token, detail)
            .hint("Send the token at once; the limit is limits.client_login_timeout.")
    }

    /// [`Condition::TooManyConnections`]; `key` sets the limit in the configuration.
    pub fn too_many_connections(scope: &str, detail: &str, key: &str) -> Self {
        Self::new(Condition::TooManyConnections(scope.to_owned()), Stage::Limits, detail)
            .hint(format!("Try again when other connections have ended, or have {key} raised."))
    }

    /// [`Condition::TooManyConnections`]: the cluster's login queue is full.
    pub fn login_queue_full(cluster: &str, per_second: usize) -> Self {
        let detail = format!(
            "new logins are let in at {per_second} a second, and the turns of the next 10 seconds are taken"
        );
        Self::new(Condition::TooManyConnections(format!("cluster \"{cluster}\"")), Stage::Limits, &detail).hint(
            "Try again in a few seconds, or raise cluster.max_logins_per_second. AWS throttles new IAM logins at \
             about 200 a second.",
        )
    }

    /// [`Condition::ProtocolViolation`].
    pub fn malformed(what: &str) -> Self {
        let detail = "the message does not follow the protocol";
        Self::new(Condition::ProtocolViolation(what.to_owned()), Stage::Startup, detail)
    }

    /// [`Condition::Unsupported`].
    pub fn unsupported(what: &str, detail: &str) -> Self {
        Self::new(Condition::Unsupported(what.to_owned()), Stage::Startup, detail)
    }

    /// [`Condition::Terminating`].
    pub fn terminating(reason: &'static str, detail: &str) -> Self {
        Self::new(Condition::Terminating(reason), Stage::Session, detail)
    }

    /// [`Condition::IdleSession`].
    pub fn idle_session_timeout() -> Self {
        let detail = "the client sent nothing for as long as session.client_idle_timeout";
        Self::new(Condition::IdleSession, Stage::Session, detail).hint("Connect again.")
    }

    /// [`Condition::IdleInTransaction`].
    pub fn idle_in_transaction_timeout() -> Self {
        let detail = "the client left a transaction open for as long as session.idle_transaction_timeout";
        Self::new(Condition::IdleInTransaction, Stage::Session, detail)
            .hint("The transaction was rolled back. End transactions as soon as their work is done.")
    }

    /// [`Condition::ServerLost`].
    pub fn server_connection_lost() -> Self {
        let detail = "the database server closed the connection or cannot be reached any more";
        Self::new(Condition::ServerLost, Stage::Session, detail)
            .hint("Connect again. After a failover the endpoint's name may take half a minute to move.")
    }

    /// The server's message under `condition`, with its DETAIL and HINT.
    pub fn verbatim(condition: Condition, words: ServerWords, detail: &str, hint: Option<&str>) -> Self {
        let ServerWords { message, other } = words;
        let other = other.into_iter().map(|(code, text)| (code, cut(&text))).collect();
        let words = ServerWords { message: cut(&message), other };
        let refusal = Self::new(condition, Stage::UpstreamLogin, detail);
        Self { hint: hint.map(Hint::from), words: Some(words), ..refusal }
    }

    /// [`Condition::Internal`].
    pub fn internal(stage: Stage) -> Self {
        Self::new(Condition::Internal, stage, "this is a fault of pgpassport")
            .hint("Report the session id to the operator of the proxy; the log line with it has the cause.")
    }
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_what_neither_person_nor_client_can_change() {
        let server = |code: &str| {
            Refusal::verbatim(Condition::ServerCode(code.to_owned()), ServerWords::default(), "", None)
        };
        let failures = [
            Refusal::cannot_connect_now("x", Stage::Sts, ""),
            Refusal::too_many_connections("x", "", "limits.max_logins"),
            Refusal::internal(Stage::Signing),
            server("53300"),
            server("1040/08004"),
        ];
        assert!(failures.iter().all(Refusal::is_failure), "{failures:?}");
        let others = [
            Refusal::tls_required(),
            Refusal::authentication(Stage::Token, ""),
            Refusal::authentication_timeout(),
            Refusal::malformed("x"),
            server("3D000"),
            server("1049/42000"),
        ];
        assert!(!others.iter().any(Refusal::is_failure), "{others:?}");
    }

    #[test]
    fn c11_texts_stay_far_below_what_libpq_reads() {
        for (characters, kept) in [(1_000, 2_000), (1_001, 2_000), (5_000, 2_000), (999, 1_998)] {
            let long = "é".repeat(characters);
            let words = ServerWords { message: long.clone(), other: vec![(b'W', long.clone())] };
            let refusal = Refusal::verbatim(Condition::ServerCode("53300".into()), words, &long, Some(&long))
                .note(&long);
            let words = refusal.words.unwrap();
            let Some(Hint::Text(hint)) = refusal.hint else { panic!("{:?}", refusal.hint) };
            let texts = [&words.message, &words.other[0].1, &refusal.detail, &hint, &refusal.note.unwrap()];
            assert_eq!(texts.map(String::len), [kept; 5], "{characters}");
        }
        assert_eq!(cut(&format!("x{}", "é".repeat(1_000))).len(), 1_999, "a character is not halved");
        let ours = Refusal::authentication(Stage::Token, &"d".repeat(2_001)).hint("h".repeat(2_001));
        assert_eq!((ours.detail.len(), ours.hint), (2_000, Some(Hint::Text("h".repeat(2_000)))));
        assert_eq!(cut("a\0b"), "a b", "a NUL would end the field");
    }
}
