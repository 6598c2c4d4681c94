//! Verification of a token, in the order of the checks.

use std::sync::Arc;

use super::claims::VerifiedClaims;
use super::jwk::VerificationKey;
use super::jwks::KeySet;
use super::jws::{MAX_PART_BYTES, UnverifiedToken};
use super::key_store::{KeyStore, RefetchAnswer};
use super::refetch::RefetchCause;
use super::verify_error::{AlgorithmFault, TokenFault, VerifyError};
use super::{claims, strict_json};
use crate::clock::Clock;
use crate::config::{AcceptedIssuer, IssuerSettings};
use crate::secret::Jwt;

/// Verifies tokens of the configured issuers. One instance per configuration, shared by all workers.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<(IssuerSettings, Arc<KeyStore>)>,
    clock: Clock,
}

impl Verifier {
    /// `issuers` pairs each `[[issuer]]` with its running key store. No two have the same `url`.
    pub fn new(issuers: Vec<(IssuerSettings, Arc<KeyStore>)>, clock: Clock) -> Self {
        Self { issuers, clock }
    }

    /// The issuers and their key stores, for health and metrics.
    pub fn issuers(&self) -> impl Iterator<Item = (&IssuerSettings, &Arc<KeyStore>)> {
        self.issuers.iter().map(|(settings, keys)| (settings, keys))
    }

    /// Verifies one token. Waits for the issuer only if no known key made the signature: for its turn among
    /// such tokens and for the fetch. The future may be dropped at any time.
    pub async fn verify(&self, jwt: &Jwt) -> Result<VerifiedClaims, VerifyError> {
        let token = UnverifiedToken::parse(jwt.expose())?;
        let (settings, keys, accepted) = self
            .issuers
            .iter()
            .find_map(|(settings, keys)| Some((settings, keys, settings.accepts(&token.issuer)?)))
            .ok_or(TokenFault::UnknownIssuer)?;
        if !settings.algorithms.contains(&token.algorithm) {
            return Err(TokenFault::Algorithm(AlgorithmFault::NotListed(token.algorithm)).into());
        }
        if !token.has_type(&settings.token_types) {
            return Err(TokenFault::TokenType.into());
        }
        check_signature(jwt, &token, (settings, &accepted), keys).await?;
        let claims =
            strict_json::parse_object(&token.payload, MAX_PART_BYTES).map_err(TokenFault::BadPayload)?;
        Ok(claims::check(claims, settings, accepted, self.clock.unix_seconds())?)
    }
}

/// Checks that one of the issuer's keys made the signature. An unknown key or a signature that does not hold
/// causes one fetch, because the issuer may have a new key, even under an old `kid`.
async fn check_signature(
    jwt: &Jwt,
    token: &UnverifiedToken<'_>,
    issuer: (&IssuerSettings, &AcceptedIssuer),
    store: &KeyStore,
) -> Result<(), TokenFault> {
    let (settings, _) = issuer;
    let unavailable = || TokenFault::KeysUnavailable { issuer: settings.name.clone() };
    let keys = store.usable().await.ok_or_else(unavailable)?;
    let Err(mut missed) = signed_by(&keys, token, issuer)? else { return Ok(()) };
    if let Some(keys) = store.after_running().await {
        match signed_by(&keys, token, issuer)? {
            Ok(()) => return Ok(()),
            Err(cause) => missed = cause,
        }
    }
    match store.refetched(jwt.digest(), missed).await {
        RefetchAnswer::Failed => return Err(unavailable()),
        RefetchAnswer::InVain => {}
        RefetchAnswer::Keys(keys) => match signed_by(&keys, token, issuer)? {
            Ok(()) => return Ok(()),
            Err(cause) => missed = cause,
        },
    }
    Err(match missed {
        RefetchCause::UnknownKey => TokenFault::KeyUnknown { issuer: settings.name.clone() },
        RefetchCause::BadSignature => TokenFault::BadSignature,
    })
}

/// Checks the signature with the keys that match the token. The inner error is the reason for a refetch. A
/// key that names the issuer whose tokens it signs is not tried for tokens of another tenant.
fn signed_by(
    keys: &KeySet,
    token: &UnverifiedToken<'_>,
    (settings, accepted): (&IssuerSettings, &AcceptedIssuer),
) -> Result<Result<(), RefetchCause>, TokenFault> {
    let mut candidates = keys
        .candidates(token.key_id.as_deref(), token.algorithm)
        .map_err(|candidates| TokenFault::TooManyKeys { issuer: settings.name.clone(), candidates })?;
    candidates.retain(|key| accepted.trusts_key_of(key.issuer()));
    let verifies = |key: &&VerificationKey| key.verifies(token.signed, &token.signature, token.algorithm);
    Ok(match candidates.iter().any(verifies) {
        true => Ok(()),
        false if candidates.is_empty() => Err(RefetchCause::UnknownKey),
        false => Err(RefetchCause::BadSignature),
    })
}

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
mod rotation_tests;

#[cfg(test)]
mod tenant_tests;
