//! A JSON Web Key Set (RFC 7517): each key judged alone, so that one odd key does not spoil the others; only
//! public keys for signatures that STS accepts remain.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::auth::json::{self, JsonFault};
use crate::config::SignatureAlgorithm;

/// Largest key set. STS reads at most 100 RSA and 100 EC keys; with certificate chains they stay below this.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// Most keys in a set (IAM user guide, "OIDC federation": 100 RSA and 100 EC keys).
pub const MAX_KEYS: usize = 200;

/// Most keys tried for one token, where several have its key id.
pub const MAX_TRIES: usize = 4;

/// RSA sizes that are neither broken nor a way to burn processor time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// The usable keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// One public key.
pub struct Key {
    kid: Option<String>,
    kind: Kind,
    /// The only algorithm it is for, where the set says so.
    algorithm: Option<SignatureAlgorithm>,
    public: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

/// Why a set cannot be used as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetFault {
    /// Not strict JSON.
    #[error("the key set is {0}")]
    Json(#[from] JsonFault),
    /// No list of keys.
    #[error("the key set has no list \"keys\"")]
    NoKeys,
    /// More than anyone publishes.
    #[error("the key set has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    /// Nothing that could verify a token.
    #[error("the key set has no usable key")]
    NoneUsable,
}

impl KeySet {
    /// Reads a set and leaves out what cannot be used.
    pub fn parse(body: &[u8]) -> Result<Self, KeySetFault> {
        let set = json::parse_object(body, MAX_BODY_BYTES)?;
        let list = set.get("keys").and_then(Value::as_array).ok_or(KeySetFault::NoKeys)?;
        if list.len() > MAX_KEYS {
            return Err(KeySetFault::TooMany(list.len()));
        }
        if list.iter().any(|key| key.get("d").is_some()) {
            tracing::warn!("a key set publishes a private key; it is not used, and should be replaced");
        }
        let keys: Vec<Key> = list.iter().filter_map(|key| Key::parse(key.as_object()?)).collect();
        if keys.is_empty() { Err(KeySetFault::NoneUsable) } else { Ok(Self { keys }) }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that a token with this `kid` and `alg` may mean, at most [`MAX_TRIES`]. Without a `kid` there
    /// has to be exactly one for the algorithm; otherwise the error says how many there are.
    pub fn candidates(&self, kid: Option<&str>, alg: SignatureAlgorithm) -> Result<Vec<&Key>, usize> {
        let fitting = self.keys.iter().filter(|key| key.fits(alg));
        match kid {
            Some(kid) => Ok(fitting.filter(|key| key.kid.as_deref() == Some(kid)).take(MAX_TRIES).collect()),
            None => {
                let all: Vec<&Key> = fitting.collect();
                if all.len() > 1 { Err(all.len()) } else { Ok(all) }
            }
        }
    }
}

impl Key {
    fn parse(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let usable = jwk.get("use").is_none_or(|usage| usage == "sig")
            && jwk
                .get("key_ops")
                .is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")))
            && !jwk.contains_key("d");
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str()?.to_owned()),
        };
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(alg) => Some(known(alg.as_str()?)?),
        };
        let (kind, public) = match text("kty")? {
            "RSA" => {
                let (n, e) = (text("n")?, text("e")?);
                rsa_is_sound(n, e)?;
                (Kind::Rsa, DecodingKey::from_rsa_components(n, e).ok()?)
            }
            "EC" => {
                let (kind, length) = match text("crv")? {
                    "P-256" => (Kind::P256, 32),
                    "P-384" => (Kind::P384, 48),
                    _ => return None,
                };
                let (x, y) = (text("x")?, text("y")?);
                let whole = |part: &str| URL_SAFE_NO_PAD.decode(part).is_ok_and(|part| part.len() == length);
                (whole(x) && whole(y)).then_some(())?;
                (kind, DecodingKey::from_ec_components(x, y).ok()?)
            }
            _ => return None,
        };
        let key = Self { kid, kind, algorithm, public };
        (usable && algorithm.is_none_or(|alg| key.fits(alg))).then_some(key)
    }

    fn fits(&self, alg: SignatureAlgorithm) -> bool {
        use SignatureAlgorithm::{Es256, Es384, Rs256, Rs384, Rs512};
        let kind = match alg {
            Rs256 | Rs384 | Rs512 => Kind::Rsa,
            Es256 => Kind::P256,
            Es384 => Kind::P384,
        };
        self.kind == kind && self.algorithm.is_none_or(|only| only == alg)
    }

    /// Whether this key made `signature` over `signed` with `alg`.
    pub fn verifies(&self, signed: &[u8], signature: &[u8], alg: SignatureAlgorithm) -> bool {
        let algorithm = match alg {
            SignatureAlgorithm::Rs256 => Algorithm::RS256,
            SignatureAlgorithm::Rs384 => Algorithm::RS384,
            SignatureAlgorithm::Rs512 => Algorithm::RS512,
            SignatureAlgorithm::Es256 => Algorithm::ES256,
            SignatureAlgorithm::Es384 => Algorithm::ES384,
        };
        let signature = URL_SAFE_NO_PAD.encode(signature);
        jsonwebtoken::crypto::verify(&signature, signed, &self.public, algorithm).unwrap_or(false)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} key {:?}", self.kind, self.kid)
    }
}

fn known(alg: &str) -> Option<SignatureAlgorithm> {
    Some(match alg {
        "RS256" => SignatureAlgorithm::Rs256,
        "RS384" => SignatureAlgorithm::Rs384,
        "RS512" => SignatureAlgorithm::Rs512,
        "ES256" => SignatureAlgorithm::Es256,
        "ES384" => SignatureAlgorithm::Es384,
        _ => return None,
    })
}

fn rsa_is_sound(n: &str, e: &str) -> Option<()> {
    let n = URL_SAFE_NO_PAD.decode(n).ok()?;
    let e = URL_SAFE_NO_PAD.decode(e).ok()?;
    let significant = n.iter().skip_while(|byte| **byte == 0).count();
    let first = n.iter().find(|byte| **byte != 0)?;
    let bits = significant * 8 - usize::try_from(first.leading_zeros()).ok()?;
    // Odd, at least 3, and of a size that costs no more than usual (65537 is).
    let exponent =
        (e.len() <= 4).then(|| e.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))?;
    (RSA_BITS.contains(&bits) && exponent >= 3 && exponent % 2 == 1).then_some(())
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
