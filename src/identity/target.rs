//! The only place that decides cluster and database of a login. The granted name is the name that was looked
//! up in `databases`, whether it came from the client, the configuration or the derived user.

use super::claims::VerifiedClaims;
use super::db_user::DeriveError;
use super::login_request::{ConfiguredCluster, LoginRequest, PolicyError};
use super::{claim_rule, db_user};
use crate::config::ClusterSettings;
use crate::names::{MAX_NAME_BYTES, printable};

/// Cluster and database of a login.
pub(super) struct LoginTarget<'p, C> {
    pub(super) cluster: &'p C,
    /// Database name as clients use it; the cluster serves it. The error is the reason why no database can be
    /// derived from the claims.
    pub(super) database: Result<String, DeriveError>,
    /// True if neither the client nor the configuration names a database.
    pub(super) unnamed: bool,
}

/// Source of a database name, in order of precedence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NameSource {
    /// The client's `database`.
    Client,
    /// `cluster.default_database`.
    Configuration,
    /// The derived user's name, as in PostgreSQL.
    User,
}

/// Chooses cluster and database of a request. No two clusters serve the same database on the same listener and
/// server name, so a name selects at most one cluster. A connection without a database is refused if several
/// clusters match.
pub(super) fn choose<'p, C: ConfiguredCluster>(
    clusters: &'p [C],
    claims: &VerifiedClaims,
    request: &LoginRequest<'_>,
) -> Result<LoginTarget<'p, C>, PolicyError> {
    let overage = claim_rule::has_groups_overage(claims.members());
    let is_reached = |it: &&C| it.settings().route.is_reached_by(request.listener, request.server_name);
    let reached = clusters.iter().filter(is_reached);
    let reached: Vec<_> =
        reached.map(|cluster| (cluster, requested(cluster.settings(), claims, request))).collect();
    for source in [NameSource::Client, NameSource::Configuration, NameSource::User] {
        let serving = reached.iter().filter_map(|(cluster, (from, name))| {
            let name = name.as_ref().ok().filter(|name| cluster.settings().route.serves(name))?;
            (*from == source).then_some((*cluster, name))
        });
        match serving.collect::<Vec<_>>()[..] {
            [] => {}
            [(cluster, name)] => {
                let unnamed = source == NameSource::User;
                return Ok(LoginTarget { cluster, database: Ok(name.clone()), unnamed });
            }
            _ => {
                let why = "the connection names no database, and several clusters match".to_owned();
                return Err(PolicyError::NotAllowed { database: shown(request), why, overage });
            }
        }
    }
    match &reached[..] {
        // A person who may use the cluster gets the fault of the claim.
        [(cluster, (_, Err(why)))] => Ok(LoginTarget { cluster, database: Err(why.clone()), unnamed: true }),
        [(_, (_, Ok(name)))] => {
            Err(PolicyError::NoCluster { database: printable(name, MAX_NAME_BYTES), overage })
        }
        _ => Err(PolicyError::NoCluster { database: shown(request), overage }),
    }
}

/// Name and source of the database that this connection requests in `cluster`.
fn requested(
    cluster: &ClusterSettings,
    claims: &VerifiedClaims,
    request: &LoginRequest<'_>,
) -> (NameSource, Result<String, DeriveError>) {
    if let Some(name) = named(cluster, claims, request) {
        return (NameSource::Client, Ok(name.to_owned()));
    }
    if let Some(name) = &cluster.route.default_database {
        return (NameSource::Configuration, Ok(name.clone()));
    }
    let user = db_user::derive(claims, &cluster.user);
    (NameSource::User, user.map(|user| user.as_str().to_owned()))
}

/// The database that the client names. libpq sends the user's name if no database is given. A placeholder as
/// both user and database therefore counts as no database, unless the cluster has a database of that name.
fn named<'a>(
    cluster: &ClusterSettings,
    claims: &VerifiedClaims,
    request: &LoginRequest<'a>,
) -> Option<&'a str> {
    let name = request.database?;
    let rule = cluster.user.of(claims.issuer_name());
    let placeholder =
        name == request.user && rule.is_some_and(|rule| rule.placeholders.iter().any(|one| one == name));
    (!placeholder || cluster.route.spells_out(name)).then_some(name)
}

/// Requested database, or the user in its place, escaped and cut.
pub(super) fn shown(request: &LoginRequest<'_>) -> String {
    printable(request.database.unwrap_or(request.user), MAX_NAME_BYTES)
}
