//! Every way in which a token can fail verification, as facts for others to explain.

use super::claim_rule::ClaimDoubt;
use super::jwks::MAX_TRIES;
use super::strict_json::JsonFault;
use crate::config::SignatureAlgorithm;

/// Why a token is not believed: facts for the session to explain. `Display` is for the log; it never holds
/// bytes of a token whose signature did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Longer than any token STS takes.
    #[error("the token has {bytes} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not three parts with dots between them.
    #[error("the token has {parts} parts instead of 3")]
    NotAJwt {
        /// How many it has.
        parts: usize,
    },
    /// Five parts: a JWE, which only its audience can read.
    #[error("the token is encrypted (JWE)")]
    Encrypted,
    /// A part is not canonical base64url without padding.
    #[error("the token's {part} is not canonical base64url")]
    BadEncoding {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// The header is not what RFC 7515 says.
    #[error("the token's header is unusable: {0}")]
    BadHeader(#[from] HeaderFault),
    /// The payload is not one strict JSON object.
    #[error("the token's payload is unusable: {0}")]
    BadPayload(JsonFault),
    /// `alg` is not on the issuer's list.
    #[error("the token's algorithm is {0}")]
    Algorithm(AlgorithmFault),
    /// The header demands an extension (`crit`, `b64` or `zip`).
    #[error("the token's header has {0}")]
    CriticalHeader(&'static str),
    /// `typ` says that the token is for another purpose.
    #[error("the token's typ is not an accepted one")]
    TokenType,
    /// No `iss`, or not a text.
    #[error("the token has no iss that is a text")]
    NoIssuer,
    /// `iss` is none of the configured issuers.
    #[error("the token's issuer is not configured")]
    UnknownIssuer,
    /// The issuer's key set is known and has no such key.
    #[error("issuer {issuer}: no key with the token's kid and algorithm")]
    KeyUnknown {
        /// The operator's name for the issuer.
        issuer: String,
    },
    /// The token's `kid` and `alg` leave more keys than are tried.
    #[error(
        "issuer {issuer}: {candidates} keys go with the token's kid and algorithm, and at most {MAX_TRIES} are tried"
    )]
    TooManyKeys {
        /// The operator's name for the issuer.
        issuer: String,
        /// How many keys it could mean.
        candidates: usize,
    },
    /// The issuer cannot be reached and no key set is fresh enough: not the user's fault.
    #[error("issuer {issuer}: no usable key set")]
    KeysUnavailable {
        /// The operator's name for the issuer.
        issuer: String,
    },
    /// No key made this signature over these bytes.
    #[error("the token's signature does not hold")]
    BadSignature,
    /// A claim that every token must have is absent.
    #[error("the token has no {0} claim")]
    MissingClaim(&'static str),
    /// `tid` is not the tenant in `iss`.
    #[error("the token's tid is not the tenant of its issuer")]
    Tenant,
    /// A claim has the wrong type or an impossible value.
    #[error("the token's {0} claim is malformed")]
    BadClaim(&'static str),
    /// `exp` is over, leeway included.
    #[error("the token expired {seconds_ago} s ago")]
    Expired {
        /// Since `exp`.
        seconds_ago: u64,
    },
    /// `nbf` is ahead, leeway included.
    #[error("the token is valid in {in_seconds} s")]
    NotYetValid {
        /// Until `nbf`.
        in_seconds: u64,
    },
    /// `iat` is ahead, leeway included.
    #[error("the token was issued {in_seconds} s in the future")]
    IssuedInFuture {
        /// Until `iat`.
        in_seconds: u64,
    },
    /// `exp - iat` is more than the configuration accepts.
    #[error("the token lives {seconds} s, accepted are {max_seconds} s")]
    LifetimeTooLong {
        /// `exp - iat`.
        seconds: u64,
        /// `max_token_lifetime`.
        max_seconds: u64,
    },
    /// A claim does not hold what `issuer.require` demands. Both texts are escaped and cut.
    #[error(
        "the token's claim {claim} does not hold what issuer.require demands: {expected}{}",
        doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default()
    )]
    Required {
        /// Its path, dotted.
        claim: String,
        /// What it should hold.
        expected: String,
        /// Why it cannot be read, if so.
        doubt: Option<ClaimDoubt>,
    },
    /// `aud` has no configured value. Both texts are escaped and cut.
    #[error("the token's audience is {got}, expected {expected}")]
    Audience {
        /// The configured ones.
        expected: String,
        /// The token's.
        got: String,
    },
}

impl VerifyError {
    /// Whether the issuer's signature was checked and held before this was found.
    pub fn signature_held(&self) -> bool {
        matches!(
            self,
            Self::MissingClaim(_)
                | Self::BadClaim(_)
                | Self::Expired { .. }
                | Self::NotYetValid { .. }
                | Self::IssuedInFuture { .. }
                | Self::LifetimeTooLong { .. }
                | Self::Audience { .. }
                | Self::Tenant
                | Self::Required { .. }
        )
    }
}

/// What is wrong with the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Not one strict JSON object.
    #[error("{0}")]
    Json(#[from] JsonFault),
    /// No `alg`.
    #[error("no alg")]
    NoAlgorithm,
    /// `kid` is not a text.
    #[error("a kid that is not a text")]
    KeyId,
}

/// What is wrong with `alg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmFault {
    /// `none` in any spelling.
    #[error("none")]
    Unsigned,
    /// `HS256`, `HS384`, `HS512`.
    #[error("symmetric (HS*)")]
    Symmetric,
    /// Asymmetric, and refused by STS: `PS*`, `EdDSA`, `ES256K`.
    #[error("one that STS does not accept")]
    NotForSts,
    /// Any other text, lower-case spellings included.
    #[error("unknown")]
    Unknown,
    /// Known, and not on this issuer's list.
    #[error("{0}, which is not on the issuer's list")]
    NotListed(SignatureAlgorithm),
}
