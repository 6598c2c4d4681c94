//! Databases that a person may use, and as which database user, by the proxy's own verification and access policy.

use std::sync::Arc;
use std::time::SystemTime;

use crate::config::{ClusterSettings, DatabaseProtocol, NamePattern, SignInProxy};
use crate::identity::{AccessPolicy, Grant, LoginRequest, PolicyError};
use crate::names::printable;
use crate::refusal::Hint;
use crate::secret::Jwt;
use crate::session::SessionContext;
use crate::session::explain::explain;
use crate::session::outcome::LoginError;
use crate::session::registry::Person;

/// Most databases of a listener on the page.
const MAX_DATABASES: usize = 100;

/// User of the first question to the policy: a placeholder of most clusters. The answer names the real one.
const UNKNOWN_USER: &str = "token";

/// A database that the person may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatabaseAccess {
    pub(super) protocol: DatabaseProtocol,
    /// Host of the proxy, or the server name that leads to the cluster.
    pub(super) host: String,
    pub(super) port: u16,
    /// Name for the connection string; `None` if the cluster serves databases that the configuration does not name.
    pub(super) database: Option<String>,
    pub(super) user: String,
    /// The operator's name for the cluster.
    pub(super) cluster: String,
    /// True if sessions start read-only.
    pub(super) read_only: bool,
}

/// Everything that one token opens.
#[derive(Debug)]
pub(super) struct PersonAccess {
    /// `sub`, escaped.
    pub(super) subject: String,
    pub(super) expires_at: SystemTime,
    pub(super) databases: Vec<DatabaseAccess>,
    /// Reason for which there is no database, and the remedy.
    pub(super) problem: Option<Explanation>,
}

/// A refusal in words for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explanation {
    pub(super) detail: String,
    pub(super) hint: Option<String>,
}

/// Addresses at which people connect.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// The listeners.
    pub proxies: Vec<SignInProxy>,
    /// Databases to offer in addition to those that the clusters name.
    pub databases: Vec<String>,
}

/// A database to ask the policy for.
#[derive(Clone, Copy)]
struct Candidate<'c> {
    proxy: &'c SignInProxy,
    cluster: &'c ClusterSettings,
    host: &'c str,
    /// The TLS server name, where clusters are chosen by it.
    server_name: Option<&'c str>,
    database: Option<&'c str>,
}

impl Entrance {
    /// Asks `context` what `jwt` opens. The error is a token that the proxy refuses.
    pub(super) async fn access(
        &self,
        context: &SessionContext,
        jwt: &Jwt,
    ) -> Result<PersonAccess, Explanation> {
        let claims = context.verifier.verify(jwt).await.map_err(|why| in_words(&LoginError::Verify(why)))?;
        let subject = claims.subject().as_str().to_owned();
        let person = Person {
            issuer: claims.issuer_name().to_owned(),
            subject: subject.clone(),
            token_id: claims.token_id().map(str::to_owned),
        };
        context.shared.registry.admits(&person).map_err(|why| in_words(&LoginError::Withdrawn(why)))?;
        let mut found = PersonAccess {
            subject: printable(&subject, 200),
            expires_at: claims.expires_at(),
            databases: Vec::new(),
            problem: None,
        };
        for proxy in &self.proxies {
            let settings = context.clusters.iter().map(|cluster| Arc::clone(&cluster.settings));
            // The listener reaches only clusters of its protocol.
            let policy = AccessPolicy::new(settings.filter(|it| it.engine == proxy.protocol).collect());
            let candidates = policy.clusters().iter().flat_map(|cluster| self.candidates(proxy, cluster));
            for candidate in candidates.take(MAX_DATABASES) {
                match grant(context, &policy, jwt, candidate).await {
                    Ok(grant) => found.databases.push(candidate.opened_by(&grant)),
                    // A database that the person may not use is not named.
                    Err(LoginError::Policy(
                        PolicyError::NoCluster { overage: false, .. }
                        | PolicyError::NotAllowed { overage: false, .. },
                    )) => {}
                    Err(why) => found.problem = Some(in_words(&why)),
                }
            }
        }
        Ok(found)
    }

    fn candidates<'c>(&'c self, proxy: &'c SignInProxy, cluster: &'c ClusterSettings) -> Vec<Candidate<'c>> {
        let route = &cluster.route;
        let server_names: Vec<Option<&str>> = match &route.server_names {
            Some(names) => names.iter().map(|name| Some(name.as_str())).collect(),
            None => vec![None],
        };
        let exact = |pattern: &'c NamePattern| match pattern {
            NamePattern::Exact(name) => Some(name.as_str()),
            NamePattern::Prefix(_) => None,
        };
        let mut names: Vec<&str> = route.default_database.as_deref().into_iter().collect();
        names.extend(route.databases.iter().flatten().filter_map(exact));
        names.extend(self.databases.iter().map(String::as_str).filter(|name| route.serves(name)));
        let mut databases: Vec<Option<&str>> = Vec::new();
        for name in names {
            if !databases.contains(&Some(name)) {
                databases.push(Some(name));
            }
        }
        if databases.is_empty() {
            databases.push(None);
        }
        let reached = server_names.into_iter().filter(|name| route.is_reached_by(&proxy.listener, *name));
        let of = |server_name: Option<&'c str>| {
            let host = server_name.unwrap_or(proxy.proxy.host());
            databases.iter().map(move |database| Candidate {
                proxy,
                cluster,
                host,
                server_name,
                database: *database,
            })
        };
        reached.flat_map(of).collect()
    }
}

/// The grant for the person's own user: the policy names it if the placeholder is refused.
async fn grant(
    context: &SessionContext,
    policy: &AccessPolicy<Arc<ClusterSettings>>,
    jwt: &Jwt,
    candidate: Candidate<'_>,
) -> Result<Grant, LoginError> {
    let mut user = UNKNOWN_USER.to_owned();
    loop {
        let claims = context.verifier.verify(jwt).await.map_err(LoginError::Verify)?;
        let request = LoginRequest {
            user: &user,
            database: candidate.database,
            listener: &candidate.proxy.listener,
            server_name: candidate.server_name,
            options: false,
            settings: Vec::new(),
        };
        match policy.authorise(claims, &request) {
            Ok((grant, _)) => return Ok(grant),
            Err(PolicyError::UserMismatch { derived, .. }) if derived.as_str() != user => {
                derived.as_str().clone_into(&mut user);
            }
            Err(why) => return Err(LoginError::Policy(why)),
        }
    }
}

impl Candidate<'_> {
    fn opened_by(self, grant: &Grant) -> DatabaseAccess {
        DatabaseAccess {
            protocol: self.proxy.protocol,
            host: self.host.to_owned(),
            port: self.proxy.proxy.port(),
            database: self.database.map(str::to_owned),
            user: grant.db_user().as_str().to_owned(),
            cluster: self.cluster.name.clone(),
            read_only: grant.group().is_some_and(|group| group.read_only),
        }
    }
}

fn in_words(why: &LoginError) -> Explanation {
    let refusal = explain(why);
    let hint = match refusal.hint {
        Some(Hint::Text(text)) => Some(text),
        Some(Hint::UseTls | Hint::SendToken | Hint::SendJwt) | None => None,
    };
    Explanation { detail: refusal.detail, hint }
}
