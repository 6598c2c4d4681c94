//! Derives the database user from verified claims: claim, expression, lower-casing, denied names.

use crate::auth::verify::VerifiedClaims;
use crate::config::UserSettings;
use crate::names::{DbUser, NameError};

/// Why no database user follows from the claims. Texts are signed by the issuer, escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// The token has no such claim.
    #[error("the token has no {claim} claim")]
    MissingClaim {
        /// Its path, dotted.
        claim: String,
    },
    /// The claim is a number, a list or anything else but a text.
    #[error("the token's {claim} claim is not a text")]
    NotText {
        /// Its path, dotted.
        claim: String,
    },
    /// The expression does not match the whole claim.
    #[error("the token's {claim} claim, \"{value}\", does not match the regex")]
    NoMatch {
        /// Its path, dotted.
        claim: String,
        /// Its value.
        value: String,
    },
    /// The expression matches, and its capture is empty or took no part.
    #[error("the regex captures nothing from the token's {claim} claim, \"{value}\"")]
    EmptyCapture {
        /// Its path, dotted.
        claim: String,
        /// Its value.
        value: String,
    },
    /// Lower-casing is on and the name is not ASCII: Unicode lower-casing makes two people one.
    #[error("\"{name}\" is not ASCII and cannot be lower-cased safely")]
    NotAscii {
        /// The name before lower-casing.
        name: String,
    },
    /// It cannot be a database user.
    #[error("\"{name}\" cannot be a database user: {error}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// Nobody may become this user.
    #[error("\"{name}\" is a denied name")]
    Denied {
        /// The name.
        name: String,
    },
}

/// The database user of these claims.
pub fn derive(claims: &VerifiedClaims, settings: &UserSettings) -> Result<DbUser, DeriveError> {
    let _ = (claims, settings);
    Err(DeriveError::MissingClaim { claim: settings.claim.join(".") })
}
