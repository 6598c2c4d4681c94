//! Signing keys of the issuer and the checking of JSON Web Signatures by STS (RFC 7515, 7517, 7518).

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, RsaEncoding, UnparsedPublicKey};
use aws_lc_rs::{encoding::AsDer, hmac};
use serde_json::{Value, json};

use crate::EmulatorError;
use crate::ber;
use crate::encoding::{KEY_ID, base64url, from_base64url, pem, random_text};
use crate::sync::lock;

/// Signature of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The issuer's RSA key, PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// The issuer's RSA key, PKCS #1 v1.5 with SHA-384.
    Rs384,
    /// The issuer's RSA key, PKCS #1 v1.5 with SHA-512.
    Rs512,
    /// The issuer's RSA key, PSS with SHA-256, which STS does not take.
    Ps256,
    /// The issuer's P-256 key.
    Es256,
    /// A message authentication code with this secret, as in the attack that uses a public key as the secret.
    Hs256(Vec<u8>),
    /// No signature: the third part of the token is empty.
    Unsigned,
    /// These bytes in place of a signature.
    Bytes(Vec<u8>),
}

/// An issuer's two keys.
pub(crate) struct SigningKeys {
    rsa: Arc<RsaKeyPair>,
    rsa_kid: String,
    ec: EcdsaKeyPair,
    ec_kid: String,
}

/// RSA keys of issuers that are gone. A new one takes a third of a second in an unoptimised build, which is most of what
/// a test costs; two living issuers never have the same.
static SPARE: Mutex<Vec<Arc<RsaKeyPair>>> = Mutex::new(Vec::new());

impl SigningKeys {
    /// Keys that no living issuer has, under new key ids.
    pub(crate) fn unused() -> Result<Self, EmulatorError> {
        let spare = lock(&SPARE).pop();
        let kid = |kind: &str| format!("{kind}-{}", random_text(KEY_ID, 8).to_lowercase());
        Ok(Self {
            rsa: match spare {
                Some(key) => key,
                None => Arc::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| EmulatorError::Key)?),
            },
            rsa_kid: kid("rsa"),
            ec: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
                .map_err(|_| EmulatorError::Key)?,
            ec_kid: kid("ec"),
        })
    }

    /// Leaves the RSA key to issuers to come. Only for an issuer that ends: one that rotates its keys must not get the
    /// old one back.
    pub(crate) fn leave(&self) {
        lock(&SPARE).push(Arc::clone(&self.rsa));
    }

    /// The key's id; empty for what is no key of the issuer's.
    pub(crate) fn kid(&self, choice: &KeyChoice) -> &str {
        match choice {
            KeyChoice::Rs256 | KeyChoice::Rs384 | KeyChoice::Rs512 | KeyChoice::Ps256 => &self.rsa_kid,
            KeyChoice::Es256 => &self.ec_kid,
            KeyChoice::Hs256(_) | KeyChoice::Unsigned | KeyChoice::Bytes(_) => "",
        }
    }

    pub(crate) fn sign(&self, choice: &KeyChoice, message: &[u8]) -> Vec<u8> {
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut out = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &SystemRandom::new(), message, &mut out).expect("an RSA signature");
            out
        };
        match choice {
            KeyChoice::Rs256 => rsa(&signature::RSA_PKCS1_SHA256),
            KeyChoice::Rs384 => rsa(&signature::RSA_PKCS1_SHA384),
            KeyChoice::Rs512 => rsa(&signature::RSA_PKCS1_SHA512),
            KeyChoice::Ps256 => rsa(&signature::RSA_PSS_SHA256),
            KeyChoice::Es256 => {
                self.ec.sign(&SystemRandom::new(), message).expect("an ECDSA signature").as_ref().to_vec()
            }
            KeyChoice::Hs256(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            KeyChoice::Unsigned => Vec::new(),
            KeyChoice::Bytes(bytes) => bytes.clone(),
        }
    }

    /// The public keys as JSON Web Keys.
    pub(crate) fn jwks(&self) -> Vec<Value> {
        let (n, e) = rsa_numbers(self.rsa.public_key().as_ref()).expect("an RSAPublicKey structure");
        // An uncompressed point (SEC 1, section 2.3.3): 0x04, then x and y of 32 bytes each.
        let point = self.ec.public_key().as_ref();
        let (x, y) = point.get(1..).and_then(|xy| xy.split_at_checked(32)).expect("a P-256 point");
        vec![
            json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.rsa_kid,
                "n": base64url(n), "e": base64url(e) }),
            json!({ "kty": "EC", "use": "sig", "alg": "ES256", "kid": self.ec_kid, "crv": "P-256",
                "x": base64url(x), "y": base64url(y) }),
        ]
    }

    /// The RSA public key as PEM (`SubjectPublicKeyInfo`).
    pub(crate) fn rsa_public_pem(&self) -> String {
        pem("PUBLIC KEY", self.rsa.public_key().as_der().expect("DER of an RSA key").as_ref())
    }

    /// The P-256 public key as PEM (`SubjectPublicKeyInfo`).
    pub(crate) fn ec_public_pem(&self) -> String {
        pem("PUBLIC KEY", self.ec.public_key().as_der().expect("DER of a P-256 key").as_ref())
    }
}

