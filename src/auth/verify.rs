//! Decides whether a token is genuine: the order of the checks.

use std::sync::Arc;

use crate::auth::claims::{self, VerifiedClaims};
use crate::auth::fault::{AlgorithmFault, VerifyError};
use crate::auth::json;
use crate::auth::jwks::KeySet;
use crate::auth::keys::KeyStore;
use crate::auth::token::{MAX_PAYLOAD_BYTES, UnverifiedToken};
use crate::clock::Clock;
use crate::config::IssuerSettings;
use crate::secret::Jwt;

/// Checks tokens of the configured issuers. One for the process, shared by every core.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<(IssuerSettings, Arc<KeyStore>)>,
    clock: Clock,
}

impl Verifier {
    /// `issuers` pairs each `[[issuer]]` with its running key store; no two have the same `url`.
    pub fn new(issuers: Vec<(IssuerSettings, Arc<KeyStore>)>, clock: Clock) -> Self {
        Self { issuers, clock }
    }

    /// The issuers and their key stores, for health and metrics.
    pub fn issuers(&self) -> impl Iterator<Item = (&IssuerSettings, &Arc<KeyStore>)> {
        self.issuers.iter().map(|(settings, keys)| (settings, keys))
    }

    /// Verifies one token. Waits for the issuer only when its key is not known yet, and never longer than one
    /// fetch takes. Dropping the future leaves nothing behind.
    pub async fn verify(&self, jwt: &Jwt) -> Result<VerifiedClaims, VerifyError> {
        let token = UnverifiedToken::parse(jwt.expose())?;
        let (settings, keys) = self
            .issuers
            .iter()
            .find(|(settings, _)| settings.issuer.as_str() == token.issuer)
            .ok_or(VerifyError::UnknownIssuer)?;
        if !settings.algorithms.contains(&token.algorithm) {
            return Err(VerifyError::Algorithm(AlgorithmFault::NotListed(token.algorithm)));
        }
        if !token.has_type(&settings.token_types) {
            return Err(VerifyError::TokenType);
        }
        check_signature(&token, settings, keys).await?;
        let claims =
            json::parse_object(&token.payload, MAX_PAYLOAD_BYTES).map_err(VerifyError::BadPayload)?;
        claims::check(claims, settings, self.clock.unix_seconds())
    }
}

/// One of the issuer's keys made the signature. An unknown key may be a new one: that is worth one fetch.
async fn check_signature(
    token: &UnverifiedToken<'_>,
    settings: &IssuerSettings,
    store: &KeyStore,
) -> Result<(), VerifyError> {
    let name = || settings.name.clone();
    let unavailable = || VerifyError::KeysUnavailable { issuer: name() };
    let mut keys = store.usable().await.ok_or_else(unavailable)?;
    let candidates = |keys: &KeySet| match keys.candidates(token.key_id.as_deref(), token.algorithm) {
        Ok(candidates) => Ok(candidates.len()),
        Err(candidates) => Err(VerifyError::NoKeyId { issuer: name(), candidates }),
    };
    if candidates(&keys)? == 0 {
        keys = store.refetched().await.ok_or_else(unavailable)?;
        if candidates(&keys)? == 0 {
            return Err(VerifyError::KeyUnknown { issuer: name() });
        }
    }
    let candidates = keys.candidates(token.key_id.as_deref(), token.algorithm).unwrap_or_default();
    let holds = candidates.iter().any(|key| key.verifies(token.signed, &token.signature, token.algorithm));
    if holds { Ok(()) } else { Err(VerifyError::BadSignature) }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
pub(crate) mod tests;
