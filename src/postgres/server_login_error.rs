//! Errors of a login to the database.

use std::net::SocketAddr;

use super::message::WireError;
use super::server_error::{LoginStep, ServerError};
use crate::names::{DbUser, MAX_NAME_BYTES, printable};
use crate::net::dial_error::DialError;
use crate::net::tls;
pub use crate::protocol::Shortage;

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
    /// The server did not finish the login in time.
    #[error("{0} does not finish the login in time")]
    Silent(SocketAddr),
    /// The server could not be reached again for an older protocol version.
    #[error(transparent)]
    Redial(#[from] DialError),
    /// A protocol violation or connection error.
    #[error("login exchange with the server: {0}")]
    Wire(WireError),
}

impl From<WireError> for UpstreamLoginError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl UpstreamLoginError {
    /// Kind of slots that ran out, if the server refused for that reason. The limits of a role and of a
    /// database are recognized by the English message; in another language they count as the server's.
    pub fn shortage(&self) -> Option<Shortage> {
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

    /// True if another address of the endpoint may work: the server is gone, silent, starting or stopping
    /// (PostgreSQL manual, "PostgreSQL Error Codes": `admin_shutdown`, `crash_shutdown`,
    /// `cannot_connect_now`).
    pub(super) fn is_of_the_address(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error.sqlstate.as_str(), "57P01" | "57P02" | "57P03"),
            Self::Wire(WireError::Io(error)) => !tls::is_distrust(error),
            Self::Wire(WireError::Closed) | Self::Silent(_) => true,
            Self::Redial(error) => !error.is_distrust(),
            Self::NotIam { .. } | Self::TooMuch | Self::Wire(_) => false,
        }
    }

    /// True if the server rejected the IAM token: class 28, "Invalid Authorization Specification" (PostgreSQL
    /// manual, "PostgreSQL Error Codes"). RDS says `PAM authentication failed` for every reason.
    pub fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Refused(error) if error.class() == "28" && error.step == LoginStep::Token)
    }

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
