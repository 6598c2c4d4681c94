//! A JSON Web Key (RFC 7517, RFC 7518 section 6): a public key for signatures that STS accepts, or the reason
//! why the key is not used.
//!
//! Parsing is lenient where two readers cannot disagree about the number: `null`, `""` and `[]` count as
//! absent, base64 may have padding or use the standard alphabet, and numbers may have or lack leading zero
//! bytes.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::strict_json::JsonFault;
use crate::config::SignatureAlgorithm;
use crate::names::printable;

/// RSA key sizes that the signature library verifies: `RSA_PKCS1_2048_8192_SHA256` and its siblings
/// (aws-lc-rs, src/signature.rs).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Longest RSA exponent that the signature library accepts (AWS-LC, crypto/fipsmodule/rsa/rsa.c,
/// `is_public_component_of_rsa_key_good`).
const MAX_EXPONENT_BITS: usize = 33;

/// Longest string of a key that a log line or a report repeats.
const MAX_SHOWN: usize = 64;

/// Members that only private keys have (RFC 7518, sections 6.2.2 and 6.3.2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Accepted values of `use`: `sig` (RFC 7517, section 4.2) and `jwt-svid` (SPIFFE Trust Domain and Bundle, section
/// 4.2.2).
const USES: [&str; 2] = ["sig", "jwt-svid"];

/// A public key of an issuer.
pub struct VerificationKey {
    kid: Option<String>,
    kind: KeyKind,
    /// The only algorithm of the key, if the set names one.
    algorithm: Option<SignatureAlgorithm>,
    /// The only issuer whose tokens the key signs, if the set names one (member `issuer` of Entra ID). Empty
    /// if the member is not a string; no issuer is empty.
    issuer: Option<String>,
    /// Modulus and exponent, or the point. Together with `kid` and `algorithm` the identity of the key.
    material: Vec<u8>,
    public: PublicKey,
}

/// Key in the form that its library takes.
enum PublicKey {
    /// For `jsonwebtoken`.
    Decoding(DecodingKey),
    /// For aws-lc-rs directly: `jsonwebtoken` does not support ES512.
    P521(ParsedPublicKey),
}

/// Key type and curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
}

