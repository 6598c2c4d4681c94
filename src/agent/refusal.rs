//! Errors in PostgreSQL's and MySQL's form, which every tool shows to its user.

use super::NoToken;
use super::framing::message;
use super::proxy_login::ProxyLoginError;
use crate::mysql::error_packet;
use crate::names::{printable, visible};
use crate::refusal::FRESH_TOKEN;

/// Longest text of a field, in bytes.
const MAX_TEXT: usize = 1_000;

/// True for an ErrorResponse of the proxy whose HINT asks for a fresh token.
pub(super) fn asks_for_fresh_token(error: &[u8]) -> bool {
    let fields = error.get(5..).unwrap_or_default().split(|byte| *byte == 0);
    let mut hints = fields.filter_map(|field| field.strip_prefix(b"H"));
    hints.any(|hint| hint.starts_with(FRESH_TOKEN.as_bytes()))
}

/// A refused connection of a tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToolRefusal {
    sqlstate: &'static str,
    message: String,
    detail: String,
    hint: String,
}

impl ToolRefusal {
    /// The ErrorResponse (PostgreSQL manual, "Error and Notice Message Fields").
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let fields = [
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', self.sqlstate),
            (b'M', &self.message),
            (b'D', &self.detail),
        ];
        for (code, text) in fields.into_iter().chain([(b'H', self.hint.as_str())]) {
            if !text.is_empty() {
                body.push(code);
                body.extend_from_slice(visible(text, MAX_TEXT).as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        message(b'E', &body)
    }

    /// Payload of the ERR packet of MySQL, which has one line of text.
    pub(super) fn err_payload(&self) -> Vec<u8> {
        let (errno, sqlstate) = match self.sqlstate {
            "53300" => (1040, "08004"), // ER_CON_COUNT_ERROR
            "08P01" => (1043, "08S01"), // ER_HANDSHAKE_ERROR
            "57P03" => (3168, "HY000"), // ER_SERVER_ISNT_AVAILABLE
            _ => (1045, "28000"),       // ER_ACCESS_DENIED_ERROR
        };
        let text = format!("{}: {} {}", self.message, self.detail, self.hint);
        error_packet::payload(errno, sqlstate, &visible(text.trim(), MAX_TEXT))
    }

    /// A wrong local password, or a tool that knows no SCRAM.
    pub(super) fn wrong_password(user: &str, profile: &str) -> Self {
        Self {
            sqlstate: "28P01",
            message: format!("password authentication failed for user \"{}\"", printable(user, 63)),
            detail: "The password is not the local password of the pgpassport agent.".into(),
            hint: format!(
                "`pgpassport connect --show-password --profile {profile}` prints it. It is no token."
            ),
        }
    }

    /// A user of the machine who is not the agent's.
    pub(super) fn another_person() -> Self {
        Self {
            sqlstate: "28000",
            message: "peer authentication failed".into(),
            detail: "The socket belongs to another user of this machine.".into(),
            hint: "Start an agent of your own: `pgpassport connect`.".into(),
        }
    }

    /// Too many connections to the agent.
    pub(super) fn too_many() -> Self {
        Self {
            sqlstate: "53300",
            message: "too many connections for the pgpassport agent".into(),
            detail: format!(
                "At most {} tools are connected at a time, {} of them before they have proved the local password.",
                super::MAX_TOOLS,
                super::MAX_UNPROVEN
            ),
            hint: "Close connections, or make the pools of your tools smaller.".into(),
        }
    }

    /// A startup packet that does not follow the protocol.
    pub(super) fn protocol(problem: &str) -> Self {
        Self {
            sqlstate: "08P01",
            message: "invalid startup packet".into(),
            detail: problem.into(),
            hint: String::new(),
        }
    }

    /// No token.
    pub(super) fn no_token(user: &str, error: NoToken) -> Self {
        let (sqlstate, message) = if error.is_transient {
            ("57P03", "cannot connect now: the agent cannot get a token".to_owned())
        } else {
            ("28P01", format!("password authentication failed for user \"{}\"", printable(user, 63)))
        };
        Self { sqlstate, message, detail: format!("No token: {}.", error.reason), hint: error.remedy }
    }

    /// No token in time.
    pub(super) fn late_token() -> Self {
        Self {
            sqlstate: "57P03",
            message: "cannot connect now: the agent cannot get a token".into(),
            detail: "The refresh of the token takes too long.".into(),
            hint: "Try again. `pgpassport token` shows whether a refresh works.".into(),
        }
    }

    /// A proxy that cannot be reached, or is not the right one.
    pub(super) fn proxy(error: &ProxyLoginError) -> Self {
        Self {
            sqlstate: "57P03",
            message: "cannot connect now: the agent cannot log in at the proxy".into(),
            detail: format!("{error}."),
            hint: error.remedy().into(),
        }
    }
}
