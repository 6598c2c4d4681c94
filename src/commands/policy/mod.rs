//! `pgpassport policy`: everything that has to be set up in AWS, the database and the identity provider for
//! this configuration, ready to paste. Makes no network calls.

mod args;
mod cloudformation;
mod documents;
mod idp;
mod notes;
mod placeholder;
mod render;
mod shell;
mod sql;
mod terraform;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use self::args::PolicyArgs;
use self::documents::{LoginScope, SessionTags, TrustedIssuer};
pub use self::documents::{PolicyDocument, SourceRestriction};
pub use self::idp::{IdentityProvider, IdpRecipe};
pub use self::placeholder::Placeholder;
pub use self::render::{PlanFormat, PlanPart, render};
use crate::config::{ClusterSettings, Config, DatabaseProtocol, IssuerSettings};
use crate::names::{DbUser, RoleArn};

/// Default maximum session duration of a role (IAM user guide, "Modify the maximum session duration").
const USUAL_SESSION_SECONDS: u64 = 3_600;

/// Options of the command line.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Only this cluster.
    pub cluster: Option<String>,
    /// People of this issuer alone.
    pub issuer: Option<String>,
    /// Network restriction of the roles.
    pub source: SourceRestriction,
    /// Pin by session tag, regardless of `cluster.pin`.
    pub session_tag: bool,
    /// Audiences for STS, as `value` or `issuer=value`. Default: `issuer.audience`.
    pub audiences: Vec<String>,
    /// Database users to create. Default: an example.
    pub users: Vec<DbUser>,
    /// Identity provider of the claim recipe. Default: guessed from the issuer's URL.
    pub idp: Option<IdentityProvider>,
}

/// The whole plan.
#[derive(Debug)]
pub struct PolicyPlan {
    /// The identity providers to register.
    pub providers: Vec<ProviderPlan>,
    /// The roles.
    pub roles: Vec<RolePlan>,
    /// Statements for each database cluster.
    pub databases: Vec<DatabasePlan>,
    /// Instructions for the claims of each issuer.
    pub claims: Vec<IdpRecipe>,
    /// Values that the configuration does not have and the documents need.
    pub placeholders: Vec<Placeholder>,
}

/// An identity provider in one account.
#[derive(Debug)]
pub struct ProviderPlan {
    /// The operator's name for the issuer, followed by the tenant if there are several.
    pub issuer: String,
    /// URL of the issuer, byte for byte.
    pub url: String,
    /// ARN of the provider in IAM.
    pub arn: String,
    /// The account.
    pub account: String,
    /// Audiences that STS compares.
    pub audiences: Vec<String>,
    /// True if IAM has the provider built in and nothing has to be registered.
    pub built_in: bool,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// A role.
#[derive(Debug)]
pub struct RolePlan {
    /// ARN of the role.
    pub arn: RoleArn,
    /// Clusters that use the role.
    pub clusters: Vec<String>,
    /// Trust policy.
    pub trust: PolicyDocument,
    /// Trust policy for calls from the proxy's address alone, with a placeholder for it; only where `trust` has no
    /// restriction.
    pub restricted_trust: Option<PolicyDocument>,
    /// Permission policy.
    pub permission: PolicyDocument,
    /// Maximum session duration, if the default of one hour is too short.
    pub max_session_seconds: Option<u64>,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// A database cluster.
#[derive(Debug)]
pub struct DatabasePlan {
    /// The operator's name for the cluster.
    pub cluster: String,
    /// Engine of the cluster.
    pub engine: DatabaseProtocol,
    /// Host of the endpoint.
    pub host: String,
    /// Port of the endpoint.
    pub port: u16,
    /// Statements for an administrator of the database.
    pub statements: Vec<String>,
    /// The same for the engine's command-line client, which can run them twice.
    pub repeatable: Vec<String>,
}

/// Reason why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// `--cluster` names an unknown cluster.
    #[error("there is no cluster {wanted:?}; the configuration has {}", known.join(", "))]
    NoCluster {
        /// Requested name.
        wanted: String,
        /// Configured names.
        known: Vec<String>,
    },
    /// `--issuer` names none, or one whose people may not come to the wanted clusters.
    #[error("there is no issuer {wanted:?} for these clusters; the configuration has {}", known.join(", "))]
    NoIssuer {
        /// The requested name.
        wanted: String,
        /// The names in the configuration.
        known: Vec<String>,
    },
    /// A `CloudFormation` stack is in one account.
    #[error(
        "a CloudFormation stack is in one account, and the roles are in {}; name a cluster with --cluster or an issuer \
         with --issuer",
        .0.join(" and ")
    )]
    SeveralAccounts(Vec<String>),
}