/// Reason why a key of a set is not used. Strings of the issuer are escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not one strict JSON object.
    #[error("it is {0}")]
    Json(JsonFault),
    /// A private key.
    #[error("it is a private key (\"{0}\"), which must not be published: replace it")]
    Private(&'static str),
    /// `use` names another purpose.
    #[error("its use is \"{0}\"")]
    Use(String),
    /// `key_ops` names other purposes.
    #[error("its key_ops have no \"verify\"")]
    Operations,
    /// STS does not accept `alg`.
    #[error("its alg is \"{0}\", which AWS STS does not accept")]
    Algorithm(String),
    /// `alg` does not match the key's type or curve.
    #[error("its alg {0} does not match its type or curve")]
    Mismatch(SignatureAlgorithm),
    /// No `kty`.
    #[error("it has no kty")]
    NoType,
    /// `kty` is neither RSA nor EC.
    #[error("its kty is \"{0}\", not RSA or EC")]
    Type(String),
    /// STS does not accept `crv`.
    #[error("its crv is \"{0}\", not P-256, P-384 or P-521")]
    Curve(String),
    /// A member is not a string.
    #[error("its {0} is not a string")]
    NotText(&'static str),
    /// A number is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// The key consists of a certificate only.
    #[error("it has no {0}; a certificate alone (x5c) is not read")]
    CertificateOnly(&'static str),
    /// A number is not base64.
    #[error("its {0} is not base64url")]
    Encoding(&'static str),
    /// An RSA modulus of an unusable size.
    #[error("its RSA modulus has {0} bits; 2048 to 8192 are supported")]
    RsaBits(usize),
    /// An even RSA modulus.
    #[error("its RSA modulus is even")]
    Modulus,
    /// An unusable RSA exponent.
    #[error("its RSA exponent is even, below 3 or longer than {MAX_EXPONENT_BITS} bits")]
    Exponent,
    /// A coordinate that is too long for the curve.
    #[error("its {0} is longer than the curve's numbers")]
    Coordinate(&'static str),
    /// A point that is not on the curve.
    #[error("its x and y are not a point on the curve")]
    Point,
    /// The set has more keys of this type than STS reads.
    #[error("it is one of more than {0} {1} keys, and AWS STS refuses every token signed with such a key")]
    TooMany(usize, &'static str),
}

impl KeyFault {
    /// True for a well-formed key with another purpose. Every issuer publishes such keys.
    pub fn is_other_purpose(&self) -> bool {
        match self {
            Self::Use(_) | Self::Operations | Self::Algorithm(_) | Self::Type(_) | Self::Curve(_) => true,
            Self::Json(_)
            | Self::Mismatch(_)
            | Self::Private(_)
            | Self::NoType
            | Self::NotText(_)
            | Self::Missing(_)
            | Self::CertificateOnly(_)
            | Self::Encoding(_)
            | Self::RsaBits(_)
            | Self::Modulus
            | Self::Exponent
            | Self::Coordinate(_)
            | Self::Point
            | Self::TooMany(..) => false,
        }
    }
}

impl VerificationKey {
    pub(super) fn parse(jwk: &Map<String, Value>) -> Result<Self, KeyFault> {
        let jwk = KeyMembers(jwk);
        if let Some(name) = PRIVATE.into_iter().find(|name| jwk.get(name).is_some()) {
            return Err(KeyFault::Private(name));
        }
        if let Some(usage) = jwk.text("use")?.filter(|usage| !USES.contains(usage)) {
            return Err(KeyFault::Use(shown(usage)));
        }
        let verifies =
            |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|operation| operation == "verify"));
        if jwk.get("key_ops").is_some_and(|ops| !verifies(ops)) {
            return Err(KeyFault::Operations);
        }
        let algorithm = jwk.text("alg")?;
        let algorithm = algorithm
            .map(|alg| SignatureAlgorithm::named(alg).ok_or_else(|| KeyFault::Algorithm(shown(alg))))
            .transpose()?;
        let (kind, material, public) = match jwk.text("kty")?.ok_or(KeyFault::NoType)? {
            "RSA" => rsa(&jwk)?,
            "EC" => ec(&jwk)?,
            other => return Err(KeyFault::Type(shown(other))),
        };
        match algorithm.filter(|alg| kind != KeyKind::of(*alg)) {
            Some(alg) => Err(KeyFault::Mismatch(alg)),
            None => {
                let kid = jwk.text("kid")?.map(str::to_owned);
                let issuer = jwk.get("issuer").map(|issuer| issuer.as_str().unwrap_or_default().to_owned());
                Ok(Self { kid, kind, algorithm, issuer, material, public })
            }
        }
    }

    /// The key id.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Issuer whose tokens the key signs, if the set names one. A template for all tenants contains
    /// `{tenantid}`.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// True if the key's type, curve and `alg` match `alg`.
    pub(super) fn fits(&self, alg: SignatureAlgorithm) -> bool {
        self.kind == KeyKind::of(alg) && self.algorithm.is_none_or(|only| only == alg)
    }

    /// True if this key made `signature` over `signed` with `alg`.
    pub fn verifies(&self, signed: &[u8], signature: &[u8], alg: SignatureAlgorithm) -> bool {
        let algorithm = match alg {
            SignatureAlgorithm::Rs256 => Algorithm::RS256,
            SignatureAlgorithm::Rs384 => Algorithm::RS384,
            SignatureAlgorithm::Rs512 => Algorithm::RS512,
            SignatureAlgorithm::Es256 => Algorithm::ES256,
            SignatureAlgorithm::Es384 => Algorithm::ES384,
            SignatureAlgorithm::Es512 => {
                return match &self.public {
                    PublicKey::P521(key) => self.fits(alg) && key.verify_sig(signed, signature).is_ok(),
                    PublicKey::Decoding(_) => false,
                };
            }
        };
        let PublicKey::Decoding(key) = &self.public else { return false };
        let signature = URL_SAFE_NO_PAD.encode(signature);
        self.fits(alg) && jsonwebtoken::crypto::verify(&signature, signed, key, algorithm).unwrap_or(false)
    }
}

impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        self.kid == other.kid
            && self.kind == other.kind
            && self.algorithm == other.algorithm
            && self.issuer == other.issuer
            && self.material == other.material
    }
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} key {:?}", self.kind, self.kid)
    }
}

