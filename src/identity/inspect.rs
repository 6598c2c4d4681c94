//! What a token says and all that is wrong with it, for `doctor`: verification stops at the first fault, a look does
//! not. A look proves nothing; only [`Verifier`](super::Verifier) makes the proof.

use serde_json::{Map, Value};

use super::jws::{MAX_PART_BYTES, UnverifiedToken};
use super::verify_error::{AlgorithmFault, VerifyError};
use super::{claims, strict_json};
use crate::config::{IssuerSettings, SignatureAlgorithm};
use crate::secret::Jwt;

/// What a token claims. Nothing of it is verified; escape it before it is shown.
#[derive(Debug)]
pub struct TokenReport<'s> {
    /// `alg`.
    pub algorithm: SignatureAlgorithm,
    /// Whether it names a key.
    pub has_key_id: bool,
    /// `typ`, lower-case.
    pub token_type: Option<String>,
    /// `iss`.
    pub issuer: String,
    /// The configured issuer that it is from.
    pub settings: Option<&'s IssuerSettings>,
    /// The claims, when they can be read.
    pub claims: Map<String, Value>,
    /// Everything that is wrong with it, as far as that can be told without its issuer's keys.
    pub faults: Vec<VerifyError>,
}

/// Takes the token apart. The error is a fault of its shape, behind which nothing can be seen.
pub fn look<'s>(jwt: &Jwt, issuers: &'s [IssuerSettings], now: u64) -> Result<TokenReport<'s>, VerifyError> {
    let token = UnverifiedToken::parse(jwt.expose())?;
    let settings = issuers.iter().find(|settings| settings.accepts(&token.issuer).is_some());
    let mut faults = Vec::new();
    let claims = strict_json::parse_object(&token.payload, MAX_PART_BYTES)
        .map_err(|fault| faults.push(VerifyError::BadPayload(fault)))
        .unwrap_or_default();
    match settings {
        None => faults.push(VerifyError::UnknownIssuer),
        Some(settings) => {
            if !settings.algorithms.contains(&token.algorithm) {
                faults.push(VerifyError::Algorithm(AlgorithmFault::NotListed(token.algorithm)));
            }
            if !token.has_type(&settings.token_types) {
                faults.push(VerifyError::TokenType);
            }
            if faults.is_empty() {
                faults.extend(claims::faults(&claims, settings, now));
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
