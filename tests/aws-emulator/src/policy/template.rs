//! The policies that `pgpassport policy` prints for an example, with the values of this run in place of the example's.

use crate::names;

/// A file in `policies/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyTemplate {
    /// `trust-policy.json`: any token with the right audience.
    Trust,
    /// `trust-policy-source-ip.json`: and only from 203.0.113.7.
    TrustSourceIp,
    /// `trust-policy-source-vpce.json`: and only through vpce-0123456789abcdef0.
    TrustSourceVpce,
    /// `trust-policy-session-tag.json`: only tokens that carry the session tag `dbuser`.
    TrustSessionTag,
    /// `permission-policy.json`: any database user.
    Permission,
    /// `permission-policy-session-tag.json`: only the database user that the session tag names.
    PermissionSessionTag,
}

/// Values in place of the examples in the files.
#[derive(Clone, Debug)]
pub struct PolicyValues {
    /// The AWS account.
    pub account: String,
    /// The Region.
    pub region: String,
    /// The cluster's resource id.
    pub resource_id: String,
    /// The audience of tokens.
    pub audience: String,
    /// The issuer URL.
    pub issuer_url: String,
}

impl PolicyValues {
    /// The shared names, with this issuer.
    pub fn with_issuer(url: &str) -> Self {
        Self {
            account: names::ACCOUNT.to_owned(),
            region: names::REGION.to_owned(),
            resource_id: names::RESOURCE_ID.to_owned(),
            audience: names::AUDIENCE.to_owned(),
            issuer_url: url.to_owned(),
        }
    }

    /// The file with these values. Only whole examples are replaced, so what is checked is what users paste.
    pub fn fill(&self, template: PolicyTemplate) -> String {
        let file = match template {
            PolicyTemplate::Trust => include_str!("../../policies/trust-policy.json"),
            PolicyTemplate::TrustSourceIp => include_str!("../../policies/trust-policy-source-ip.json"),
            PolicyTemplate::TrustSourceVpce => include_str!("../../policies/trust-policy-source-vpce.json"),
            PolicyTemplate::TrustSessionTag => include_str!("../../policies/trust-policy-session-tag.json"),
            PolicyTemplate::Permission => include_str!("../../policies/permission-policy.json"),
            PolicyTemplate::PermissionSessionTag => {
                include_str!("../../policies/permission-policy-session-tag.json")
            }
        };
        file.replace("\"pgpassport\"", &format!("\"{}\"", self.audience))
            .replace("111122223333", &self.account)
            .replace("us-east-2", &self.region)
            .replace("cluster-ABCDEFGHIJKL01234", &self.resource_id)
            .replace("idp.example.com/oauth2/default", provider_name(&self.issuer_url))
    }
}

/// An issuer URL as IAM writes it in the provider's ARN and in condition keys: without the scheme, with every slash.
pub(crate) fn provider_name(url: &str) -> &str {
    url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url)
}

/// The ARN of the IAM identity provider for an issuer.
pub(crate) fn provider_arn(account: &str, url: &str) -> String {
    format!("arn:aws:iam::{account}:oidc-provider/{}", provider_name(url))
}