impl PolicyPlan {
    /// Makes the plan for `config`.
    pub fn new(config: &Config, options: &PlanOptions) -> Result<Self, PlanError> {
        let wanted =
            |cluster: &&ClusterSettings| options.cluster.as_ref().is_none_or(|name| *name == cluster.name);
        let clusters: Vec<_> = config.clusters.iter().filter(wanted).collect();
        if clusters.is_empty() {
            return Err(PlanError::NoCluster {
                wanted: options.cluster.clone().unwrap_or_default(),
                known: config.clusters.iter().map(|cluster| cluster.name.clone()).collect(),
            });
        }
        let named =
            |issuer: &&IssuerSettings| options.issuer.as_ref().is_none_or(|name| *name == issuer.name);
        let issuers: Vec<_> = config.issuers.iter().filter(named).collect();
        let assumed = assumed(&issuers, &clusters);
        if let (Some(wanted), true) = (&options.issuer, assumed.is_empty()) {
            return Err(PlanError::NoIssuer {
                wanted: wanted.clone(),
                known: config.issuers.iter().map(|issuer| issuer.name.clone()).collect(),
            });
        }
        let all: Vec<_> = config.clusters.iter().collect();
        let placeholders = placeholder::of(&clusters);
        Ok(Self {
            providers: providers(&assumed, options),
            roles: assumed
                .iter()
                .map(|(role, uses)| role_plan((*role).clone(), uses, (&all, &placeholders), options))
                .collect(),
            databases: clusters.iter().map(|cluster| database(cluster, &options.users)).collect(),
            claims: claims(&issuers, &clusters, options),
            placeholders,
        })
    }
}

/// An issuer whose people use a cluster.
type Use<'c> = (&'c IssuerSettings, &'c ClusterSettings);

