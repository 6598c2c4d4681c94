//! Decides which database user a client's token may log in as: verification, key sets, policy.
//!
//! [`verify::Verifier`] turns a [`Jwt`](crate::secret::Jwt) into [`VerifiedClaims`], and
//! [`policy::AccessPolicy`] turns those into a [`Grant`]. Neither proof can be constructed elsewhere. This
//! module does not talk to clients, AWS or databases. Its only network traffic is fetching key sets, which
//! never runs on a login's thread.

pub mod claim_rule;
pub mod claims;
pub mod console;
pub mod db_user;
pub mod inspect;
pub mod jwk;
pub mod jwks;
pub mod jwks_fetch;
mod jws;
pub mod key_store;
mod login_request;
pub mod pasted;
pub mod policy;
pub mod refetch;
pub mod strict_json;
mod target;
pub mod verify;
pub mod verify_error;

pub use self::db_user::DeriveError;
pub use self::jwks_fetch::{FetcherSetupError, KeyFetcher};
pub(crate) use self::jws::MAX_TOKEN_BYTES;
pub use self::key_store::{KeyStatus, KeyStore};
pub use self::verify_error::{AlgorithmFault, ClaimFault, TokenFault, VerifyError};
pub use claims::VerifiedClaims;
pub use console::{ConsolePolicy, ConsoleRight};
pub use policy::{AccessPolicy, ConfiguredCluster, Grant, LoginRequest, PolicyError};
pub use verify::Verifier;

/// Claims for tests of other modules, as if from a token of `settings` whose signature holds.
#[cfg(test)]
pub(crate) fn verified(
    claims: &serde_json::Value,
    settings: &crate::config::IssuerSettings,
    now: u64,
) -> VerifiedClaims {
    let accepted = settings.accepts(claims["iss"].as_str().unwrap()).unwrap();
    claims::check(claims.as_object().unwrap().clone(), settings, accepted, now).unwrap()
}
