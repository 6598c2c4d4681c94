//! Validation of an STS answer before its credentials are used.

use std::time::{Duration, SystemTime};

use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput as Output;
use aws_sdk_sts::types::{AssumedRoleUser, Credentials};

use super::credentials::RoleCredentials;
use super::sts_error::{AttemptError, StsError};
use super::sts_request::AssumeRoleRequest;
use crate::names::{Issuer, RoleArn};

/// Lengths of an access key id (STS API reference, `Credentials`, `AccessKeyId`: 16 to 128 characters, `[\w]*`).
const KEY_ID_LENGTH: std::ops::RangeInclusive<usize> = 16..=128;

/// Longest secret access key. AWS documents no limit; they have 40 characters.
const MAX_SECRET: usize = 1_024;

/// Longest session token. AWS documents no maximum; the largest minimum that one may request is 4,096
/// (`MinimumSessionTokenSize`). The IAM token contains it percent-encoded and has to fit into PostgreSQL's
/// password message of 65,535 bytes.
pub const MAX_SESSION_TOKEN: usize = 16 * 1024;

/// Largest accepted difference between the local clock and that of STS. AWS rejects requests signed with a
/// larger one (IAM user guide, "Troubleshoot Signature Version 4": 5 minutes).
const MAX_SKEW: Duration = Duration::from_mins(5);

/// Returns the credentials if the answer matches the request.
pub(super) fn validate(
    answer: Output,
    request: &AssumeRoleRequest,
    now: SystemTime,
) -> Result<RoleCredentials, AttemptError> {
    // Faults of one person or issuer, which say nothing about the health of STS.
    let mismatch = |reason| Err(AttemptError::Finally(StsError::BadResponse(reason)));
    let bad = |reason| Err(AttemptError::Unusable(reason));
    if answer.subject_from_web_identity_token.as_deref().is_some_and(|sub| sub != request.subject.as_str()) {
        return mismatch("the credentials are for another subject");
    }
    if answer.provider.as_deref().is_some_and(|provider| !same_provider(provider, &request.issuer)) {
        return mismatch("the credentials are for another provider");
    }
    match answer.assumed_role_user {
        None => return bad("no AssumedRoleUser"),
        Some(user) if !is_assumed(&user, &request.role, &request.session_name) => {
            return mismatch("the credentials are for another role or session");
        }
        Some(_) => {}
    }
    let Some(credentials) = answer.credentials else { return bad("no credentials") };
    if let Err(reason) = well_formed(&credentials) {
        return bad(reason);
    }
    let Ok(expires_at) = SystemTime::try_from(credentials.expiration) else {
        return bad("an invalid expiration");
    };
    match expires_at.duration_since(now) {
        Err(_) => return bad("credentials that have expired"),
        Ok(left) if left > request.duration + MAX_SKEW => {
            return bad("credentials that live longer than requested; check this machine's clock");
        }
        Ok(_) => {}
    }
    Ok(RoleCredentials::new(
        credentials.access_key_id,
        credentials.secret_access_key,
        Some(credentials.session_token),
        expires_at,
        request.session_name.clone(),
    ))
}

/// True if `user` is the session `name` of `role`:
/// `arn:<partition>:sts::<account>:assumed-role/<role>/<session>`, without the role's path (IAM user guide,
/// "IAM identifiers").
fn is_assumed(user: &AssumedRoleUser, role: &RoleArn, name: &str) -> bool {
    let (partition, account, (_, role)) = (role.partition(), role.account(), role.path_and_name());
    let session = user.assumed_role_id.rsplit_once(':').map(|(_, session)| session);
    user.arn == format!("arn:{partition}:sts::{account}:assumed-role/{role}/{name}") && session == Some(name)
}

/// Checks lengths and characters, because the parts are used for signing and in the IAM token.
fn well_formed(credentials: &Credentials) -> Result<(), &'static str> {
    let id = &credentials.access_key_id;
    if !KEY_ID_LENGTH.contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("a malformed access key id");
    }
    let printable = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let secret = &credentials.secret_access_key;
    if secret.len() > MAX_SECRET || !printable(secret) {
        return Err("a malformed secret access key");
    }
    let token = &credentials.session_token;
    if token.len() > MAX_SESSION_TOKEN || !printable(token) {
        return Err("a malformed session token");
    }
    Ok(())
}

/// Compares a provider with an issuer. STS names the provider by its URL or, as in the ARN, without
/// `https://`.
fn same_provider(provider: &str, issuer: &Issuer) -> bool {
    let issuer = issuer.as_str();
    let bare = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    provider == issuer || provider == bare || provider.ends_with(&format!(":oidc-provider/{bare}"))
}

#[cfg(test)]
mod tests;