/// The roles and the issuers and clusters that use them, in the order of the configuration.
fn assumed<'c>(
    issuers: &[&'c IssuerSettings],
    clusters: &[&'c ClusterSettings],
) -> Vec<(&'c RoleArn, Vec<Use<'c>>)> {
    let mut assumed: Vec<(&RoleArn, Vec<Use<'_>>)> = Vec::new();
    for cluster in clusters {
        for issuer in issuers.iter().copied().filter(|issuer| cluster.admits(issuer)) {
            let Some(role) = cluster.roles.of(&issuer.name) else { continue };
            match assumed.iter_mut().find(|(known, _)| *known == role) {
                Some((_, uses)) => uses.push((issuer, cluster)),
                None => assumed.push((role, vec![(issuer, cluster)])),
            }
        }
    }
    assumed
}

fn by_tag(cluster: &ClusterSettings, options: &PlanOptions) -> bool {
    cluster.pin.by_tag() || options.session_tag
}

fn audiences(issuer: &IssuerSettings, options: &PlanOptions) -> Vec<String> {
    let mine = |text: &String| match text.split_once('=') {
        Some((name, value)) if name == issuer.name => Some(value.to_owned()),
        Some(_) => None,
        None => Some(text.clone()),
    };
    let wished: Vec<_> = options.audiences.iter().filter_map(mine).collect();
    if wished.is_empty() { issuer.audience.clone() } else { wished }
}

fn providers(assumed: &[(&RoleArn, Vec<Use<'_>>)], options: &PlanOptions) -> Vec<ProviderPlan> {
    let mut providers: Vec<ProviderPlan> = Vec::new();
    for (role, uses) in assumed {
        for (issuer, _) in uses {
            for accepted in issuer.accepted() {
                let arn = documents::provider_arn(role, &accepted.issuer);
                let known = |other: &ProviderPlan| other.arn == arn && other.account == role.account();
                if providers.iter().any(known) {
                    continue;
                }
                providers.push(ProviderPlan {
                    issuer: match &accepted.tenant {
                        Some(tenant) => format!("{}-{tenant}", issuer.name),
                        None => issuer.name.clone(),
                    },
                    url: accepted.issuer.as_str().to_owned(),
                    built_in: documents::is_built_in(&accepted.issuer),
                    arn,
                    account: role.account().to_owned(),
                    audiences: audiences(issuer, options),
                    notes: notes::of_provider(issuer, options),
                });
            }
        }
    }
    providers
}

fn role_plan(
    role: RoleArn,
    uses: &[Use<'_>],
    (all, placeholders): (&[&ClusterSettings], &[Placeholder]),
    options: &PlanOptions,
) -> RolePlan {
    let mut clusters: Vec<&ClusterSettings> = Vec::new();
    let mut issuers: Vec<&IssuerSettings> = Vec::new();
    for (issuer, cluster) in uses {
        if !clusters.iter().any(|known| known.name == cluster.name) {
            clusters.push(cluster);
        }
        if !issuers.iter().any(|known| known.name == issuer.name) {
            issuers.push(issuer);
        }
    }
    let demanded = clusters.iter().all(|cluster| by_tag(cluster, options));
    // A role that does not allow sts:TagSession refuses tokens with tags, even if no tag is needed.
    let tagged = |issuer: &IssuerSettings| {
        all.iter().any(|cluster| cluster.admits(issuer) && by_tag(cluster, options))
    };
    let audiences: HashMap<&str, Vec<String>> =
        issuers.iter().map(|issuer| (issuer.name.as_str(), audiences(issuer, options))).collect();
    let accepted: Vec<_> = issuers
        .iter()
        .flat_map(|issuer| issuer.accepted().into_iter().map(move |accepted| (*issuer, accepted.issuer)))
        .collect();
    let trusted: Vec<_> = accepted
        .iter()
        .map(|(issuer, accepted)| TrustedIssuer {
            issuer: accepted,
            audiences: audiences.get(issuer.name.as_str()).map_or(&[][..], Vec::as_slice),
            tags: match (demanded, tagged(issuer)) {
                (true, _) => SessionTags::Demanded,
                (false, true) => SessionTags::Allowed,
                (false, false) => SessionTags::Refused,
            },
        })
        .collect();
    let reach: Vec<_> = clusters
        .iter()
        .map(|cluster| LoginScope {
            cluster,
            resource_id: resource_id(cluster, placeholders),
            by_tag: by_tag(cluster, options),
        })
        .collect();
    let longest = clusters.iter().map(|cluster| cluster.sts_duration.as_secs()).max().unwrap_or(0);
    RolePlan {
        clusters: clusters.iter().map(|cluster| cluster.name.clone()).collect(),
        trust: documents::trust(&role, &trusted, &options.source),
        restricted_trust: (!demanded && options.source == SourceRestriction::Anywhere).then(|| {
            let source = SourceRestriction::Ip(vec![placeholder::PROXY_ADDRESS.to_owned()]);
            documents::trust(&role, &trusted, &source)
        }),
        permission: documents::permission(&role, &reach),
        max_session_seconds: (longest > USUAL_SESSION_SECONDS).then_some(longest),
        notes: notes::of_role(&clusters, (demanded, placeholders), options),
        arn: role,
    }
}

/// Resource id of the cluster, or what stands in its place.
fn resource_id<'p>(cluster: &'p ClusterSettings, placeholders: &'p [Placeholder]) -> &'p str {
    let placeholder = || placeholders.iter().find(|one| one.cluster == cluster.name);
    cluster.resource_id.as_deref().or_else(|| Some(&placeholder()?.text)).unwrap_or_default()
}

fn database(cluster: &ClusterSettings, users: &[DbUser]) -> DatabasePlan {
    DatabasePlan {
        cluster: cluster.name.clone(),
        engine: cluster.engine,
        host: cluster.endpoint.host().to_owned(),
        port: cluster.endpoint.port(),
        statements: sql::statements(cluster, users),
        repeatable: sql::repeatable(cluster, users),
    }
}

fn claims(
    issuers: &[&IssuerSettings],
    clusters: &[&ClusterSettings],
    options: &PlanOptions,
) -> Vec<IdpRecipe> {
    let mut recipes = Vec::new();
    for issuer in issuers {
        let mine: Vec<_> = clusters.iter().filter(|cluster| cluster.admits(issuer)).collect();
        if mine.is_empty() {
            continue;
        }
        let mut claims: Vec<String> = mine
            .iter()
            .filter_map(|cluster| cluster.user.of(&issuer.name))
            .map(|rule| rule.claim_for(issuer.user_claim.as_deref()).join("."))
            .collect();
        claims.sort_unstable();
        claims.dedup();
        let tag = mine.iter().any(|cluster| by_tag(cluster, options));
        let idp = options.idp.unwrap_or_else(|| IdentityProvider::of(&issuer.issuer));
        recipes.push(idp.recipe(&issuer.name, &claims, tag));
    }
    recipes
}
