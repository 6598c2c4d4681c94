//! Authorization of a login: cluster, startup user, database, session tag, group.

use std::sync::Arc;
use std::time::SystemTime;

use super::claim_rule::RuleVerdict;
use super::claims::VerifiedClaims;
use super::db_user::DeriveError;
pub use super::login_request::{ConfiguredCluster, LoginRequest, PolicyError};
use super::target::LoginTarget;
use super::{claim_rule, db_user, target};
use crate::config::{ClusterSettings, DatabaseProtocol, GroupSettings, OptionRules, StartupUser};
use crate::names::aws_claims::{FLAT_TAGS, FLAT_USER_TAG, PRINCIPAL_TAGS, TAGS, USER_TAG};
use crate::names::{DbName, DbUser, Issuer, MAX_NAME_BYTES, RoleArn, Subject, printable};

/// The clusters and their access rules.
#[derive(Clone, Debug)]
pub struct AccessPolicy<C = Arc<ClusterSettings>> {
    clusters: Vec<C>,
}

impl<C: ConfiguredCluster> AccessPolicy<C> {
    /// Takes the rules from `clusters`. No connection may match two of them.
    pub fn new(clusters: Vec<C>) -> Self {
        Self { clusters }
    }

    /// The clusters.
    pub fn clusters(&self) -> &[C] {
        &self.clusters
    }

    /// Decides cluster, role, database user and database. The grant holds everything that is requested from the
    /// server; the returned cluster is the one it is for.
    pub fn authorise(
        &self,
        claims: VerifiedClaims,
        request: &LoginRequest<'_>,
    ) -> Result<(Grant, &C), PolicyError> {
        let LoginTarget { cluster: chosen, database, unnamed } =
            target::choose(&self.clusters, &claims, request)?;
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
        db_user::check_engine(&db_user, cluster.engine)?;
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
        let no_database = unnamed && cluster.engine == DatabaseProtocol::MySql;
        let grant = Grant { db_user, database, no_database, claims, cluster, role, group, settings };
        let known = grant.group().and_then(|group| group.databases.as_ref());
        if known.is_some_and(|known| !known.iter().any(|name| name.matches(grant.database.as_str()))) {
            let why = "the group's databases do not include it".to_owned();
            return Err(PolicyError::NotAllowed { database: cut(grant.database.as_str()), why, overage });
        }
        Ok((grant, chosen))
    }
}

/// The person's role in `cluster`. The error is the rule that denies access, for the log.
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
        RuleVerdict::Fails => Err("no rule of cluster.allow matches the token".to_owned()),
        RuleVerdict::Undecided(doubt) => Err(format!("no rule of cluster.allow matches the token; {doubt}")),
    }
}

/// Settings at the start of a session of this group.
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

/// Rejects settings that the cluster forbids. Some sites forbid changing initial settings, for example
/// `role`, so that the user in the audit record is the role in effect.
fn check_settings(rules: &OptionRules, request: &LoginRequest<'_>) -> Result<(), PolicyError> {
    if rules.forbid_options && request.options {
        return Err(PolicyError::ForbiddenSetting { name: "options".to_owned() });
    }
    match request.settings.iter().find(|name| rules.forbidden_settings.contains(name)) {
        None => Ok(()),
        Some(name) => Err(PolicyError::ForbiddenSetting { name: cut(name) }),
    }
}

/// Compares the session tag `dbuser` with the database user byte for byte, as AWS does, before anything is
/// sent.
pub fn check_tag(claims: &VerifiedClaims, db_user: &DbUser) -> Result<(), PolicyError> {
    let nested = [TAGS, PRINCIPAL_TAGS, USER_TAG].map(str::to_owned);
    let derived = || shown(db_user);
    let tag = match (claims.claim(&nested), claims.claim(&[FLAT_USER_TAG.to_owned()])) {
        (None, None) => return Err(PolicyError::TagMissing { derived: derived() }),
        (Some(tag), None) | (None, Some(tag)) => db_user::one_text(tag, true),
        // AWS does not document which of the two it uses.
        (Some(_), Some(_)) => None,
    };
    match tag {
        None => Err(PolicyError::TagMalformed { derived: derived() }),
        Some(tag) if tag == db_user.as_str() => Ok(()),
        Some(tag) => Err(PolicyError::TagMismatch { tag: cut(tag), derived: derived() }),
    }
}

/// True if AWS will find session tags in the token. The role's trust policy then has to allow
/// `sts:TagSession`.
pub fn carries_tags(claims: &VerifiedClaims) -> bool {
    claims.names().any(|name| name == TAGS || name.starts_with(FLAT_TAGS))
}

fn shown(user: &DbUser) -> String {
    cut(user.as_str())
}

fn cut(name: &str) -> String {
    printable(name, MAX_NAME_BYTES)
}

/// Proof of the decision that this subject may log in to this cluster and database as this database user.
#[derive(Debug)]
pub struct Grant {
    db_user: DbUser,
    database: DbName,
    no_database: bool,
    claims: VerifiedClaims,
    cluster: Arc<ClusterSettings>,
    role: RoleArn,
    group: Option<usize>,
    settings: Vec<(&'static str, String)>,
}

impl Grant {
    /// The derived database user, which is signed and sent upstream.
    pub fn db_user(&self) -> &DbUser {
        &self.db_user
    }

    /// The database.
    pub fn database(&self) -> &DbName {
        &self.database
    }

    /// The database that the server is asked for. `None` if nobody named one, at a server whose sessions may have none.
    pub fn requested_database(&self) -> Option<&str> {
        (!self.no_database).then(|| self.database.as_str())
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

    /// `jti`, if present. Escape it before showing it.
    pub fn token_id(&self) -> Option<&str> {
        self.claims.token_id()
    }

    /// `azp`. If present, STS compares it instead of `aud`.
    pub fn azp(&self) -> Option<&str> {
        self.claims.azp()
    }

    /// Expiry of the token, without leeway.
    pub fn expires_at(&self) -> SystemTime {
        self.claims.expires_at()
    }

    /// End of the token's acceptance, with leeway.
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

    /// The group whose settings apply.
    pub fn group(&self) -> Option<&GroupSettings> {
        self.group.and_then(|group| self.cluster.groups.get(group))
    }

    /// Initial settings of the session; they override the client's. A user can change them later with `SET`,
    /// so they are not access controls.
    pub fn settings(&self) -> &[(&'static str, String)] {
        &self.settings
    }
}