/// Modulus and exponent out of a `RSAPublicKey` structure (RFC 8017, appendix A.1.1), without leading zeros.
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, sequence, _) = ber::element(der)?;
    let (_, n, rest) = ber::element(sequence)?;
    let (_, e, _) = ber::element(rest)?;
    Some((n.strip_prefix(&[0]).unwrap_or(n), e))
}

/// The `kty` of keys for this `alg`, if STS accepts it.
pub(crate) fn key_type(alg: &str) -> Option<&'static str> {
    match alg {
        "RS256" | "RS384" | "RS512" => Some("RSA"),
        "ES256" | "ES384" | "ES512" => Some("EC"),
        _ => None,
    }
}

/// Checks a signature with a JSON Web Key. A key of another type or curve never fits.
pub(crate) fn verify(alg: &str, jwk: &Value, message: &[u8], signature: &[u8]) -> bool {
    if key_type(alg).is_none() || jwk.get("kty").and_then(Value::as_str) != key_type(alg) {
        return false;
    }
    let number = |name: &str| jwk.get(name).and_then(Value::as_str).and_then(from_base64url);
    let rsa = |params| {
        let (Some(n), Some(e)) = (number("n"), number("e")) else { return false };
        PublicKeyComponents { n, e }.verify(params, message, signature).is_ok()
    };
    let ec = |curve: &str, params: &'static signature::EcdsaVerificationAlgorithm| {
        let (Some(x), Some(y)) = (number("x"), number("y")) else { return false };
        let point = [&[4], x.as_slice(), &y].concat();
        jwk.get("crv").and_then(Value::as_str) == Some(curve)
            && UnparsedPublicKey::new(params, point).verify(message, signature).is_ok()
    };
    match alg {
        "RS256" => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        "ES256" => ec("P-256", &signature::ECDSA_P256_SHA256_FIXED),
        "ES384" => ec("P-384", &signature::ECDSA_P384_SHA384_FIXED),
        "ES512" => ec("P-521", &signature::ECDSA_P521_SHA512_FIXED),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(keys: &SigningKeys, kty: &str) -> Value {
        keys.jwks().into_iter().find(|jwk| jwk["kty"] == kty).unwrap()
    }

    #[test]
    fn each_algorithm_verifies_with_its_own_key_and_message_only() {
        let keys = SigningKeys::unused().unwrap();
        let rsa = key(&keys, "RSA");
        let ec = key(&keys, "EC");
        for (alg, choice, good, other) in [
            ("RS256", KeyChoice::Rs256, &rsa, &ec),
            ("RS384", KeyChoice::Rs384, &rsa, &ec),
            ("RS512", KeyChoice::Rs512, &rsa, &ec),
            ("ES256", KeyChoice::Es256, &ec, &rsa),
        ] {
            let signature = keys.sign(&choice, b"message");
            assert!(verify(alg, good, b"message", &signature), "{alg}");
            assert!(!verify(alg, other, b"message", &signature), "{alg}");
            assert!(!verify(alg, good, b"messagf", &signature), "{alg}");
        }
    }

    #[test]
    fn what_sts_does_not_take_never_verifies() {
        let keys = SigningKeys::unused().unwrap();
        let rsa = key(&keys, "RSA");
        assert!(!verify("PS256", &rsa, b"m", &keys.sign(&KeyChoice::Ps256, b"m")));
        let secret = keys.rsa_public_pem().into_bytes();
        assert!(!verify("HS256", &rsa, b"m", &keys.sign(&KeyChoice::Hs256(secret), b"m")));
        assert!(!verify("none", &rsa, b"m", b""));
        assert!(!verify("RS256", &rsa, b"m", b""));
    }

    #[test]
    fn another_issuers_key_does_not_verify() {
        let signature = SigningKeys::unused().unwrap().sign(&KeyChoice::Es256, b"m");
        assert!(!verify("ES256", &key(&SigningKeys::unused().unwrap(), "EC"), b"m", &signature));
    }
}
