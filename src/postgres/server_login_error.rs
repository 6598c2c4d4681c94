//! Errors of a login to the database.

use super::message::WireError;
use super::server_error::{LoginStep, ServerError};
use crate::names::{DbUser, MAX_NAME_BYTES, printable};
use crate::net::tls;
use crate::protocol::{ServerLoginError, Shortage};
use crate::refusal::Fault;

/// Reason why the upstream refused the login.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamLoginError {
    /// The server asked for something other than a cleartext password; the token was not sent.
    #[error("the server asked for {asked} instead of an IAM token for user \"{}\"", printable(user.as_str(), MAX_NAME_BYTES))]
    NotIam {
        /// Requested method.
        asked: &'static str,
        /// The derived user.
        user: DbUser,
    },
    /// The server refused with this error.
    #[error("the server refused with {0}")]
    Refused(Box<ServerError>),
    /// The server sent more messages or bytes than a login needs.
    #[error("the server sends more than a login holds")]
    TooMuch,
    /// A protocol violation or connection error.
    #[error("login exchange with the server: {0}")]
    Wire(WireError),
}

impl From<WireError> for UpstreamLoginError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl ServerLoginError for UpstreamLoginError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotIam { .. } => Fault::Client,
            Self::Refused(error) => match error.class() {
                "" | "08" | "53" | "57" | "58" | "F0" | "XX" => Fault::Outside,
                _ => Fault::Client,
            },
            Self::TooMuch | Self::Wire(_) => Fault::Outside,
        }
    }

    /// The limits of a role and of a database are recognized by the English message; in another language they count as
    /// the server's.
    fn shortage(&self) -> Option<Shortage> {
        match self {
            // too_many_connections (PostgreSQL manual, "PostgreSQL Error Codes"); messages from
            // src/backend/utils/init/postinit.c and src/backend/storage/lmgr/proc.c.
            Self::Refused(error) if error.sqlstate == "53300" => Some(match &error.message {
                words if words.starts_with("too many connections for role ") => Shortage::Role,
                words if words.starts_with("too many connections for database ") => Shortage::Database,
                _ => Shortage::Server,
            }),
            _ => None,
        }
    }

    /// Class 28, "Invalid Authorization Specification" (PostgreSQL manual, "PostgreSQL Error Codes"). RDS says
    /// `PAM authentication failed` for every reason.
    fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Refused(error) if error.class() == "28" && error.step == LoginStep::Token)
    }

    /// Codes in the PostgreSQL manual, "PostgreSQL Error Codes": `admin_shutdown`, `crash_shutdown`,
    /// `cannot_connect_now`.
    fn is_of_the_address(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error.sqlstate.as_str(), "57P01" | "57P02" | "57P03"),
            Self::Wire(WireError::Io(error)) => !tls::is_distrust(error),
            Self::Wire(WireError::Closed) => true,
            Self::NotIam { .. } | Self::TooMuch | Self::Wire(_) => false,
        }
    }
}

impl UpstreamLoginError {
    /// True if this first answer to a startup packet can be about its version: PostgreSQL before 2018 refuses
    /// an unknown version, PgBouncer before 1.23 closes.
    pub(super) fn may_be_about_the_protocol(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error.sqlstate.as_str(), "0A000" | "08P01"),
            Self::Wire(WireError::Closed | WireError::Io(_)) => true,
            _ => false,
        }
    }
}
