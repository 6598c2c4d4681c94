//! The reasons why a database does not let a user in.

use std::net::SocketAddr;

use super::message::WireError;
use super::server_error::{LoginStep, ServerError};
use crate::names::{DbUser, MAX_NAME_BYTES, printable};
use crate::net::dial_error::DialError;
use crate::net::tls;

/// The kind of places that a server has too few of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// `max_connections`, less those that are reserved for others.
    Server,
    /// `CONNECTION LIMIT` of the role.
    Role,
    /// `CONNECTION LIMIT` of the database.
    Database,
}

/// Why the upstream did not let the user in.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamLoginError {
    /// It asked for something else than a cleartext password; the token was not sent.
    #[error("the server asked for {asked} instead of an IAM token for user \"{}\"", printable(user.as_str(), MAX_NAME_BYTES))]
    NotIam {
        /// What it asked for.
        asked: &'static str,
        /// The derived user.
        user: DbUser,
    },
    /// It refused, in these words.
    #[error("the server refused with {0}")]
    Refused(Box<ServerError>),
    /// More messages or bytes than a login has.
    #[error("the server sends more than a login holds")]
    TooMuch,
    /// It did not finish the login in time.
    #[error("{0} does not finish the login in time")]
    Silent(SocketAddr),
    /// It could not be reached a second time, to be asked for an older protocol.
    #[error(transparent)]
    Redial(#[from] DialError),
    /// It broke the protocol or the connection.
    #[error("login exchange with the server: {0}")]
    Wire(WireError),
}

impl From<WireError> for UpstreamLoginError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl UpstreamLoginError {
    /// The places that the server has too few of, if it refused for want of one. Its limits for a role and for a
    /// database are told apart by its English words; in another language each counts as that of the whole server.
    pub fn shortage(&self) -> Option<Shortage> {
        match self {
            // too_many_connections (PostgreSQL manual, "PostgreSQL Error Codes"); the words are those of
            // src/backend/utils/init/postinit.c and src/backend/storage/lmgr/proc.c.
            Self::Refused(error) if error.sqlstate == "53300" => Some(match &error.message {
                words if words.starts_with("too many connections for role ") => Shortage::Role,
                words if words.starts_with("too many connections for database ") => Shortage::Database,
                _ => Shortage::Server,
            }),
            _ => None,
        }
    }

    /// Whether another address of the same endpoint may do better: the server is gone, silent, or starting or stopping
    /// (PostgreSQL manual, "PostgreSQL Error Codes": `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`).
    pub(super) fn is_of_the_address(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error.sqlstate.as_str(), "57P01" | "57P02" | "57P03"),
            Self::Wire(WireError::Io(error)) => !tls::is_distrust(error),
            Self::Wire(WireError::Closed) | Self::Silent(_) => true,
            Self::Redial(error) => !error.is_distrust(),
            Self::NotIam { .. } | Self::TooMuch | Self::Wire(_) => false,
        }
    }

    /// True if the server does not accept the IAM token: class 28, "Invalid Authorization Specification" (PostgreSQL manual,
    /// "PostgreSQL Error Codes"). RDS says `PAM authentication failed` whatever the reason is.
    pub fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Refused(error) if error.class() == "28" && error.step == LoginStep::Token)
    }

    /// Whether this, as the first word to a startup packet, can be meant for its version: PostgreSQL before
    /// 2018 refuses a version it does not know, PgBouncer before 1.23 closes.
    pub(super) fn may_be_about_the_protocol(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error.sqlstate.as_str(), "0A000" | "08P01"),
            Self::Wire(WireError::Closed | WireError::Io(_)) => true,
            _ => false,
        }
    }
}
