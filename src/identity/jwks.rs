//! A JSON Web Key Set (RFC 7517). Each key is parsed on its own, so that one unusable key does not affect the
//! others. Unusable keys are skipped and listed with the reason.

use std::fmt;

use serde_json::{Map, Value};

use super::jwk::{KeyFault, VerificationKey};
use super::strict_json::JsonFault;
use super::{jwk, strict_json};
use crate::config::SignatureAlgorithm;

/// Most keys of one type. STS rejects every token signed with a key of a type that exceeds this number (IAM
/// user guide, "Create an `OpenID` Connect identity provider": 100 RSA keys and 100 EC keys).
pub const MAX_KEYS_OF_A_TYPE: usize = 100;

/// Most keys tried for one token whose `kid` and `alg` match several keys.
pub const MAX_TRIES: usize = 16;

/// Most skipped keys that are kept and listed. More than the number of usable keys that STS reads.
pub const MAX_NAMED: usize = 200;

/// The usable keys of an issuer, and the skipped keys.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    left_out: Vec<LeftOut>,
    unnamed: usize,
}

/// A key that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its `kid`, or its position in the list if it has none. Escaped and cut.
    pub name: String,
    /// The reason.
    pub fault: KeyFault,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.fault)
    }
}

/// Reason why a whole set is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetFault {
    /// The document is not strict JSON.
    #[error("the key set is {0}")]
    Json(JsonFault),
    /// The document has no list of keys.
    #[error("the key set has no list \"keys\"")]
    NoKeys,
    /// No key of the set can verify a token. Holds the first reasons.
    #[error("the key set has no usable key{0}")]
    NoneUsable(String),
}

impl From<JsonFault> for KeySetFault {
    fn from(fault: JsonFault) -> Self {
        Self::Json(fault)
    }
}

impl KeySet {
    /// Parses a set and skips unusable keys. The caller bounds the length of `body`.
    pub fn parse(body: &[u8]) -> Result<Self, KeySetFault> {
        let list = strict_json::raw_list(body, "keys")?.ok_or(KeySetFault::NoKeys)?;
        let list: Vec<_> =
            list.iter().map(|jwk| strict_json::parse_object(jwk.get().as_bytes(), usize::MAX)).collect();
        let mut parsed = Self::default();
        let count_of = |kind: &str| list.iter().flatten().filter(|jwk| is_of(jwk, kind)).count();
        let too_many = ["RSA", "EC"].into_iter().filter(|kind| count_of(kind) > MAX_KEYS_OF_A_TYPE);
        let too_many: Vec<_> = too_many.collect();
        for (place, jwk) in list.iter().enumerate() {
            let key = match jwk {
                Err(fault) => Err(KeyFault::Json(*fault)),
                Ok(jwk) => match too_many.iter().find(|kind| is_of(jwk, kind)) {
                    Some(kind) => Err(KeyFault::TooMany(MAX_KEYS_OF_A_TYPE, kind)),
                    None => VerificationKey::parse(jwk),
                },
            };
            match key {
                // A repeated key counts once.
                Ok(key) if parsed.keys.contains(&key) => {}
                Ok(key) => parsed.keys.push(key),
                Err(fault) => parsed.leave_out(place, jwk.as_ref().ok(), fault),
            }
        }
        if parsed.keys.is_empty() {
            return Err(KeySetFault::NoneUsable(parsed.first_reasons()));
        }
        Ok(parsed)
    }

    fn leave_out(&mut self, place: usize, jwk: Option<&Map<String, Value>>, fault: KeyFault) {
        if self.left_out.len() == MAX_NAMED {
            self.unnamed += 1;
            return;
        }
        let kid = jwk.and_then(|jwk| jwk.get("kid")).and_then(Value::as_str).filter(|kid| !kid.is_empty());
        let name = match kid {
            Some(kid) => format!("key \"{}\"", jwk::shown(kid)),
            None => format!("key number {}", place + 1),
        };
        self.left_out.push(LeftOut { name, fault });
    }

    fn first_reasons(&self) -> String {
        let reasons: Vec<_> = self.left_out.iter().take(3).map(ToString::to_string).collect();
        let more = self.left_out_count().saturating_sub(reasons.len());
        match (reasons.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" ({})", reasons.join("; ")),
            (false, more) => format!(" ({}; and {more} more)", reasons.join("; ")),
        }
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there are no usable keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The skipped keys, at most [`MAX_NAMED`].
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Number of skipped keys.
    pub fn left_out_count(&self) -> usize {
        self.left_out.len() + self.unnamed
    }

    /// True if `other` has the same keys.
    pub fn same_keys(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().all(|key| other.keys.contains(key))
    }

    /// Keys that may have signed a token with this `kid` and `alg`. `kid` is a hint: several keys may share
    /// it, and a key without `kid` matches any token. If there are more than [`MAX_TRIES`], the error is
    /// their number.
    pub fn candidates(
        &self,
        kid: Option<&str>,
        alg: SignatureAlgorithm,
    ) -> Result<Vec<&VerificationKey>, usize> {
        let matches = |key: &&VerificationKey| match (kid, key.kid()) {
            (Some(kid), Some(own)) => own == kid,
            (None, _) | (_, None) => true,
        };
        let found: Vec<&VerificationKey> =
            self.keys.iter().filter(|key| key.fits(alg)).filter(matches).collect();
        if found.len() > MAX_TRIES { Err(found.len()) } else { Ok(found) }
    }
}

fn is_of(jwk: &Map<String, Value>, kind: &str) -> bool {
    jwk.get("kty").and_then(Value::as_str) == Some(kind)
}

#[cfg(test)]
mod tests;
