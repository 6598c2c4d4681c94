//! The checks of an answer of STS before its credentials are used.

use std::time::{Duration, SystemTime};

use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput as Output;
use aws_sdk_sts::types::{AssumedRoleUser, Credentials};

use super::credentials::RoleCredentials;
use super::sts::AssumeRoleRequest;
use super::sts_error::{AttemptError, StsError};
use crate::names::{Issuer, RoleArn};

/// Lengths of an access key id (STS API reference, `Credentials`, `AccessKeyId`: 16 to 128 characters, `[\w]*`).
const KEY_ID_LENGTH: std::ops::RangeInclusive<usize> = 16..=128;

/// Longest secret access key. AWS says nothing; they have 40 characters.
const MAX_SECRET: usize = 1_024;

/// Longest session token. AWS names no maximum, and at most 4,096 as what one may ask for (`MinimumSessionTokenSize`). The IAM
/// token holds it percent-encoded and has to fit into PostgreSQL's password message of 65,535 bytes.
pub const MAX_SESSION_TOKEN: usize = 16 * 1024;

/// Difference between our clock and that of STS up to which an expiration is believed. AWS refuses requests that are signed
/// with a larger one (IAM user guide, "Troubleshoot Signature Version 4": 5 minutes).
const MAX_SKEW: Duration = Duration::from_mins(5);

/// The credentials, if the answer is to what was asked.
pub(super) fn believe(
    answer: Output,
    assume: &AssumeRoleRequest,
    now: SystemTime,
) -> Result<RoleCredentials, AttemptError> {
    // These are about one person or issuer and say nothing of STS's health.
    let strange = |what| Err(AttemptError::Finally(StsError::BadResponse(what)));
    let bad = |what| Err(AttemptError::Unusable(what));
    if answer.subject_from_web_identity_token.as_deref().is_some_and(|sub| sub != assume.subject.as_str()) {
        return strange("the credentials are for another subject");
    }
    if answer.provider.as_deref().is_some_and(|provider| !same_provider(provider, &assume.issuer)) {
        return strange("the credentials are for another provider");
    }
    match answer.assumed_role_user {
        None => return bad("no AssumedRoleUser"),
        Some(user) if !is_assumed(&user, &assume.role, &assume.session_name) => {
            return strange("the credentials are for another role or session");
        }
        Some(_) => {}
    }
    let Some(credentials) = answer.credentials else { return bad("no credentials") };
    if let Err(what) = well_formed(&credentials) {
        return bad(what);
    }
    let Ok(expires_at) = SystemTime::try_from(credentials.expiration) else {
        return bad("an expiration that is no time");
    };
    match expires_at.duration_since(now) {
        Err(_) => return bad("credentials that have expired"),
        Ok(left) if left > assume.duration + MAX_SKEW => {
            return bad("credentials that live longer than was asked for; compare this machine's clock");
        }
        Ok(_) => {}
    }
    Ok(RoleCredentials::new(
        credentials.access_key_id,
        credentials.secret_access_key,
        Some(credentials.session_token),
        expires_at,
        assume.session_name.clone(),
    ))
}

/// Whether `user` is the session `name` of `role`: `arn:<partition>:sts::<account>:assumed-role/<role>/<session>`, without
/// the role's path (IAM user guide, "IAM identifiers").
fn is_assumed(user: &AssumedRoleUser, role: &RoleArn, name: &str) -> bool {
    let (partition, account, (_, role)) = (role.partition(), role.account(), role.path_and_name());
    let session = user.assumed_role_id.rsplit_once(':').map(|(_, session)| session);
    user.arn == format!("arn:{partition}:sts::{account}:assumed-role/{role}/{name}") && session == Some(name)
}

/// Lengths and characters: the parts are signed with, and put into the IAM token.
fn well_formed(credentials: &Credentials) -> Result<(), &'static str> {
    let id = &credentials.access_key_id;
    if !KEY_ID_LENGTH.contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("an access key id that cannot be one");
    }
    let printable = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let secret = &credentials.secret_access_key;
    if secret.len() > MAX_SECRET || !printable(secret) {
        return Err("a secret access key that cannot be one");
    }
    let token = &credentials.session_token;
    if token.len() > MAX_SESSION_TOKEN || !printable(token) {
        return Err("a session token that cannot be one");
    }
    Ok(())
}

/// STS names the provider by its URL or, as the ARN does, without `https://`.
fn same_provider(provider: &str, issuer: &Issuer) -> bool {
    let issuer = issuer.as_str();
    let bare = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    provider == issuer || provider == bare || provider.ends_with(&format!(":oidc-provider/{bare}"))
}

#[cfg(test)]
mod tests;
