//! From a client's token to the decision whom it may log in as: verification, key sets, policy.
//!
//! [`verify::Verifier`] turns a [`Jwt`](crate::secret::Jwt) into [`VerifiedClaims`], and [`policy::AccessPolicy`]
//! turns those into a [`Grant`]. Neither proof can be made anywhere else. Nothing here speaks to a client, to
//! AWS or to a database; the only network traffic is the fetching of key sets, and that never runs on the
//! thread of a login.

pub mod claim_rule;
pub mod claims;
pub mod db_user;
pub mod inspect;
pub mod jwk;
pub mod jwks;
pub mod jwks_fetch;
mod jws;
pub mod key_store;
pub mod policy;
pub mod refetch;
pub mod strict_json;
mod target;
pub mod verify;
pub mod verify_error;

pub use self::db_user::DeriveError;
pub use self::jwks_fetch::{FetcherSetupError, KeyFetcher};
pub use self::key_store::{KeyStatus, KeyStore};
pub use self::verify_error::{AlgorithmFault, VerifyError};
pub use claims::VerifiedClaims;
pub use policy::{AccessPolicy, ConfiguredCluster, Grant, LoginRequest, PolicyError};
pub use verify::Verifier;

/// Claims for tests of other parts: those of a token of issuer `settings` whose signature holds.
#[cfg(test)]
pub(crate) fn verified(
    claims: &serde_json::Value,
    settings: &crate::config::IssuerSettings,
    now: u64,
) -> VerifiedClaims {
    let accepted = settings.accepts(claims["iss"].as_str().unwrap()).unwrap();
    claims::check(claims.as_object().unwrap().clone(), settings, accepted, now).unwrap()
}
