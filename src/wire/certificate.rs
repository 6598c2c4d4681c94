//! A client's certificate in words for the record.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The subject as RFC 4514 writes it, most specific part first; a certificate without one, or with one that
/// cannot be read, is named by its SHA-256 fingerprint. Not yet escaped, and as long as its holder likes,
/// within the 64 KiB that rustls takes for a certificate message.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    let readable = Certificate::from_der(certificate)
        .is_ok_and(|certificate| write!(text, "{}", certificate.tbs_certificate.subject).is_ok());
    if readable && !text.is_empty() {
        return text;
    }
    let fingerprint = digest(&SHA256, certificate);
    fingerprint.as_ref().iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(parts: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_subject_is_written_as_in_rfc_4514() {
        let plain = [(DnType::OrganizationName, "Acme, Inc."), (DnType::CommonName, "etl job")];
        assert_eq!(subject(&certificate(&plain)), "CN=etl job,O=Acme\\, Inc.");
        let hostile = [(DnType::CommonName, "x\n\u{202e}\u{1b}[31m,CN=root")];
        assert_eq!(subject(&certificate(&hostile)), "CN=x\\0a\u{202e}\\1b[31m\\,CN=root");
    }

    #[test]
    fn one_without_a_readable_subject_is_named_by_its_fingerprint() {
        let nameless = subject(&certificate(&[]));
        assert!(nameless.starts_with("sha256:") && nameless.len() == 7 + 64, "{nameless}");
        // FIPS 180-2, appendix B.1: SHA-256("abc").
        let shown = subject(&CertificateDer::from(b"abc".to_vec()));
        assert!(shown.starts_with("sha256:ba7816bf"), "{shown}");
    }

    proptest! {
        #[test]
        fn damaged_certificates_are_named_and_never_panic(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
            let mut der = certificate(&[(DnType::CommonName, "x"), (DnType::CountryName, "DE")]).to_vec();
            let at = at % der.len();
            der[at] = byte;
            prop_assert!(!subject(&CertificateDer::from(der.clone())).is_empty());
            der.truncate(cut);
            prop_assert!(!subject(&CertificateDer::from(der)).is_empty());
        }
    }
}
