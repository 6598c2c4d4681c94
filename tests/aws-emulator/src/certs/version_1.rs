//! A certificate of X.509 version 1, made of one of version 3: rcgen makes no others.

use rcgen::{CertificateParams, KeyPair, SigningKey};

use super::{ServerCert, named};
use crate::EmulatorError;
use crate::ber::{element, encode};
use crate::encoding::base64;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// The tags of the version's number and of the extensions (RFC 5280, section 4.1).
const NEWER: [u8; 2] = [0xa0, 0xa3];

impl ServerCert {
    /// A certificate of X.509 version 1 that signs itself, as old tools make it: without extensions, and so without names.
    pub fn version_1() -> Result<Self, EmulatorError> {
        let wrap = |source| EmulatorError::Certificate { names: "version 1".to_owned(), source };
        let key = KeyPair::generate().map_err(wrap)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("version 1");
        let modern = params.self_signed(&key).map_err(wrap)?;
        let (_, parts, _) = element(modern.der()).expect("a certificate");
        let (_, mut fields, behind) = element(parts).expect("its signed part");
        let (tag, algorithm, _) = element(behind).expect("its algorithm");
        let mut kept = Vec::new();
        while let Some((tag, content, rest)) = element(fields) {
            if !NEWER.contains(&tag) {
                kept.extend(encode(tag, content));
            }
            fields = rest;
        }
        let signed = encode(SEQUENCE, &kept);
        let signature = key.sign(&signed).map_err(wrap)?;
        let signature = encode(BIT_STRING, &[&[0], &signature[..]].concat());
        let whole = encode(SEQUENCE, &[signed, encode(tag, algorithm), signature].concat());
        let cert_pem =
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(&whole));
        Ok(Self { cert_pem, key_pem: key.serialize_pem() })
    }
}
