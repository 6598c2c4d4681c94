//! Decides whether verified claims may log in as they ask: cluster, startup user, database, session tag, group.

use std::sync::Arc;
use std::time::SystemTime;

use super::claim_rule::RuleVerdict;
use super::claims::VerifiedClaims;
use super::db_user::DeriveError;
use super::target::LoginTarget;
use super::{claim_rule, db_user, target};
use crate::config::{ClusterSettings, GroupSettings, OptionRules, StartupUser};
use crate::names::{DbName, DbUser, Issuer, MAX_NAME_BYTES, NameError, RoleArn, Subject, printable};

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

/// The clusters and the rules that lead people to them.
#[derive(Clone, Debug)]
pub struct AccessPolicy<C = Arc<ClusterSettings>> {
    clusters: Vec<C>,
}

/// What the client asked for, and by which way it came; nothing of it is trusted.
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
    /// Whether it sent the parameter `options`.
    pub options: bool,
    /// Canonical names of the settings it sets, by `options` or by name.
    pub settings: Vec<String>,
}

impl<C: ConfiguredCluster> AccessPolicy<C> {
    /// The rules that `clusters` are configured with. No connection may lead to two of them.
    pub fn new(clusters: Vec<C>) -> Self {
        Self { clusters }
    }

    /// The clusters.
    pub fn clusters(&self) -> &[C] {
        &self.clusters
    }

    /// Decides the cluster, the database and the database user of a login. The grant holds what the server will be
    /// asked for; the cluster beside it is the one it is for.
    pub fn authorise(
        &self,
        claims: VerifiedClaims,
        request: &LoginRequest<'_>,
    ) -> Result<(Grant, &C), PolicyError> {
        let LoginTarget { cluster: chosen, database } = target::choose(&self.clusters, &claims, request)?;
        let cluster = chosen.settings();
        let named = database.as_ref().map_or_else(|_| target::shown(request), |name| cut(name));
        let overage = claim_rule::has_groups_overage(claims.members());
        let role = admit(cluster, &claims).map_err(|why| PolicyError::NotAllowed {
            database: named.clone(),
            why,
            overage,
        })?;
        check_settings(&cluster.options, request)?;
        let database = database?;
        let db_user = db_user::derive(&claims, &cluster.user)?;
        let rules = cluster.user.of(claims.issuer_name()).ok_or(DeriveError::NoRule)?;
        let placeholder = rules.placeholders.iter().any(|placeholder| placeholder == request.user);
        if rules.startup_user == StartupUser::Match && !placeholder && request.user != db_user.as_str() {
            return Err(PolicyError::UserMismatch { asked: cut(request.user), derived: db_user });
        }
        if cluster.pin.by_tag() {
            check_tag(&claims, &db_user)?;
        }
        let database = cluster.route.real_name(&database).map_err(PolicyError::Database)?;
        let group = claim_rule::group(cluster, claims.issuer_name(), claims.members())
            .map_err(|why| PolicyError::NotAllowed { database: named, why, overage })?;
        let settings = group.and_then(|at| cluster.groups.get(at)).map(settings_of).unwrap_or_default();
        let (cluster, role) = (Arc::clone(cluster), role.clone());
        let grant = Grant { db_user, database, claims, cluster, role, group, settings };
        let known = grant.group().and_then(|group| group.databases.as_ref());
        if known.is_some_and(|known| !known.iter().any(|name| name.matches(grant.database.as_str()))) {
            let why = "the group's databases do not include it".to_owned();
            return Err(PolicyError::NotAllowed { database: cut(grant.database.as_str()), why, overage });
        }
        Ok((grant, chosen))
    }
}

/// The role of this person in `cluster`, if the person may use it at all; else the rule that says no.
fn admit<'c>(cluster: &'c ClusterSettings, claims: &VerifiedClaims) -> Result<&'c RoleArn, String> {
    let issuer = claims.issuer_name();
    if cluster.issuers.as_ref().is_some_and(|issuers| !issuers.iter().any(|name| name == issuer)) {
        return Err("cluster.issuers does not name the token's issuer".to_owned());
    }
    let role = cluster.roles.of(issuer).ok_or("cluster.role_arn has no role for the token's issuer")?;
    match cluster
        .allow
        .as_deref()
        .map_or(RuleVerdict::Holds, |allow| claim_rule::any_of(allow, issuer, claims.members()))
    {
        RuleVerdict::Holds => Ok(role),
        RuleVerdict::Fails => Err("no rule of cluster.allow fits the token".to_owned()),
        RuleVerdict::Undecided(doubt) => Err(format!("no rule of cluster.allow fits the token; {doubt}")),
    }
}

