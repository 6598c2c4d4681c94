//! The IAM authentication token: a presigned request for one user at one endpoint, signed locally. The user
//! is percent-encoded before signing, so that a name cannot add a parameter.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign as presign,
};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::config::{ClusterSettings, EndpointKind};
use crate::names::DbUser;
use crate::secret::IamToken;

/// Lifetime of a token: the longest that RDS accepts (Aurora user guide, "IAM database authentication": 15
/// minutes).
pub const LIFETIME: Duration = Duration::from_mins(15);

/// All bytes except RFC 3986's unreserved characters (SigV4, "URI encode every byte").
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The credentials cannot sign or the request cannot be signed. Clients cannot cause it.
#[derive(Debug, thiserror::Error)]
#[error("the IAM token cannot be signed: {0}")]
pub struct SignError(String);

/// Signs a token that lets `user` log in at `endpoint` for the next 15 minutes.
pub fn sign(
    (key_id, secret, session_token): (&str, &str, Option<&str>),
    cluster: &ClusterSettings,
    user: &DbUser,
    now: SystemTime,
) -> Result<IamToken, SignError> {
    let identity = Credentials::new(key_id, secret, session_token.map(str::to_owned), None, "sts");
    presigned(identity, &TokenRequest::at(cluster, user), now).map(IamToken::new)
}

/// Upper bound of the length of a token signed with these, with host and user of 255 bytes each.
pub(super) fn length(key_id: &str, session_token: &str) -> usize {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODE).map(str::len).sum::<usize>();
    // Names and values of the other parameters take about 300 bytes, the signature 64.
    encoded(key_id) + encoded(session_token) + 2 * 255 + 400
}

/// The request that a token signs.
struct TokenRequest<'a> {
    service: &'static str,
    /// Host and port.
    authority: String,
    /// Parameters other than those of the signature.
    query: String,
    region: &'a str,
}

impl<'a> TokenRequest<'a> {
    fn at(cluster: &'a ClusterSettings, user: &DbUser) -> Self {
        let (endpoint, region) = (&cluster.endpoint, cluster.region.as_str());
        if cluster.kind == EndpointKind::Dsql {
            return Self::dsql(endpoint.host(), region);
        }
        Self::rds(endpoint.host(), endpoint.port(), region, user.as_str())
    }

    fn rds(host: &str, port: u16, region: &'a str, user: &str) -> Self {
        let query = format!("Action=connect&DBUser={}", utf8_percent_encode(user, ENCODE));
        Self { service: "rds-db", authority: format!("{host}:{port}"), query, region }
    }

    /// A DSQL token has neither port nor user (DSQL user guide, "Generating an authentication token"). The
    /// action `DbConnectAdmin` is for the user `admin`, a denied name.
    fn dsql(host: &str, region: &'a str) -> Self {
        let query = "Action=DbConnect".to_owned();
        Self { service: "dsql", authority: host.to_owned(), query, region }
    }
}

fn presigned(
    identity: Credentials,
    token_request: &TokenRequest<'_>,
    now: SystemTime,
) -> Result<String, SignError> {
    let identity = identity.into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(token_request.region)
        .name(token_request.service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| SignError(error.to_string()))?
        .into();
    let url = format!("https://{}/?{}", token_request.authority, token_request.query);
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::empty())
        .map_err(|error| SignError(error.to_string()))?;
    // The signer traces the request, session token included, so no subscriber may listen.
    let silence = tracing::subscriber::NoSubscriber::default();
    let presigned = tracing::subscriber::with_default(silence, || presign(request, &params));
    let (instructions, _) = presigned.map_err(|error| SignError(error.to_string()))?.into_parts();

    // Allocated once: a growing string leaves copies in freed memory.
    let parameters: usize =
        instructions.params().iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut token = Zeroizing::new(String::with_capacity(url.len() + parameters));
    token.push_str(url.trim_start_matches("https://"));
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
mod tests;
