//! Doctor: cause and remedy of STS errors for this token and configuration.

use super::LinkProblem;
use super::access::AwsClaims;
use crate::aws::sts::StsError;
use crate::identity::Grant;
use crate::names::aws_claims::{ROLES, SOURCE_IDENTITY};
use crate::names::printable;

/// Remedy for a certificate of STS that is not trusted.
pub(super) const TRUST_AUTHORITIES: &str =
    "Set cluster.sts_ca_file to the authorities that sign it, or exempt calls to STS from TLS inspection.";

pub(super) fn explain(error: &StsError, grant: &Grant, aws_claims: &AwsClaims) -> LinkProblem {
    let found = error.to_string();
    let (cause, remedy) = match error {
        StsError::Refused { code, message } => refused(code, message, grant, aws_claims),
        StsError::Misconfigured { code, message } => misconfigured(code, message, grant, aws_claims),
        StsError::Unavailable(why) => unavailable(why, grant),
        StsError::BadResponse(_) => (
            "The answer is not a valid STS answer; it was not used.".to_owned(),
            "Check cluster.sts_endpoint_url and any proxy or load balancer in front of STS.".to_owned(),
        ),
    };
    LinkProblem::new(found, remedy).because(cause)
}

/// The value that STS compares.
fn compared(aws_claims: &AwsClaims) -> String {
    match &aws_claims.azp {
        Some(azp) => format!("azp \"{}\"", printable(azp, 128)),
        None => format!("aud \"{}\"", printable(&aws_claims.audience.join("\", \""), 128)),
    }
}

fn refused(code: &str, message: &str, grant: &Grant, aws_claims: &AwsClaims) -> (String, String) {
    let (role, account) = (grant.role().as_str(), grant.role().account());
    let issuer = grant.issuer().as_str();
    let says = |text: &str| message.contains(text);
    let printed = "`pgpassport policy` prints it";
    let (cause, remedy) = match code {
        "AccessDenied" if says("sts:TagSession") => (
            format!("The token carries session tags, and the trust policy of {role} does not allow them, or not these."),
            format!("Let the trust policy allow sts:TagSession with the tag dbuser; {printed} with --session-tag."),
        ),
        "AccessDenied" if says("sts:SetSourceIdentity") => (
            format!("The token carries {SOURCE_IDENTITY}, and {role} does not allow that."),
            "Let the trust policy allow sts:SetSourceIdentity, or the identity provider leave that claim out.".to_owned(),
        ),
        "AccessDenied" => (
            format!(
                "The trust policy of {role} does not fit: another account's or issuer's provider in Principal, a \
                 condition that does not hold ({}, aws:SourceIp, aws:SourceVpce){}, or there is no such role.",
                compared(aws_claims),
                if aws_claims.tags { ", no sts:TagSession for the tags that the token carries" } else { "" }
            ),
            format!(
                "Compare the trust policy with what is needed; {printed}{}. Role and provider are in one account.",
                if aws_claims.tags { " with --session-tag" } else { "" }
            ),
        ),
        "InvalidIdentityToken" if says("No OpenIDConnect provider") => (
            format!("The issuer is not registered in account {account}, or under a URL that differs in a slash."),
            format!("Register {issuer} as an IAM OIDC provider in the account of the role; {printed}."),
        ),
        "InvalidIdentityToken" if says("audience") => (
            format!("The provider in IAM does not know {}.", compared(aws_claims)),
            format!("Add that value to the client ids of the IAM OIDC provider; {printed} with --audience."),
        ),
        "InvalidIdentityToken" if says("thumbprint") => (
            "The issuer's certificate is not from a public authority, or its chain is out of order, and the thumbprint \
             in IAM is another one."
                .to_owned(),
            "Give the issuer a publicly trusted certificate with its chain in order, or update the provider's \
             thumbprint in IAM."
                .to_owned(),
        ),
        "InvalidIdentityToken" if says("openid-configuration") => (
            "STS cannot use the issuer's discovery document.".to_owned(),
            format!("{issuer}/.well-known/openid-configuration has to be reachable from the internet, with this issuer."),
        ),
        "InvalidIdentityToken" if aws_claims.roles.as_ref().is_some_and(|roles| !roles.contains(role)) => (
            format!("The token's claim {ROLES} does not name {role}."),
            "Let the identity provider put the role into that claim, or leave the claim out.".to_owned(),
        ),
        "InvalidIdentityToken" => (
            "STS could not verify the token with the issuer's keys.".to_owned(),
            "Read the message from STS; the issuer's keys have to be public, at most 100 of a type.".to_owned(),
        ),
        "ExpiredTokenException" | "ExpiredToken" => (
            "By the clock of STS the token has expired, or it was issued about a day ago.".to_owned(),
            "Get a fresh token, and compare this machine's clock with the time (NTP).".to_owned(),
        ),
        "IDPRejectedClaim" => (
            "The identity provider reported to STS that the token is no longer valid.".to_owned(),
            "Get a fresh token; check the identity provider for a revoked session.".to_owned(),
        ),
        _ => ("STS refuses with an error code that doctor does not know.".to_owned(), "Read the message from STS.".to_owned()),
    };
    (cause, remedy)
}

