//! Input of the access policy: the request of a client, and the clusters that it may reach; and the reasons of its refusals.

use std::sync::Arc;

use super::db_user::DeriveError;
use crate::config::ClusterSettings;
use crate::names::{DbUser, MAX_NAME_BYTES, NameError, printable};

/// A cluster of the policy: its settings, or a running cluster that has them.
pub trait ConfiguredCluster {
    /// The settings that decide who may log in.
    fn settings(&self) -> &Arc<ClusterSettings>;
}

impl ConfiguredCluster for Arc<ClusterSettings> {
    fn settings(&self) -> &Arc<ClusterSettings> {
        self
    }
}

/// Untrusted request of a client, and the listener and server name it used.
#[derive(Clone, Debug)]
pub struct LoginRequest<'a> {
    /// `user`
    pub user: &'a str,
    /// `database`
    pub database: Option<&'a str>,
    /// The listener's name.
    pub listener: &'a str,
    /// The server name of its TLS (SNI).
    pub server_name: Option<&'a str>,
    /// True if the client sent the parameter `options`.
    pub options: bool,
    /// Canonical names of the settings that the client sets, in `options` or by name.
    pub settings: Vec<String>,
}

/// Reason why a genuine token may not log in as requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No database user can be derived from the claims.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// The connection string names a user other than the token's.
    #[error("asked for user \"{asked}\", the token is for \"{}\"", printable(derived.as_str(), MAX_NAME_BYTES))]
    UserMismatch {
        /// User that the client sent, escaped and cut.
        asked: String,
        /// User derived from the token.
        derived: DbUser,
    },
    /// No cluster matches the listener, server name and database. The client gets the same text as for
    /// `NotAllowed`.
    #[error("no cluster serves database \"{database}\" on this listener and server name")]
    NoCluster {
        /// Database that the client sent, escaped and cut.
        database: String,
        /// True if the token says that it leaves out its owner's groups.
        overage: bool,
    },
    /// The person may not use the cluster.
    #[error("not allowed to use database \"{database}\": {why}")]
    NotAllowed {
        /// Database that the client sent, escaped and cut.
        database: String,
        /// The rule that denies access, for the log.
        why: String,
        /// True if the token says that it leaves out its owner's groups.
        overage: bool,
    },
    /// The connection sets a forbidden setting.
    #[error("the connection sets \"{name}\", which the cluster forbids")]
    ForbiddenSetting {
        /// The setting's name, escaped and cut.
        name: String,
    },
    /// The database name is invalid.
    #[error("the database name is invalid: {0}")]
    Database(NameError),
    /// The session tag `dbuser` is required and absent.
    #[error("the token carries no session tag dbuser, expected \"{derived}\"")]
    TagMissing {
        /// Required value.
        derived: String,
    },
    /// The session tag `dbuser` is not exactly one string.
    #[error("the token's session tag dbuser is not exactly one string, expected \"{derived}\"")]
    TagMalformed {
        /// Required value.
        derived: String,
    },
    /// The session tag `dbuser` names another user.
    #[error("the token's session tag dbuser is \"{tag}\", expected \"{derived}\"")]
    TagMismatch {
        /// Actual value, escaped and cut.
        tag: String,
        /// Required value.
        derived: String,
    },
}
