//! The RDS IAM authentication token: a presigned `rds-db` request for one user at one endpoint, made locally.
//! The user is percent-encoded before signing, so that no name can add a parameter of its own.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign as presign,
};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::credentials::RoleCredentials;
use crate::names::{DbUser, Endpoint, Region};
use crate::secret::IamToken;

/// How long a token is good for: the longest that RDS accepts ("IAM database authentication", Aurora user
/// guide: 15 minutes).
pub const LIFETIME: Duration = Duration::from_mins(15);

/// The service name that tokens are signed for.
const SERVICE: &str = "rds-db";

/// Everything but RFC 3986's unreserved characters (SigV4, "URI encode every byte").
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The credentials or the request cannot be signed. Nothing a client sends can cause it.
#[derive(Debug, thiserror::Error)]
#[error("the IAM token cannot be signed: {0}")]
pub struct SignError(String);

/// Signs a token that lets `user` log in at `endpoint` for the next 15 minutes.
pub fn sign(
    credentials: &RoleCredentials,
    endpoint: &Endpoint,
    region: &Region,
    user: &DbUser,
    now: SystemTime,
) -> Result<IamToken, SignError> {
    let (key_id, secret, session_token) = credentials.expose();
    let identity = Credentials::new(key_id, secret, session_token.map(str::to_owned), None, "sts");
    let authority = Authority { host: endpoint.host(), port: endpoint.port(), region: region.as_str() };
    presigned(identity, &authority, user.as_str(), now).map(IamToken::new)
}

/// Where and for which Region a token is signed.
struct Authority<'a> {
    host: &'a str,
    port: u16,
    region: &'a str,
}

fn presigned(
    identity: Credentials,
    at: &Authority<'_>,
    user: &str,
    now: SystemTime,
) -> Result<String, SignError> {
    let identity = identity.into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(at.region)
        .name(SERVICE)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| SignError(error.to_string()))?
        .into();
    let user = utf8_percent_encode(user, ENCODE);
    let url = format!("https://{}:{}/?Action=connect&DBUser={user}", at.host, at.port);
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::empty())
        .map_err(|error| SignError(error.to_string()))?;
    // The signer traces what it signs, session token included: nobody may be listening.
    let silence = tracing::subscriber::NoSubscriber::default();
    let presigned = tracing::subscriber::with_default(silence, || presign(request, &params));
    let (instructions, _) = presigned.map_err(|error| SignError(error.to_string()))?.into_parts();

    let mut token = Zeroizing::new(url.trim_start_matches("https://").to_owned());
    // The signature goes last, as in the tokens of AWS's own tools; it covers the parameters in any order.
    let (signature, others): (Vec<_>, Vec<_>) =
        instructions.params().iter().partition(|(name, _)| *name == "X-Amz-Signature");
    for (name, value) in others.into_iter().chain(signature) {
        let value = Zeroizing::new(utf8_percent_encode(value, ENCODE).to_string());
        token.push('&');
        token.push_str(name);
        token.push('=');
        token.push_str(&value);
    }
    Ok(std::mem::take(&mut *token))
}

#[cfg(test)]
#[path = "iam_token_tests.rs"]
mod tests;
