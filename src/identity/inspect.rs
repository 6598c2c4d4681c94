//! Inspection of a token for `doctor`: its claims and *all* of its faults. Verification stops at the first
//! fault. Inspection proves nothing; only [`Verifier`](super::Verifier) constructs the proof.

use serde_json::{Map, Value};

use super::jws::{MAX_PART_BYTES, UnverifiedToken};
use super::verify_error::{AlgorithmFault, TokenFault, VerifyError};
use super::{claims, strict_json};
use crate::config::{IssuerSettings, SignatureAlgorithm};
use crate::secret::Jwt;

/// Unverified content of a token. Escape it before showing it.
#[derive(Debug)]
pub struct TokenReport<'s> {
    /// `alg`.
    pub algorithm: SignatureAlgorithm,
    /// True if the header has a `kid`.
    pub has_key_id: bool,
    /// `typ`, lower-case.
    pub token_type: Option<String>,
    /// `iss`.
    pub issuer: String,
    /// The configured issuer that accepts `iss`.
    pub settings: Option<&'s IssuerSettings>,
    /// The claims, if they can be read.
    pub claims: Map<String, Value>,
    /// All faults that can be found without the issuer's keys.
    pub faults: Vec<VerifyError>,
}

/// Parses the token and collects its faults. The error is a fault of its shape, which hides everything else.
pub fn inspect<'s>(
    jwt: &Jwt,
    issuers: &'s [IssuerSettings],
    now: u64,
) -> Result<TokenReport<'s>, TokenFault> {
    let token = UnverifiedToken::parse(jwt.expose())?;
    let settings = issuers.iter().find(|settings| settings.accepts(&token.issuer).is_some());
    let mut faults = Vec::new();
    let claims = strict_json::parse_object(&token.payload, MAX_PART_BYTES)
        .map_err(|fault| faults.push(TokenFault::BadPayload(fault).into()))
        .unwrap_or_default();
    match settings {
        None => faults.push(TokenFault::UnknownIssuer.into()),
        Some(settings) => {
            if !settings.algorithms.contains(&token.algorithm) {
                faults.push(TokenFault::Algorithm(AlgorithmFault::NotListed(token.algorithm)).into());
            }
            if !token.has_type(&settings.token_types) {
                faults.push(TokenFault::TokenType.into());
            }
            if faults.is_empty() {
                faults.extend(claims::faults(&claims, settings, now).into_iter().map(VerifyError::from));
            }
        }
    }
    Ok(TokenReport {
        algorithm: token.algorithm,
        has_key_id: token.key_id.is_some(),
        token_type: token.token_type().map(str::to_owned),
        issuer: token.issuer,
        settings,
        claims,
        faults,
    })
}
