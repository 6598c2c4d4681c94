//! Parses a compact JWS (RFC 7515, section 7.1) and checks its header. Nothing is trusted yet.
//!
//! All of this happens before the signature is checked, so errors carry no bytes of the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::pasted::PastedText;
use super::strict_json;
use super::strict_json::{JsonFault, TextOrList};
use super::verify_error::{AlgorithmFault, HeaderFault, TokenFault};
use crate::config::SignatureAlgorithm;

/// STS accepts a `WebIdentityToken` of 4 to 20,000 characters (API reference, `AssumeRoleWithWebIdentity`).
pub(crate) const MAX_TOKEN_BYTES: usize = 20_000;

/// Longest decoded header or payload: the capacity of [`MAX_TOKEN_BYTES`] of base64url. Header, payload, key
/// id and the number of members have no other limit.
pub(super) const MAX_PART_BYTES: usize = MAX_TOKEN_BYTES / 4 * 3;

/// A well-formed token. `algorithm`, `key_id` and `issuer` are its unverified claims, used to choose the key.
pub(super) struct UnverifiedToken<'a> {
    pub(super) algorithm: SignatureAlgorithm,
    pub(super) key_id: Option<String>,
    pub(super) issuer: String,
    token_type: Option<String>,
    /// Header and payload with the dot between them, unchanged.
    pub(super) signed: &'a [u8],
    /// Zeroized, because header, payload and signature together are the credential.
    pub(super) signature: Zeroizing<Vec<u8>>,
    /// The decoded payload.
    pub(super) payload: Zeroizing<Vec<u8>>,
}

/// The header members that are read. `jku`, `x5u`, `jwk` and `x5c` are ignored: keys come only from the
/// configured issuer.
#[derive(Deserialize)]
struct JwsHeader {
    #[serde(default)]
    alg: TextOrList,
    #[serde(default)]
    kid: TextOrList,
    #[serde(default)]
    typ: TextOrList,
    #[serde(default)]
    crit: TextOrList,
    #[serde(default)]
    b64: TextOrList,
    #[serde(default)]
    zip: TextOrList,
}

/// The only payload member that is read before the signature holds.
#[derive(Deserialize)]
struct ClaimedIssuer {
    #[serde(default)]
    iss: TextOrList,
}

impl<'a> UnverifiedToken<'a> {
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, TokenFault> {
        use TokenFault as F;
        Self::parse_jwt(token).map_err(|fault| match fault {
            F::TooLong { .. } | F::NotAJwt { .. } | F::Encrypted | F::BadEncoding { .. } => {
                PastedText::of(token).map_or(fault, F::Pasted)
            }
            fault => fault,
        })
    }

    fn parse_jwt(token: &'a [u8]) -> Result<Self, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong { bytes: token.len() });
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(match token.split(|byte| *byte == b'.').count() {
                5 => TokenFault::Encrypted,
                parts => TokenFault::NotAJwt { parts },
            });
        };
        let signed = token.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        let header = decode(header, "header")?;
        let payload = decode(payload, "payload")?;
        let signature = decode(signature, "signature")?;

        strict_json::check_object(&header, MAX_PART_BYTES).map_err(HeaderFault::Json)?;
        let header: JwsHeader =
            serde_json::from_slice(&header).map_err(|_| HeaderFault::Json(JsonFault::NotJson))?;
        for (name, member) in [("crit", &header.crit), ("b64", &header.b64), ("zip", &header.zip)] {
            if *member != TextOrList::Absent {
                return Err(TokenFault::CriticalHeader(name));
            }
        }
        Ok(Self {
            algorithm: algorithm(&header.alg)?,
            key_id: key_id(header.kid)?,
            token_type: token_type(&header.typ)?,
            issuer: claimed_issuer(&payload)?,
            signed,
            signature,
            payload,
        })
    }

    /// The header's `typ`, lower-case.
    pub(super) fn token_type(&self) -> Option<&str> {
        self.token_type.as_deref()
    }

    /// True if the header's `typ` is absent or one of `accepted` (lower-case). A media type may omit
    /// `application/` and ignores case (RFC 7515, section 4.1.9).
    pub(super) fn has_type(&self, accepted: &[String]) -> bool {
        self.token_type.as_ref().is_none_or(|own| accepted.contains(own))
    }
}

/// Decodes canonical base64url: no padding, no line breaks, no leftover bits, so that a token has only one
/// spelling.
fn decode(text: &[u8], part: &'static str) -> Result<Zeroizing<Vec<u8>>, TokenFault> {
    URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| TokenFault::BadEncoding { part })
}

fn algorithm(alg: &TextOrList) -> Result<SignatureAlgorithm, TokenFault> {
    let fault = match alg {
        TextOrList::Absent => return Err(HeaderFault::NoAlgorithm.into()),
        TextOrList::Text(text) if let Some(known) = SignatureAlgorithm::named(text) => return Ok(known),
        TextOrList::Text(text) => match text.as_str() {
            "HS256" | "HS384" | "HS512" => AlgorithmFault::Symmetric,
            "PS256" | "PS384" | "PS512" | "ES256K" | "EdDSA" | "Ed25519" | "Ed448" => {
                AlgorithmFault::NotForSts
            }
            other if other.eq_ignore_ascii_case("none") => AlgorithmFault::Unsigned,
            _ => AlgorithmFault::Unknown,
        },
        TextOrList::Other => AlgorithmFault::Unknown,
    };
    Err(TokenFault::Algorithm(fault))
}

fn key_id(kid: TextOrList) -> Result<Option<String>, TokenFault> {
    match kid {
        TextOrList::Absent => Ok(None),
        TextOrList::Text(kid) => Ok(Some(kid).filter(|kid| !kid.is_empty())),
        TextOrList::Other => Err(HeaderFault::KeyId.into()),
    }
}

fn token_type(typ: &TextOrList) -> Result<Option<String>, TokenFault> {
    match typ {
        TextOrList::Absent => Ok(None),
        TextOrList::Text(typ) => {
            let typ = typ.to_ascii_lowercase();
            Ok(Some(typ.strip_prefix("application/").map_or(typ.clone(), str::to_owned)))
        }
        TextOrList::Other => Err(TokenFault::TokenType),
    }
}

/// Reads `iss` and skips everything else without building it. The strict parse of the whole payload waits
/// until the signature holds.
fn claimed_issuer(payload: &[u8]) -> Result<String, TokenFault> {
    if payload.len() > MAX_PART_BYTES {
        return Err(TokenFault::BadPayload(JsonFault::TooLong));
    }
    let claimed: ClaimedIssuer =
        serde_json::from_slice(payload).map_err(|_| TokenFault::BadPayload(JsonFault::NotJson))?;
    match claimed.iss {
        TextOrList::Text(issuer) => Ok(issuer),
        TextOrList::Absent | TextOrList::Other => Err(TokenFault::NoIssuer),
    }
}
