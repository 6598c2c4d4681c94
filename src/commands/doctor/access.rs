//! Doctor: cluster, database user and session tag of the token.

use std::sync::Arc;

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport, hint_of};
use crate::config::{ClusterSettings, DatabaseProtocol, NamePattern, UserSettings};
use crate::identity::policy::{carries_tags, check_tag};
use crate::identity::{AccessPolicy, Grant, LoginRequest, PolicyError, VerifiedClaims, db_user};
use crate::names::{DbUser, aws_claims, printable};
use crate::session::explain::explain;
use crate::session::outcome::LoginError;

pub(super) const LINKS: [ChainLink; 3] = [ChainLink::Cluster, ChainLink::DatabaseUser, ChainLink::SessionTag];

/// Cluster and database named on the command line.
#[derive(Clone, Copy)]
pub(super) struct AccessRequest<'a> {
    pub(super) cluster: Option<&'a str>,
    pub(super) database: Option<&'a str>,
}

/// The claims that AWS evaluates.
pub(super) struct AwsClaims {
    pub(super) tags: bool,
    pub(super) azp: Option<String>,
    pub(super) audience: Vec<String>,
    /// Roles that the token names, verbatim. STS allows no other role.
    pub(super) roles: Option<String>,
}

impl AwsClaims {
    fn by(claims: &VerifiedClaims) -> Self {
        let roles = claims.claim(&[aws_claims::ROLES.to_owned()]);
        Self {
            tags: carries_tags(claims),
            azp: claims.azp().map(str::to_owned),
            audience: claims.audience().to_vec(),
            roles: roles.map(ToString::to_string),
        }
    }
}

/// The grant, if the access policy of a login gives one.
pub(super) fn examine(
    claims: VerifiedClaims,
    clusters: &[Arc<ClusterSettings>],
    wanted: AccessRequest<'_>,
    listener: &str,
    report: &mut DoctorReport<'_>,
) -> Option<(Grant, AwsClaims)> {
    let cluster = match choose(clusters, wanted) {
        Ok(cluster) => cluster,
        Err(problem) => {
            report.fail(ChainLink::Cluster, problem);
            report.skip_all(&LINKS[1..], "not tried: the cluster is not known");
            return None;
        }
    };
    let aws_claims = AwsClaims::by(&claims);
    let rule = cluster.user.of(claims.issuer_name());
    let claim = rule.map(|rule| rule.claim_for(claims.user_claim()).join(".")).unwrap_or_default();
    let derived = db_user::derive(&claims, &cluster.user);
    let tag = derived.as_ref().ok().map(|user| check_tag(&claims, user));
    let asked = asked(cluster, wanted, listener, derived.as_ref().ok());
    let database = asked.database.map(str::to_owned);
    let policy = AccessPolicy::new(vec![Arc::clone(cluster)]);
    let granted = policy.authorise(claims, &asked).map(|(grant, _)| grant);

    match &granted {
        Err(
            why @ (PolicyError::NoCluster { .. }
            | PolicyError::NotAllowed { .. }
            | PolicyError::Database(_)
            | PolicyError::ForbiddenSetting { .. }),
        ) => report.fail(ChainLink::Cluster, refused(why)),
        _ => {
            let database = database.map_or("no database".to_owned(), |name| format!("database \"{name}\""));
            report.ok(ChainLink::Cluster, format!("{} at {}, {database}", cluster.name, cluster.endpoint));
        }
    }
    match &derived {
        Ok(user) => report.ok(ChainLink::DatabaseUser, why(user, &claim, rule)),
        Err(fault) => report.fail(ChainLink::DatabaseUser, refused(&PolicyError::Derive(fault.clone()))),
    }
    session_tag(cluster, tag, &aws_claims, report);
    granted.ok().map(|grant| (grant, aws_claims))
}

