//! The one place that decides cluster and database of a login. The name that is looked up in `databases` is the name
//! that is granted, whether the client gave it, the configuration, or the derived user.

use super::claims::VerifiedClaims;
use super::db_user::DeriveError;
use super::policy::{ConfiguredCluster, LoginRequest, PolicyError};
use super::{claim_rule, db_user};
use crate::config::ClusterSettings;
use crate::names::{MAX_NAME_BYTES, printable};

/// The cluster of a login, and the database there.
pub(super) struct LoginTarget<'p, C> {
    pub(super) cluster: &'p C,
    /// As clients name it; the cluster serves it. The error is why no database follows from the claims.
    pub(super) database: Result<String, DeriveError>,
}

/// Where the name of a database comes from; an earlier one takes precedence over a later one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NameSource {
    /// The client's `database`.
    Client,
    /// `cluster.default_database`.
    Configuration,
    /// The derived user's name, as in PostgreSQL.
    User,
}

/// The target of what is asked for. No two clusters serve one database on one way, so that a name leads to at most one;
/// a connection that names no database is refused where several could be meant.
pub(super) fn choose<'p, C: ConfiguredCluster>(
    clusters: &'p [C],
    claims: &VerifiedClaims,
    asked: &LoginRequest<'_>,
) -> Result<LoginTarget<'p, C>, PolicyError> {
    let overage = claim_rule::has_groups_overage(claims.members());
    let is_reached = |it: &&C| it.settings().route.is_reached_by(asked.listener, asked.server_name);
    let reached = clusters.iter().filter(is_reached);
    let reached: Vec<_> =
        reached.map(|cluster| (cluster, requested(cluster.settings(), claims, asked))).collect();
    for source in [NameSource::Client, NameSource::Configuration, NameSource::User] {
        let serving = reached.iter().filter_map(|(cluster, (from, name))| {
            let name = name.as_ref().ok().filter(|name| cluster.settings().route.serves(name))?;
            (*from == source).then_some((*cluster, name))
        });
        match serving.collect::<Vec<_>>()[..] {
            [] => {}
            [(cluster, name)] => return Ok(LoginTarget { cluster, database: Ok(name.clone()) }),
            _ => {
                let why = "the connection names no database, and several clusters could be meant".to_owned();
                return Err(PolicyError::NotAllowed { database: shown(asked), why, overage });
            }
        }
    }
    match &reached[..] {
        // Whoever may use the cluster is told what is wrong with the claim.
        [(cluster, (_, Err(why)))] => Ok(LoginTarget { cluster, database: Err(why.clone()) }),
        [(_, (_, Ok(name)))] => {
            Err(PolicyError::NoCluster { database: printable(name, MAX_NAME_BYTES), overage })
        }
        _ => Err(PolicyError::NoCluster { database: shown(asked), overage }),
    }
}

/// The database that this connection means in `cluster`.
fn requested(
    cluster: &ClusterSettings,
    claims: &VerifiedClaims,
    asked: &LoginRequest<'_>,
) -> (NameSource, Result<String, DeriveError>) {
    if let Some(name) = named(cluster, claims, asked) {
        return (NameSource::Client, Ok(name.to_owned()));
    }
    if let Some(name) = &cluster.route.default_database {
        return (NameSource::Configuration, Ok(name.clone()));
    }
    let user = db_user::derive(claims, &cluster.user);
    (NameSource::User, user.map(|user| user.as_str().to_owned()))
}

/// The database that the client names. libpq sends the user's name where the database is left out, so that a placeholder
/// as user and database names none, unless the cluster has a database of that very name.
fn named<'a>(
    cluster: &ClusterSettings,
    claims: &VerifiedClaims,
    asked: &LoginRequest<'a>,
) -> Option<&'a str> {
    let name = asked.database?;
    let rule = cluster.user.of(claims.issuer_name());
    let placeholder =
        name == asked.user && rule.is_some_and(|rule| rule.placeholders.iter().any(|one| one == name));
    (!placeholder || cluster.route.spells_out(name)).then_some(name)
}

/// What the client asked for, escaped and cut.
pub(super) fn shown(asked: &LoginRequest<'_>) -> String {
    printable(asked.database.unwrap_or(asked.user), MAX_NAME_BYTES)
}
