//! `pgpassport policy`: everything that has to be set up in AWS, the database and the identity provider for
//! this configuration, ready to paste. Makes no network calls.

mod args;
mod documents;
mod idp;
mod render;
mod shell;
mod sql;
mod terraform;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::args::PolicyArgs;
use self::documents::{LoginScope, SessionTags, TrustedIssuer};
pub use self::documents::{PolicyDocument, SourceRestriction};
pub use self::idp::{IdentityProvider, IdpRecipe};
pub use self::render::{PlanFormat, PlanPart, render};
use crate::config::{ClusterSettings, Config, EndpointKind, IssuerSettings};
use crate::names::{DbUser, RoleArn};

/// Default maximum session duration of a role (IAM user guide, "Modify the maximum session duration").
const USUAL_SESSION_SECONDS: u64 = 3_600;

/// Placeholder if the configuration does not identify the database. It is not a resource id, so a policy with
/// it allows nobody.
const NO_RESOURCE_ID: &str = "RESOURCE-ID";

/// Options of the command line.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Only this cluster.
    pub cluster: Option<String>,
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
    /// Host of the endpoint.
    pub host: String,
    /// Port of the endpoint.
    pub port: u16,
    /// Statements for an administrator of the database.
    pub statements: Vec<String>,
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
    /// A single document was requested but there are several.
    #[error("there are {0} roles, so there is no single document; select a cluster with --cluster")]
    SeveralRoles(usize),
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
        let assumed = assumed(&config.issuers, &clusters);
        let all: Vec<_> = config.clusters.iter().collect();
        Ok(Self {
            providers: providers(&assumed, options),
            roles: assumed
                .iter()
                .map(|(role, uses)| role_plan((*role).clone(), uses, &all, options))
                .collect(),
            databases: clusters.iter().map(|cluster| database(cluster, &options.users)).collect(),
            claims: claims(&config.issuers, &clusters, options),
        })
    }
}

/// An issuer whose people use a cluster.
type Use<'c> = (&'c IssuerSettings, &'c ClusterSettings);

/// The roles and the issuers and clusters that use them, in the order of the configuration.
fn assumed<'c>(
    issuers: &'c [IssuerSettings],
    clusters: &[&'c ClusterSettings],
) -> Vec<(&'c RoleArn, Vec<Use<'c>>)> {
    let mut assumed: Vec<(&RoleArn, Vec<Use<'_>>)> = Vec::new();
    for cluster in clusters {
        for issuer in issuers.iter().filter(|issuer| cluster.admits(issuer)) {
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
                    notes: provider_notes(issuer, options),
                });
            }
        }
    }
    providers
}

fn provider_notes(issuer: &IssuerSettings, options: &PlanOptions) -> Vec<String> {
    let url = issuer.issuer.as_str();
    let mut notes = Vec::new();
    if url.ends_with('/') {
        notes.push(
            "The trailing slash is part of the name: check that the ARN in IAM ends with it too.".to_owned(),
        );
    }
    if !url.starts_with("https://") || issuer.private_network {
        notes.push(
            "AWS STS reads the issuer's keys over the public internet, over HTTPS on port 443 only."
                .to_owned(),
        );
    }
    if audiences(issuer, options) == issuer.audience {
        let idp = options.idp.unwrap_or_else(|| IdentityProvider::of(&issuer.issuer));
        notes.push(if idp.sends_azp() {
            format!(
                "Tokens of {} usually carry \"azp\", and STS compares that and not \"aud\". If yours do, give the \
                 client's id with --audience; `pgpassport doctor` says what a token has.",
                idp.label()
            )
        } else {
            "If your tokens carry \"azp\", STS compares that and not \"aud\": then give its value with --audience."
                .to_owned()
        });
    }
    notes
}