fn choose<'c>(
    clusters: &'c [Arc<ClusterSettings>],
    wanted: AccessRequest<'_>,
) -> Result<&'c Arc<ClusterSettings>, LinkProblem> {
    let known: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let of = |found: Vec<&'c Arc<ClusterSettings>>, what: String| match found.as_slice() {
        [one] => Ok(*one),
        _ => Err(LinkProblem::new(what, format!("Name one with --cluster: {}.", known.join(", ")))),
    };
    match (wanted.cluster, wanted.database) {
        (Some(name), _) => {
            let named = clusters.iter().filter(|cluster| cluster.name == name).collect();
            of(named, format!("there is no cluster \"{}\"", printable(name, 63)))
        }
        (None, Some(database)) if clusters.len() > 1 => {
            let serves = |cluster: &&Arc<ClusterSettings>| {
                let listed = cluster.route.databases.as_ref();
                listed.is_some_and(|names| names.iter().any(|name| name.matches(database)))
            };
            let found = clusters.iter().filter(serves).collect();
            of(
                found,
                format!("no cluster, or several, have database \"{}\" by name", printable(database, 63)),
            )
        }
        (None, _) => of(clusters.iter().collect(), "there are several clusters".to_owned()),
    }
}

/// A login request that matches the cluster's route.
fn asked<'a>(
    cluster: &'a ClusterSettings,
    wanted: AccessRequest<'a>,
    listener: &'a str,
    derived: Option<&'a DbUser>,
) -> LoginRequest<'a> {
    let route = &cluster.route;
    let exact = route.databases.iter().flatten().find_map(|pattern| match pattern {
        NamePattern::Exact(name) => Some(name.as_str()),
        NamePattern::Prefix(_) => None,
    });
    // Every cluster of PostgreSQL has this database. A session of MySQL needs none.
    let everywhere = (cluster.engine == DatabaseProtocol::PostgreSql).then_some("postgres");
    LoginRequest {
        user: derived.map_or("token", DbUser::as_str),
        database: wanted.database.or(route.default_database.as_deref()).or(exact).or(everywhere),
        listener: route.listeners.iter().flatten().next().map_or(listener, String::as_str),
        server_name: route.server_names.iter().flatten().next().map(String::as_str),
        options: false,
        settings: Vec::new(),
    }
}

fn why(user: &DbUser, claim: &str, rule: Option<&UserSettings>) -> String {
    let mut text = format!("\"{}\", from claim \"{}\"", printable(user.as_str(), 63), printable(claim, 256));
    let Some(rule) = rule else { return text };
    if rule.regex.is_some() {
        text += ", by cluster.user.regex";
    }
    if rule.lowercase {
        text += ", lower-cased";
    }
    if !rule.prefix.is_empty() {
        text += ", behind cluster.user.prefix";
    }
    text
}

fn session_tag(
    cluster: &ClusterSettings,
    tag: Option<Result<(), PolicyError>>,
    aws_claims: &AwsClaims,
    report: &mut DoctorReport<'_>,
) {
    match tag {
        _ if !cluster.pin.by_tag() && aws_claims.tags => report.ok(
            ChainLink::SessionTag,
            "cluster.pin needs none; the token has tags, so every role of its issuer has to allow sts:TagSession",
        ),
        _ if !cluster.pin.by_tag() => report.ok(ChainLink::SessionTag, "cluster.pin needs none, and the token has none"),
        None => report.skip(ChainLink::SessionTag, "not tried: the database user is not known"),
        Some(Ok(())) => report.ok(ChainLink::SessionTag, "dbuser is the database user, byte for byte"),
        Some(Err(fault)) => report.fail(ChainLink::SessionTag, refused(&fault)),
    }
}

/// The error that a client would get, and the deciding rule, which a client would not.
fn refused(why: &PolicyError) -> LinkProblem {
    let refusal = explain(&LoginError::Policy(why.clone()));
    let remedy = match why {
        PolicyError::NotAllowed { .. } | PolicyError::NoCluster { .. } => {
            "Change the rule, or use a token that satisfies it. --database selects another database."
                .to_owned()
        }
        _ => hint_of(&refusal),
    };
    LinkProblem::new(refusal.detail, remedy).because(why.to_string())
}
