//! Encoding of refusals: the only writer of ErrorResponse and NoticeResponse.

use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use super::command_failure::CommandFailure;
use super::limits;
use super::message::put;
use super::token_method::TokenMethod;
use crate::names::{MAX_NAME_BYTES, SessionId, printable};
use crate::refusal::{Condition, Hint, Refusal};

/// Context of a refused login.
#[derive(Clone, Copy, Debug)]
pub struct RefusedLogin<'a> {
    /// User that the client requested.
    pub user: &'a str,
    /// Method by which the token was requested.
    pub token_method: &'a TokenMethod,
}

/// SQLSTATE of a condition (PostgreSQL manual, appendix A), chosen by how drivers react.
pub fn sqlstate(condition: &Condition) -> &str {
    match condition {
        // Drivers reconnect with TLS on this code; over TLS they would reconnect without.
        Condition::TlsRequired | Condition::PeerNotAllowed => "28000",
        Condition::AuthenticationFailed => "28P01",
        Condition::AuthenticationTimedOut => "57014",
        Condition::CannotConnectNow(_) => "57P03",
        Condition::TooManyConnections(_) => "53300",
        Condition::ProtocolViolation(_) => "08P01",
        Condition::Unsupported(_) => "0A000",
        Condition::Terminating(_) => "57P01",
        Condition::IdleSession => "57P05",
        Condition::IdleInTransaction => "25P03",
        Condition::ServerLost => "08006",
        Condition::Internal => "XX000",
        Condition::ServerCode(code) => code,
    }
}

/// Message: short, with stable first words, PostgreSQL's own if it has some. Some drivers show nothing else.
fn message(condition: &Condition, login: RefusedLogin<'_>) -> String {
    match condition {
        Condition::TlsRequired => "connection requires TLS".to_owned(),
        Condition::PeerNotAllowed => "peer authentication failed".to_owned(),
        Condition::AuthenticationFailed => {
            let method = match login.token_method {
                TokenMethod::Password => "password",
                TokenMethod::OAuthBearer(_) => "OAuth bearer",
            };
            format!("{method} authentication failed for user \"{}\"", printable(login.user, MAX_NAME_BYTES))
        }
        Condition::AuthenticationTimedOut => "canceling authentication due to timeout".to_owned(),
        Condition::CannotConnectNow(what) => format!("cannot connect now: {what}"),
        Condition::TooManyConnections(scope) => format!("too many connections for {scope}"),
        Condition::ProtocolViolation(what) | Condition::Unsupported(what) => what.clone(),
        Condition::Terminating(reason) => format!("terminating connection due to {reason}"),
        Condition::IdleSession => "terminating connection due to idle-session timeout".to_owned(),
        Condition::IdleInTransaction => {
            "terminating connection due to idle-in-transaction timeout".to_owned()
        }
        Condition::ServerLost => "server connection lost".to_owned(),
        Condition::Internal => "internal error in the proxy".to_owned(),
        Condition::ServerCode(_) => "the server refused".to_owned(),
    }
}

/// Text of a remedy for PostgreSQL drivers.
pub fn hint<'h>(hint: &'h Hint, token_method: &TokenMethod) -> &'h str {
    match (hint, token_method) {
        (Hint::Text(text), _) => text,
        (Hint::UseTls, _) => {
            "Connect with sslmode=verify-full (JDBC: sslmode=verify-full, node-postgres: ssl=true)."
        }
        (Hint::SendToken | Hint::SendJwt, TokenMethod::Password) => {
            "Send the JWT of your identity provider as the password, whole and unchanged: psql's prompt cuts it at \
             4095 bytes, so use PGPASSWORD or a passfile."
        }
        (Hint::SendToken, TokenMethod::OAuthBearer(_)) => {
            "Send the access token of your identity provider by OAUTHBEARER, whole and unchanged (psql 18: \
             oauth_issuer=<issuer> oauth_client_id=<client>)."
        }
        (Hint::SendJwt, TokenMethod::OAuthBearer(_)) => {
            "Let the identity provider issue JWT access tokens; some issue opaque ones unless the scope asks for an \
             API of yours (oauth_scope)."
        }
    }
}

