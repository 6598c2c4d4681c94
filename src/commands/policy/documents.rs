//! IAM policy documents: trust policy and permission policy of a role.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::aws::session_policy::login_permission;
use crate::config::ClusterSettings;
use crate::names::aws_claims::USER_TAG;
use crate::names::{Issuer, RoleArn};

/// Version of the policy language with variables (IAM user guide, "IAM JSON policy elements: Version").
const VERSION: &str = "2012-10-17";

/// Network from which the role may be assumed. STS sees either the address of a caller on the internet or the
/// VPC endpoint that the call uses, never both (IAM user guide, "Network condition keys for federated
/// principals").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceRestriction {
    /// No restriction.
    #[default]
    Anywhere,
    /// Only these addresses or networks, in CIDR notation.
    Ip(Vec<String>),
    /// Only these VPC endpoints of STS.
    Vpce(Vec<String>),
}

/// Session tags of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionTags {
    /// Not allowed: a token with tags is refused.
    Refused,
    /// The tag `dbuser` is allowed.
    Allowed,
    /// The tag `dbuser` is required.
    Demanded,
}

/// An IAM policy document. Its JSON has the customary member order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDocument {
    version: &'static str,
    statement: Vec<PolicyStatement>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyStatement {
    effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Principal>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<OneOrMany>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<String, OneOrMany>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Principal {
    federated: String,
}

/// A string, or a list of strings.
#[derive(Clone, Debug)]
struct OneOrMany(Vec<String>);

impl Serialize for OneOrMany {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(to),
            several => several.serialize(to),
        }
    }
}

impl PolicyDocument {
    /// The document as JSON to paste.
    pub fn json(&self) -> String {
        // Strings only, so serialization cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// The issuer as in ARNs and condition keys of IAM: without the scheme, with every slash.
pub(super) fn provider_name(issuer: &Issuer) -> &str {
    let url = issuer.as_str();
    url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url)
}

/// True for Google, which needs no registration: IAM has it built in (IAM user guide, "AWS JSON policy
/// elements: Principal").
pub(super) fn is_built_in(issuer: &Issuer) -> bool {
    issuer.as_str() == "https://accounts.google.com"
}

/// Principal of the issuer in the account of `role`.
pub(super) fn provider_arn(role: &RoleArn, issuer: &Issuer) -> String {
    let name = provider_name(issuer);
    if is_built_in(issuer) {
        return name.to_owned();
    }
    format!("arn:{}:iam::{}:oidc-provider/{name}", role.partition(), role.account())
}

/// An issuer whose people may assume a role.
pub(super) struct TrustedIssuer<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) audiences: &'a [String],
    pub(super) tags: SessionTags,
}

/// Trust policy of `role`.
pub(super) fn trust(
    role: &RoleArn,
    trusted: &[TrustedIssuer<'_>],
    source: &SourceRestriction,
) -> PolicyDocument {
    let mut statement = Vec::new();
    for one in trusted {
        let principal = Principal { federated: provider_arn(role, one.issuer) };
        let base = conditions(one, source);
        let allow = |action, condition| PolicyStatement {
            effect: "Allow",
            principal: Some(principal.clone()),
            action,
            resource: None,
            condition,
        };
        let mut assume = base.clone();
        if one.tags == SessionTags::Demanded {
            add(&mut assume, "StringLike", format!("aws:RequestTag/{USER_TAG}"), &["?*".to_owned()]);
        }
        statement.push(allow("sts:AssumeRoleWithWebIdentity", assume));
        if one.tags != SessionTags::Refused {
            let mut tag = base;
            add(&mut tag, "ForAllValues:StringEquals", "aws:TagKeys".to_owned(), &[USER_TAG.to_owned()]);
            statement.push(allow("sts:TagSession", tag));
        }
    }
    PolicyDocument { version: VERSION, statement }
}

type Conditions = BTreeMap<&'static str, BTreeMap<String, OneOrMany>>;

fn conditions(trusted: &TrustedIssuer<'_>, source: &SourceRestriction) -> Conditions {
    let mut conditions = Conditions::new();
    let key = format!("{}:aud", provider_name(trusted.issuer));
    add(&mut conditions, "StringEquals", key, trusted.audiences);
    match source {
        SourceRestriction::Anywhere => {}
        SourceRestriction::Ip(networks) => {
            add(&mut conditions, "IpAddress", "aws:SourceIp".to_owned(), networks);
        }
        SourceRestriction::Vpce(ids) => {
            add(&mut conditions, "StringEquals", "aws:SourceVpce".to_owned(), ids);
        }
    }
    conditions
}

fn add(conditions: &mut Conditions, operator: &'static str, key: String, values: &[String]) {
    conditions.entry(operator).or_default().insert(key, OneOrMany(values.to_vec()));
}

/// Databases to which people may log in, one per cluster.
pub(super) struct LoginScope<'a> {
    pub(super) cluster: &'a ClusterSettings,
    pub(super) resource_id: &'a str,
    pub(super) by_tag: bool,
}

/// Permission policy of `role`: one statement per action.
pub(super) fn permission(role: &RoleArn, reach: &[LoginScope<'_>]) -> PolicyDocument {
    let mut actions: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for cluster in reach {
        let user = if cluster.by_tag { format!("${{aws:PrincipalTag/{USER_TAG}}}") } else { "*".to_owned() };
        let (action, resource) = login_permission(cluster.cluster, role, cluster.resource_id, &user);
        actions.entry(action).or_default().push(resource);
    }
    let statement = |(action, mut resources): (&'static str, Vec<String>)| {
        resources.sort_unstable();
        resources.dedup();
        let resource = Some(OneOrMany(resources));
        PolicyStatement { effect: "Allow", principal: None, action, resource, condition: Conditions::new() }
    };
    // RDS first, because it is more common.
    PolicyDocument { version: VERSION, statement: actions.into_iter().rev().map(statement).collect() }
}
