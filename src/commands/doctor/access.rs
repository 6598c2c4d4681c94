//! Where the token leads, whom it makes, and whether its tag says the same.

use std::sync::Arc;

use super::Trouble;
use super::report::{Link, Report};
use crate::config::{ClusterSettings, NamePattern, UserSettings};
use crate::identity::policy::{carries_tags, check_tag};
use crate::identity::{AccessPolicy, Grant, LoginRequest, PolicyError, VerifiedClaims, db_user};
use crate::names::{DbUser, printable};
use crate::session::explain::explain;
use crate::session::outcome::LoginError;

pub(super) const LINKS: [Link; 3] = [Link::Cluster, Link::DatabaseUser, Link::SessionTag];

/// What `doctor` was told about it.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) cluster: Option<&'a str>,
    pub(super) database: Option<&'a str>,
}

/// What AWS will look at in the token.
pub(super) struct Brought {
    pub(super) tags: bool,
    pub(super) azp: Option<String>,
    pub(super) audience: Vec<String>,
    /// The roles that it names, as they stand there: STS lets it assume no other.
    pub(super) roles: Option<String>,
}

impl Brought {
    fn by(claims: &VerifiedClaims) -> Self {
        let roles = claims.claim(&["https://aws.amazon.com/roles".to_owned()]);
        Self {
            tags: carries_tags(claims),
            azp: claims.azp().map(str::to_owned),
            audience: claims.audience().to_vec(),
            roles: roles.map(ToString::to_string),
        }
    }
}

/// The grant, if the product's own policy gives one.
pub(super) fn examine(
    claims: VerifiedClaims,
    clusters: &[Arc<ClusterSettings>],
    wanted: Wanted<'_>,
    listener: &str,
    report: &mut Report<'_>,
) -> Option<(Grant, Brought)> {
    let cluster = match choose(clusters, wanted) {
        Ok(cluster) => cluster,
        Err(trouble) => {
            report.fail(Link::Cluster, trouble);
            report.skip_all(&LINKS[1..], "not tried: the cluster is not known");
            return None;
        }
    };
    let brought = Brought::by(&claims);
    let rule = cluster.user.of(claims.issuer_name());
    let claim = rule.map(|rule| rule.claim_for(claims.user_claim()).join(".")).unwrap_or_default();
    let derived = db_user::derive(&claims, &cluster.user);
    let tag = derived.as_ref().ok().map(|user| check_tag(&claims, user));
    let asked = asked(cluster, wanted, listener, derived.as_ref().ok());
    let database = asked.database.map(str::to_owned);
    let granted = AccessPolicy::new(vec![Arc::clone(cluster)]).authorise(claims, &asked);

    match &granted {
        Err(
            why @ (PolicyError::NoCluster { .. }
            | PolicyError::NotAllowed { .. }
            | PolicyError::Database(_)
            | PolicyError::ForbiddenSetting { .. }),
        ) => report.fail(Link::Cluster, refused(why)),
        _ => report.ok(
            Link::Cluster,
            format!(
                "{} at {}, database \"{}\"",
                cluster.name,
                cluster.endpoint,
                database.unwrap_or_default()
            ),
        ),
    }
    match &derived {
        Ok(user) => report.ok(Link::DatabaseUser, why(user, &claim, rule)),
        Err(fault) => report.fail(Link::DatabaseUser, refused(&PolicyError::Derive(fault.clone()))),
    }
    session_tag(cluster, tag, &brought, report);
    granted.ok().map(|grant| (grant, brought))
}

fn choose<'c>(
    clusters: &'c [Arc<ClusterSettings>],
    wanted: Wanted<'_>,
) -> Result<&'c Arc<ClusterSettings>, Trouble> {
    let known: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let of = |found: Vec<&'c Arc<ClusterSettings>>, what: String| match found.as_slice() {
        [one] => Ok(*one),
        _ => Err(Trouble::new(what, format!("Name one with --cluster: {}.", known.join(", ")))),
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

/// A connection as the cluster's route wants it.
fn asked<'a>(
    cluster: &'a ClusterSettings,
    wanted: Wanted<'a>,
    listener: &'a str,
    derived: Option<&'a DbUser>,
) -> LoginRequest<'a> {
    let route = &cluster.route;
    let exact = route.databases.iter().flatten().find_map(|pattern| match pattern {
        NamePattern::Exact(name) => Some(name.as_str()),
        NamePattern::Prefix(_) => None,
    });
    LoginRequest {
        user: derived.map_or("token", DbUser::as_str),
        // Every cluster has this one.
        database: wanted.database.or(route.default_database.as_deref()).or(exact).or(Some("postgres")),
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
    brought: &Brought,
    report: &mut Report<'_>,
) {
    match tag {
        _ if !cluster.pin.by_tag() && brought.tags => report.ok(
            Link::SessionTag,
            "cluster.pin needs none; the token has tags, so every role of its issuer has to allow sts:TagSession",
        ),
        _ if !cluster.pin.by_tag() => report.ok(Link::SessionTag, "cluster.pin needs none, and the token has none"),
        None => report.skip(Link::SessionTag, "not tried: the database user is not known"),
        Some(Ok(())) => report.ok(Link::SessionTag, "dbuser is the database user, byte for byte"),
        Some(Err(fault)) => report.fail(Link::SessionTag, refused(&fault)),
    }
}

/// What a client would be told, and the rule that decided, which it would not.
fn refused(why: &PolicyError) -> Trouble {
    let refusal = explain(&LoginError::Policy(why.clone()), "");
    let remedy = match why {
        PolicyError::NotAllowed { .. } | PolicyError::NoCluster { .. } => {
            "Change the named rule, or bring a token that fits it; another database is named with --database."
                .to_owned()
        }
        _ => refusal.hint.unwrap_or_default(),
    };
    Trouble::new(refusal.detail, remedy).because(why.to_string())
}