fn misconfigured(code: &str, message: &str, grant: &Grant, aws_claims: &AwsClaims) -> (String, String) {
    let role = grant.role().as_str();
    match code {
        "RegionDisabledException" => (
            format!("STS is not active in {} for the role's account.", grant.cluster().region.as_str()),
            "Activate the Region's STS endpoint in IAM, Account settings.".to_owned(),
        ),
        "PackedPolicyTooLarge" => (
            "Session policy and session tags together are too long.".to_owned(),
            "Let tokens carry fewer session tags, or set cluster.pin = \"session-tag\".".to_owned(),
        ),
        "MalformedPolicyDocument" => (
            "STS rejects the session policy.".to_owned(),
            "Check cluster.resource_id and cluster.region; if they are right, report it.".to_owned(),
        ),
        _ if message.contains("DurationSeconds") || !aws_claims.tags => (
            "STS rejects a parameter of the call, most often cluster.sts_duration.".to_owned(),
            format!("Raise the maximum session duration of {role}, or shorten cluster.sts_duration."),
        ),
        _ => (
            "STS rejects a parameter of the call, most likely the token's session tags: a value has at most 256 \
             letters, digits, spaces and _.:/=+-@."
                .to_owned(),
            "Configure the identity provider to write other tags, or none.".to_owned(),
        ),
    }
}

fn unavailable(why: &str, grant: &Grant) -> (String, String) {
    let issuer = grant.issuer().as_str();
    if why.contains("issuer's keys")
        || why.contains("verification key")
        || why.contains("IDPCommunication")
        || why.contains("identity provider")
    {
        return (
            "STS cannot fetch the issuer's keys: it is not public, slow (over 5 s), or limits STS."
                .to_owned(),
            format!(
                "Make discovery and keys of {issuer} reachable from the internet, over HTTPS on port 443."
            ),
        );
    }
    if why.contains("Throttl") || why.contains("TooMany") || why.contains("Rate exceeded") {
        return (
            "STS throttles: too many calls from this account and Region.".to_owned(),
            "Try again; if it persists, look for other callers of STS, and ask AWS for a higher limit."
                .to_owned(),
        );
    }
    if why.contains("certificate") {
        return (
            "The certificate that is shown for STS is not trusted: an authority that this machine does not know, or \
             something between here and STS that opens TLS."
                .to_owned(),
            TRUST_AUTHORITIES.to_owned(),
        );
    }
    if why.contains("not an answer from STS") {
        return (
            "Something between here and STS answers in its place, for example a proxy or a load balancer."
                .to_owned(),
            "Check cluster.sts_endpoint_url and the network.".to_owned(),
        );
    }
    (
        "STS does not answer in time, breaks the connection, or fails.".to_owned(),
        "Try again; check the network, cluster.sts_endpoint_url and cluster.sts_ca_file, and AWS's health page.".to_owned(),
    )
}