impl KeyKind {
    fn of(alg: SignatureAlgorithm) -> Self {
        use SignatureAlgorithm::{Es256, Es384, Es512, Rs256, Rs384, Rs512};
        match alg {
            Rs256 | Rs384 | Rs512 => Self::Rsa,
            Es256 => Self::P256,
            Es384 => Self::P384,
            Es512 => Self::P521,
        }
    }
}

/// The members of a key. `null`, an empty text and an empty list count as absent.
struct KeyMembers<'k>(&'k Map<String, Value>);

impl<'k> KeyMembers<'k> {
    fn get(&self, name: &str) -> Option<&'k Value> {
        self.0.get(name).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
        })
    }

    fn text(&self, name: &'static str) -> Result<Option<&'k str>, KeyFault> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(KeyFault::NotText(name)),
        }
    }

    /// An unsigned number in big-endian bytes (RFC 7518, section 2), without leading zero bytes.
    fn number(&self, name: &'static str) -> Result<Vec<u8>, KeyFault> {
        let missing = || match self.get("x5c") {
            Some(_) => KeyFault::CertificateOnly(name),
            None => KeyFault::Missing(name),
        };
        let text = self.text(name)?.ok_or_else(missing)?;
        let text = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Encoding(name))?;
        Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
    }
}

fn rsa(jwk: &KeyMembers<'_>) -> Result<(KeyKind, Vec<u8>, PublicKey), KeyFault> {
    let (n, e) = (jwk.number("n")?, jwk.number("e")?);
    let bits = bits(&n);
    if !RSA_BITS.contains(&bits) {
        return Err(KeyFault::RsaBits(bits));
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !is_odd(&n) {
        return Err(KeyFault::Modulus);
    }
    if !is_odd(&e) || e == [1] || self::bits(&e) > MAX_EXPONENT_BITS {
        return Err(KeyFault::Exponent);
    }
    let public = DecodingKey::from_rsa_raw_components(&n, &e);
    let material = [n, vec![0], e].concat();
    Ok((KeyKind::Rsa, material, PublicKey::Decoding(public)))
}

fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |first| first.leading_zeros());
    (number.len() * 8).saturating_sub(usize::try_from(zeros).unwrap_or_default())
}

fn ec(jwk: &KeyMembers<'_>) -> Result<(KeyKind, Vec<u8>, PublicKey), KeyFault> {
    let (kind, length, curve): (_, usize, &'static EcdsaVerificationAlgorithm) =
        match jwk.text("crv")?.ok_or(KeyFault::Missing("crv"))? {
            "P-256" => (KeyKind::P256, 32, &ECDSA_P256_SHA256_FIXED),
            "P-384" => (KeyKind::P384, 48, &ECDSA_P384_SHA384_FIXED),
            "P-521" => (KeyKind::P521, 66, &ECDSA_P521_SHA512_FIXED),
            other => return Err(KeyFault::Curve(shown(other))),
        };
    let coordinate = |name| {
        let number = jwk.number(name)?;
        let zeros = length.checked_sub(number.len()).ok_or(KeyFault::Coordinate(name))?;
        Ok([vec![0; zeros], number].concat())
    };
    let (x, y) = (coordinate("x")?, coordinate("y")?);
    // An uncompressed point (SEC 1, section 2.3.3).
    let point = [&[4], x.as_slice(), &y].concat();
    let parsed = ParsedPublicKey::new(curve, &point).map_err(|_| KeyFault::Point)?;
    let public = if kind == KeyKind::P521 {
        PublicKey::P521(parsed)
    } else {
        let (x, y) = (URL_SAFE_NO_PAD.encode(&x), URL_SAFE_NO_PAD.encode(&y));
        PublicKey::Decoding(DecodingKey::from_ec_components(&x, &y).map_err(|_| KeyFault::Point)?)
    };
    Ok((kind, point, public))
}

/// An issuer's string, escaped and cut for a log line or a report.
pub(super) fn shown(text: &str) -> String {
    printable(text, MAX_SHOWN)
}
