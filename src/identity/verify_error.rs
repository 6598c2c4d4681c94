//! All faults of a token, as facts. `session::explain` words them for clients.

use super::claim_rule::ClaimDoubt;
use super::jwks::MAX_TRIES;
use super::pasted::PastedText;
use super::strict_json::JsonFault;
use crate::config::SignatureAlgorithm;

/// Verdict on a token that is rejected. The signature divides the faults: the text of a claim fault may name the
/// token's content, the text of a token fault never does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature did not hold, or was not checked.
    #[error(transparent)]
    Unverified(#[from] TokenFault),
    /// The signature held, and a claim is rejected.
    #[error(transparent)]
    Claims(#[from] ClaimFault),
}

/// Fault of a token whose signature did not hold, or was not checked. `Display` is for the log and never contains bytes
/// of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The token is longer than STS accepts.
    #[error("the token has {bytes} bytes")]
    TooLong {
        /// Length of the token.
        bytes: usize,
    },
    /// The token does not consist of three parts separated by dots.
    #[error("the token has {parts} parts instead of 3")]
    NotAJwt {
        /// Number of parts.
        parts: usize,
    },
    /// Something else, in a shape that can be recognized.
    #[error("the token {0}")]
    Pasted(PastedText),
    /// Five parts: a JWE, which only its audience can decrypt.
    #[error("the token is encrypted (JWE)")]
    Encrypted,
    /// A part is not canonical base64url without padding.
    #[error("the token's {part} is not canonical base64url")]
    BadEncoding {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// The header violates RFC 7515.
    #[error("the token's header is unusable: {0}")]
    BadHeader(HeaderFault),
    /// The payload is not one strict JSON object.
    #[error("the token's payload is unusable: {0}")]
    BadPayload(JsonFault),
    /// `alg` is not on the issuer's list.
    #[error("the token's algorithm is {0}")]
    Algorithm(AlgorithmFault),
    /// The header demands an extension (`crit`, `b64` or `zip`).
    #[error("the token's header has {0}")]
    CriticalHeader(&'static str),
    /// `typ` names another purpose.
    #[error("the token's typ is not accepted")]
    TokenType,
    /// `iss` is absent or not a string.
    #[error("the token has no iss claim that is a string")]
    NoIssuer,
    /// `iss` is not a configured issuer.
    #[error("the token's issuer is not configured")]
    UnknownIssuer,
    /// The issuer's key set is known and has no such key.
    #[error("issuer {issuer}: no key with the token's kid and algorithm")]
    KeyUnknown {
        /// The operator's name for the issuer.
        issuer: String,
    },
    /// More keys match the token's `kid` and `alg` than are tried.
    #[error(
        "issuer {issuer}: {candidates} keys match the token's kid and algorithm; at most {MAX_TRIES} are tried"
    )]
    TooManyKeys {
        /// The operator's name for the issuer.
        issuer: String,
        /// Number of matching keys.
        candidates: usize,
    },
    /// The issuer cannot be reached and no key set is fresh enough. Not the user's fault.
    #[error("issuer {issuer}: no usable key set")]
    KeysUnavailable {
        /// The operator's name for the issuer.
        issuer: String,
    },
    /// No key of the issuer made this signature.
    #[error("the token's signature does not hold")]
    BadSignature,
}

/// Fault of the claims of a genuine token, found after the signature was verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimFault {
    /// A claim that every token must have is absent.
    #[error("the token has no {0} claim")]
    MissingClaim(&'static str),
    /// `tid` is not the tenant in `iss`.
    #[error("the token's tid is not the tenant of its issuer")]
    Tenant,
    /// A claim has the wrong type or an impossible value.
    #[error("the token's {0} claim is malformed")]
    BadClaim(&'static str),
    /// `exp` plus leeway has passed.
    #[error("the token expired {seconds_ago} s ago")]
    Expired {
        /// Seconds since `exp`.
        seconds_ago: u64,
    },
    /// `nbf` minus leeway is in the future.
    #[error("the token is valid in {in_seconds} s")]
    NotYetValid {
        /// Seconds until `nbf`.
        in_seconds: u64,
    },
    /// `iat` minus leeway is in the future.
    #[error("the token was issued {in_seconds} s in the future")]
    IssuedInFuture {
        /// Seconds until `iat`.
        in_seconds: u64,
    },
    /// `exp - iat` exceeds `max_token_lifetime`.
    #[error("the token's lifetime is {seconds} s; the maximum is {max_seconds} s")]
    LifetimeTooLong {
        /// `exp - iat`.
        seconds: u64,
        /// `max_token_lifetime`.
        max_seconds: u64,
    },
    /// A claim does not satisfy `issuer.require`. Both strings are escaped and cut.
    #[error(
        "the token's claim {claim} does not satisfy issuer.require: expected {expected}{}",
        doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default()
    )]
    Required {
        /// Dotted path of the claim.
        claim: String,
        /// Required values.
        expected: String,
        /// Reason why the claim cannot be read, if so.
        doubt: Option<ClaimDoubt>,
    },
    /// `aud` has no configured value. Both strings are escaped and cut.
    #[error("the token's audience is {got}, expected {expected}")]
    Audience {
        /// Configured audiences.
        expected: String,
        /// The token's audiences.
        got: String,
    },
}

impl From<HeaderFault> for TokenFault {
    fn from(fault: HeaderFault) -> Self {
        Self::BadHeader(fault)
    }
}

/// Fault of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The header is not one strict JSON object.
    #[error(transparent)]
    Json(#[from] JsonFault),
    /// The header has no `alg`.
    #[error("no alg")]
    NoAlgorithm,
    /// `kid` is not a string.
    #[error("a kid that is not a string")]
    KeyId,
}

/// Fault of `alg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmFault {
    /// `none` in any spelling.
    #[error("none")]
    Unsigned,
    /// `HS256`, `HS384`, `HS512`.
    #[error("symmetric (HS*)")]
    Symmetric,
    /// An asymmetric algorithm that STS rejects: `PS*`, `EdDSA`, `ES256K`.
    #[error("one that STS does not accept")]
    NotForSts,
    /// Any other string, including lower-case spellings.
    #[error("unknown")]
    Unknown,
    /// A known algorithm that is not on this issuer's list.
    #[error("{0}, which is not on the issuer's list")]
    NotListed(SignatureAlgorithm),
}

#[cfg(test)]
mod tests {
    use super::*;

    impl PartialEq<TokenFault> for VerifyError {
        fn eq(&self, fault: &TokenFault) -> bool {
            matches!(self, Self::Unverified(found) if found == fault)
        }
    }

    impl PartialEq<ClaimFault> for VerifyError {
        fn eq(&self, fault: &ClaimFault) -> bool {
            matches!(self, Self::Claims(found) if found == fault)
        }
    }
}
