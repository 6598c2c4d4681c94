//! Decides whether verified claims may log in as they ask: startup user, database, session tag.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::auth::claims::VerifiedClaims;
use crate::auth::dbuser::{self, DeriveError};
use crate::config::{ClusterSettings, StartupUser};
use crate::names::{DbName, DbUser, Issuer, MAX_NAME_BYTES, NameError, Subject, printable};

/// The rules of one cluster.
#[derive(Clone, Debug)]
pub struct Policy {
    cluster: Arc<ClusterSettings>,
}

/// What the client asked for in its startup message; nothing of it is trusted.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `user`
    pub user: &'a str,
    /// `database`
    pub database: Option<&'a str>,
}

impl Policy {
    /// The rules that `cluster` is configured with.
    pub fn new(cluster: Arc<ClusterSettings>) -> Self {
        Self { cluster }
    }

    /// Decides who this is in the database.
    pub fn authorise(&self, claims: VerifiedClaims, asked: Asked<'_>) -> Result<Grant, PolicyError> {
        let rules = &self.cluster.user;
        let db_user = dbuser::derive(&claims, rules)?;
        let placeholder = rules.placeholders.iter().any(|placeholder| placeholder == asked.user);
        if rules.startup_user == StartupUser::Match && !placeholder && asked.user != db_user.as_str() {
            return Err(PolicyError::UserMismatch {
                asked: printable(asked.user, MAX_NAME_BYTES),
                derived: shown(&db_user),
            });
        }
        if self.cluster.pin.by_tag() {
            check_tag(&claims, &db_user)?;
        }
        // PostgreSQL's own default is the user, and the user is the derived one.
        let database =
            DbName::parse(asked.database.unwrap_or(db_user.as_str())).map_err(PolicyError::Database)?;
        Ok(Grant { db_user, database, claims, cluster: Arc::clone(&self.cluster) })
    }
}

/// The claim that AWS reads session tags from, in its nested and its flattened form (IAM user guide, "Passing
/// session tags using AssumeRoleWithWebIdentity").
const TAGS: &str = "https://aws.amazon.com/tags";
const FLAT_TAG: &str = "https://aws.amazon.com/tags/principal_tags/dbuser";

/// AWS compares the tag with the database user byte for byte; so do we, before anyone is asked.
fn check_tag(claims: &VerifiedClaims, db_user: &DbUser) -> Result<(), PolicyError> {
    let nested = [TAGS, "principal_tags", "dbuser"].map(str::to_owned);
    let derived = || shown(db_user);
    let tag = match (claims.claim(&nested), claims.claim(&[FLAT_TAG.to_owned()])) {
        (None, None) => return Err(PolicyError::TagMissing { derived: derived() }),
        (Some(tag), None) | (None, Some(tag)) => one_text(tag),
        // Which one AWS would take is not documented.
        (Some(_), Some(_)) => None,
    };
    match tag {
        None => Err(PolicyError::TagMalformed { derived: derived() }),
        Some(tag) if tag == db_user.as_str() => Ok(()),
        Some(tag) => {
            Err(PolicyError::TagMismatch { tag: printable(tag, MAX_NAME_BYTES), derived: derived() })
        }
    }
}

/// A tag is a text, or a list of exactly one.
fn one_text(tag: &Value) -> Option<&str> {
    match tag {
        Value::Array(values) => match values.as_slice() {
            [one] => one.as_str(),
            _ => None,
        },
        other => other.as_str(),
    }
}

fn shown(user: &DbUser) -> String {
    printable(user.as_str(), MAX_NAME_BYTES)
}

/// The decision that this subject may log in to this cluster, this database, as this database user.
#[derive(Debug)]
pub struct Grant {
    db_user: DbUser,
    database: DbName,
    claims: VerifiedClaims,
    cluster: Arc<ClusterSettings>,
}

impl Grant {
    /// The derived database user: what is signed and sent upstream.
    pub fn db_user(&self) -> &DbUser {
        &self.db_user
    }

    /// The database.
    pub fn database(&self) -> &DbName {
        &self.database
    }

    /// `iss`.
    pub fn issuer(&self) -> &Issuer {
        self.claims.issuer()
    }

    /// The operator's name for the issuer.
    pub fn issuer_name(&self) -> &str {
        self.claims.issuer_name()
    }

    /// `sub`.
    pub fn subject(&self) -> &Subject {
        self.claims.subject()
    }

    /// `jti`, when the token has one. Escape it before it is shown.
    pub fn token_id(&self) -> Option<&str> {
        self.claims.token_id()
    }

    /// `azp`: where it is present, STS compares it instead of `aud`.
    pub fn azp(&self) -> Option<&str> {
        self.claims.azp()
    }

    /// When the token expires, without leeway.
    pub fn expires_at(&self) -> SystemTime {
        self.claims.expires_at()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<ClusterSettings> {
        &self.cluster
    }
}

/// Why a genuine token may not log in as it asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No database user follows from the claims.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// The connection string names another user than the token.
    #[error("asked for user \"{asked}\", the token is for \"{derived}\"")]
    UserMismatch {
        /// What the client sent, escaped and cut.
        asked: String,
        /// What the token says.
        derived: String,
    },
    /// The database name is impossible.
    #[error("the database name cannot be used: {0}")]
    Database(NameError),
    /// The session tag `dbuser` is demanded and absent.
    #[error("the token carries no session tag dbuser, expected \"{derived}\"")]
    TagMissing {
        /// What it must be.
        derived: String,
    },
    /// The session tag `dbuser` is not exactly one text.
    #[error("the token's session tag dbuser is not exactly one text, expected \"{derived}\"")]
    TagMalformed {
        /// What it must be.
        derived: String,
    },
    /// The session tag `dbuser` is somebody else.
    #[error("the token's session tag dbuser is \"{tag}\", expected \"{derived}\"")]
    TagMismatch {
        /// What it is, escaped and cut.
        tag: String,
        /// What it must be.
        derived: String,
    },
}