/// Settings that a group's sessions begin with.
fn settings_of(group: &GroupSettings) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if group.read_only {
        settings.push(("default_transaction_read_only", "on".to_owned()));
    }
    if !group.statement_timeout.is_zero() {
        settings.push(("statement_timeout", group.statement_timeout.as_millis().to_string()));
    }
    settings
}

/// Some sites forbid changing what the session begins with, so that the audit record's user is the role.
fn check_settings(rules: &OptionRules, request: &LoginRequest<'_>) -> Result<(), PolicyError> {
    if rules.forbid_options && request.options {
        return Err(PolicyError::ForbiddenSetting { name: "options".to_owned() });
    }
    match request.settings.iter().find(|name| rules.forbidden_settings.contains(name)) {
        None => Ok(()),
        Some(name) => Err(PolicyError::ForbiddenSetting { name: cut(name) }),
    }
}

/// The claim that AWS reads session tags from, in its nested and its flattened form (IAM user guide, "Passing
/// session tags using AssumeRoleWithWebIdentity").
const TAGS: &str = "https://aws.amazon.com/tags";
const FLAT_TAGS: &str = "https://aws.amazon.com/tags/principal_tags/";
const FLAT_TAG: &str = "https://aws.amazon.com/tags/principal_tags/dbuser";

/// AWS compares the tag with the database user byte for byte; so do we, before anyone is asked.
pub fn check_tag(claims: &VerifiedClaims, db_user: &DbUser) -> Result<(), PolicyError> {
    let nested = [TAGS, "principal_tags", "dbuser"].map(str::to_owned);
    let derived = || shown(db_user);
    let tag = match (claims.claim(&nested), claims.claim(&[FLAT_TAG.to_owned()])) {
        (None, None) => return Err(PolicyError::TagMissing { derived: derived() }),
        (Some(tag), None) | (None, Some(tag)) => db_user::one_text(tag, true),
        // Which one AWS would take is not documented.
        (Some(_), Some(_)) => None,
    };
    match tag {
        None => Err(PolicyError::TagMalformed { derived: derived() }),
        Some(tag) if tag == db_user.as_str() => Ok(()),
        Some(tag) => Err(PolicyError::TagMismatch { tag: cut(tag), derived: derived() }),
    }
}

/// Whether AWS will find session tags in the token: then the role's trust policy has to allow them.
pub fn carries_tags(claims: &VerifiedClaims) -> bool {
    claims.names().any(|name| name == TAGS || name.starts_with(FLAT_TAGS))
}

fn shown(user: &DbUser) -> String {
    cut(user.as_str())
}

fn cut(name: &str) -> String {
    printable(name, MAX_NAME_BYTES)
}

/// The decision that this subject may log in to this cluster, this database, as this database user.
#[derive(Debug)]
pub struct Grant {
    db_user: DbUser,
    database: DbName,
    claims: VerifiedClaims,
    cluster: Arc<ClusterSettings>,
    role: RoleArn,
    group: Option<usize>,
    settings: Vec<(&'static str, String)>,
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

    /// Until when the token is accepted: with leeway.
    pub fn accepted_until(&self) -> SystemTime {
        self.claims.accepted_until()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<ClusterSettings> {
        &self.cluster
    }

    /// The role to assume.
    pub fn role(&self) -> &RoleArn {
        &self.role
    }

    /// The group whose settings count.
    pub fn group(&self) -> Option<&GroupSettings> {
        self.group.and_then(|group| self.cluster.groups.get(group))
    }

    /// Settings that the session begins with, whatever the client asks for. A user can change them later by
    /// `SET`: they are a convenience and no wall.
    pub fn settings(&self) -> &[(&'static str, String)] {
        &self.settings
    }
}

/// Why a genuine token may not log in as it asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No database user follows from the claims.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// The connection string names another user than the token.
    #[error("asked for user \"{asked}\", the token is for \"{}\"", shown(derived))]
    UserMismatch {
        /// What the client sent, escaped and cut.
        asked: String,
        /// What the token says.
        derived: DbUser,
    },
    /// No cluster is reached by this way. The client is told the same as for `NotAllowed`.
    #[error("no cluster serves database \"{database}\" on this way")]
    NoCluster {
        /// What the client sent, escaped and cut.
        database: String,
        /// Whether the token says that its owner's groups are left out of it.
        overage: bool,
    },
    /// The cluster is not for this person.
    #[error("not allowed to use database \"{database}\": {why}")]
    NotAllowed {
        /// What the client sent, escaped and cut.
        database: String,
        /// The rule that says no, for the log.
        why: String,
        /// Whether the token says that its owner's groups are left out of it.
        overage: bool,
    },
    /// The connection sets what it may not.
    #[error("the connection sets \"{name}\", which the cluster forbids")]
    ForbiddenSetting {
        /// The setting's name, escaped and cut.
        name: String,
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