/// ErrorResponse for a refusal of `login`. Severity is FATAL. DETAIL contains the session id, so that the
/// operator finds the log line.
pub fn encode(refusal: &Refusal, login: RefusedLogin<'_>, session: SessionId) -> BytesMut {
    let (stage, detail) = (refusal.stage.word(), &refusal.detail);
    let (message, detail, other) = match &refusal.words {
        Some(words) => {
            let space = if detail.is_empty() { "" } else { " " };
            let detail = format!("{detail}{space}Stage {stage}. Session {session}.");
            (words.message.clone(), detail, words.other.as_slice())
        }
        None => {
            let detail = format!("Stage {stage}: {detail}. Session {session}.");
            (message(&refusal.condition, login), detail, &[][..])
        }
    };
    let remedy = refusal.hint.as_ref().map(|remedy| hint(remedy, login.token_method));
    let hint: Vec<_> = remedy.into_iter().chain(refusal.note.as_deref()).collect();
    let mut fields = vec![
        (b'S', "FATAL".to_owned()),
        (b'V', "FATAL".to_owned()),
        (b'C', sqlstate(&refusal.condition).to_owned()),
        (b'M', message),
        (b'D', detail),
    ];
    if !hint.is_empty() {
        fields.push((b'H', hint.join(" ")));
    }
    fields.extend(other.iter().cloned());
    let mut out = BytesMut::new();
    // Texts are cut where they are made. If one were still too long, sending nothing is better than bytes
    // that the client cannot parse.
    if put(&ErrorResponse::new(fields), &mut out).is_err() || out.len() > limits::MAX_ERROR_RESPONSE {
        out.clear();
    }
    out
}

/// ErrorResponse that ends a session. It refuses no login, so it names no user.
pub fn last_words(refusal: &Refusal, session: SessionId) -> BytesMut {
    encode(refusal, RefusedLogin { user: "", token_method: &TokenMethod::Password }, session)
}

/// NoticeResponse with the expiry of the session's token. SQLSTATE 01000 is a warning (PostgreSQL manual,
/// appendix A).
pub fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut {
    let left = expires.duration_since(now).unwrap_or_default();
    let message = match left.as_secs() {
        0 => "the token of this session has expired".to_owned(),
        seconds => {
            let left = humantime::format_duration(Duration::from_secs(seconds));
            format!("the token of this session expires in {left}")
        }
    };
    let fields = vec![
        (b'S', "NOTICE".to_owned()),
        (b'V', "NOTICE".to_owned()),
        (b'C', "01000".to_owned()),
        (b'M', message),
        (b'D', format!("Session {session}.")),
        (b'H', "Get a fresh token from your identity provider for the next connection.".to_owned()),
    ];
    let mut out = BytesMut::new();
    if put(&NoticeResponse::new(fields), &mut out).is_err() {
        out.clear(); // texts of ours, so it is never
    }
    out
}

/// ErrorResponse of a command that was not executed. Severity is ERROR, so that the session continues.
pub fn command_failed(failure: &CommandFailure) -> BytesMut {
    let CommandFailure { sqlstate, message, detail, hint } = failure;
    let mut fields = vec![
        (b'S', "ERROR".to_owned()),
        (b'V', "ERROR".to_owned()),
        (b'C', (*sqlstate).to_owned()),
        (b'M', message.replace('\0', " ")),
    ];
    fields.extend(detail.as_ref().map(|detail| (b'D', detail.replace('\0', " "))));
    fields.extend(hint.as_ref().map(|hint| (b'H', hint.replace('\0', " "))));
    let mut out = BytesMut::new();
    if put(&ErrorResponse::new(fields), &mut out).is_err() {
        out.clear(); // texts of ours, so it is never
    }
    out
}

/// NoticeResponse with a text of a command's answer.
pub fn notice(text: &str) -> BytesMut {
    let fields = vec![
        (b'S', "NOTICE".to_owned()),
        (b'V', "NOTICE".to_owned()),
        (b'C', "00000".to_owned()),
        (b'M', text.replace('\0', " ")),
    ];
    let mut out = BytesMut::new();
    if put(&NoticeResponse::new(fields), &mut out).is_err() {
        out.clear(); // texts of ours, so it is never
    }
    out
}

#[cfg(test)]
mod tests;