fn role_plan(role: RoleArn, uses: &[Use<'_>], all: &[&ClusterSettings], options: &PlanOptions) -> RolePlan {
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
    let audiences: BTreeMap<&str, Vec<String>> =
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
            resource_id: cluster.resource_id.as_deref().unwrap_or(NO_RESOURCE_ID),
            by_tag: by_tag(cluster, options),
        })
        .collect();
    let longest = clusters.iter().map(|cluster| cluster.sts_duration.as_secs()).max().unwrap_or(0);
    RolePlan {
        clusters: clusters.iter().map(|cluster| cluster.name.clone()).collect(),
        trust: documents::trust(&role, &trusted, &options.source),
        permission: documents::permission(&role, &reach),
        max_session_seconds: (longest > USUAL_SESSION_SECONDS).then_some(longest),
        notes: role_notes(&clusters, demanded, options),
        arn: role,
    }
}

fn role_notes(clusters: &[&ClusterSettings], demanded: bool, options: &PlanOptions) -> Vec<String> {
    let mut notes = Vec::new();
    for cluster in clusters.iter().filter(|cluster| cluster.resource_id.is_none()) {
        let command = match cluster.kind {
            EndpointKind::Aurora => {
                "describe-db-clusters --query 'DBClusters[].[Endpoint,DbClusterResourceId]'"
            }
            EndpointKind::Rds => {
                "describe-db-instances --query 'DBInstances[].[Endpoint.Address,DbiResourceId]'"
            }
            EndpointKind::RdsProxy => "describe-db-proxies --query 'DBProxies[].[Endpoint,DBProxyArn]'",
            EndpointKind::Dsql => continue, // its id is in its name
        };
        notes.push(format!(
            "Replace {NO_RESOURCE_ID} with the resource id of cluster {}, which `aws rds {command}` shows. Set \
             cluster.resource_id to it, and it stands here.",
            cluster.name
        ));
    }
    if !demanded && options.source == SourceRestriction::Anywhere {
        notes.push(
            "Anyone with a valid token can call STS directly, bypass the proxy, and log in as any user with \
             rds_iam, because this policy allows dbuser:*. Close that path with --source-ip, --source-vpce or --session-tag."
                .to_owned(),
        );
    }
    if demanded && clusters.iter().any(|cluster| !cluster.pin.by_tag()) {
        notes.push(
            "Set cluster.pin to \"session-tag\" or \"both\", so that the proxy checks the tag first."
                .to_owned(),
        );
    }
    let mut rules = clusters.iter().flat_map(|cluster| cluster.user.all());
    if demanded && rules.any(|rule| rule.regex.is_some() || rule.lowercase || !rule.prefix.is_empty()) {
        notes.push(
            "The tag is compared with the database user byte for byte: take regex, lowercase and prefix out of \
             cluster.user, and let claim and tag hold the user itself."
                .to_owned(),
        );
    }
    match &options.source {
        SourceRestriction::Anywhere => {}
        SourceRestriction::Ip(_) => notes.push(
            "aws:SourceIp is the proxy's address as STS sees it (of its NAT gateway, for example). Through a \
             VPC endpoint there is none, and everyone is refused."
                .to_owned(),
        ),
        SourceRestriction::Vpce(_) => notes.push(
            "aws:SourceVpce is set only for calls through the VPC endpoint of STS: set cluster.sts_endpoint_url to \
             it, or turn on its private DNS name."
                .to_owned(),
        ),
    }
    notes
}

fn database(cluster: &ClusterSettings, users: &[DbUser]) -> DatabasePlan {
    DatabasePlan {
        cluster: cluster.name.clone(),
        host: cluster.endpoint.host().to_owned(),
        port: cluster.endpoint.port(),
        statements: sql::statements(cluster, users),
    }
}

fn claims(
    issuers: &[IssuerSettings],
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
        claims.sort();
        claims.dedup();
        let tag = mine.iter().any(|cluster| by_tag(cluster, options));
        let idp = options.idp.unwrap_or_else(|| IdentityProvider::of(&issuer.issuer));
        recipes.push(idp.recipe(&issuer.name, &claims, tag));
    }
    recipes
}
