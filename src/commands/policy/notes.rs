//! Notes beside the parts of a plan: what an administrator has to look out for.

use super::{
    IdentityProvider, Placeholder, PlanOptions, SourceRestriction, audiences, placeholder, resource_id,
};
use crate::config::{ClusterSettings, IssuerSettings};

/// Notes about an identity provider.
pub(super) fn of_provider(issuer: &IssuerSettings, options: &PlanOptions) -> Vec<String> {
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

/// Notes about a role.
pub(super) fn of_role(
    clusters: &[&ClusterSettings],
    (demanded, placeholders): (bool, &[Placeholder]),
    options: &PlanOptions,
) -> Vec<String> {
    let mut notes = Vec::new();
    for cluster in clusters.iter().filter(|cluster| cluster.resource_id.is_none()) {
        // The id of a DSQL cluster is in its name.
        let Some(command) = placeholder::command(cluster.kind) else { continue };
        notes.push(format!(
            "Replace {} with the resource id of cluster {}, which `aws rds {command}` shows. Set \
             cluster.resource_id to it, and it stands here.",
            resource_id(cluster, placeholders),
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
