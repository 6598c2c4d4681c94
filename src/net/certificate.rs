//! Facts of a certificate for display: subject, names, issuer, validity. They decide nothing; only rustls
//! verifies.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::tls::{self, TlsSetupError};
use crate::names::printable;

/// Longest name that is shown.
const MAX_SHOWN: usize = 256;

/// The subject as in RFC 4514, most specific part first. A certificate without a readable subject is named by
/// its SHA-256 fingerprint. The string is not escaped, and its length is limited only by the 64 KiB that
/// rustls accepts for a certificate message.
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

/// Names and validity of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Subject, escaped.
    pub subject: String,
    /// Subject alternative names (`subjectAltName`): DNS names and addresses, escaped.
    pub names: Vec<String>,
    /// Issuer, escaped.
    pub issuer: String,
    /// Begin of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

impl CertificateFacts {
    /// Parses a certificate; `None` if it cannot be parsed.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = Certificate::from_der(certificate).ok()?.tbs_certificate;
        let names = parsed.get::<SubjectAltName>().ok()?.map(|(_, names)| names.0);
        let name = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(printable(name.as_str(), MAX_SHOWN)),
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|address| address.to_string()),
            _ => None,
        };
        Some(Self {
            subject: printable(&subject(certificate), MAX_SHOWN),
            names: names.iter().flatten().filter_map(name).collect(),
            issuer: printable(&parsed.issuer.to_string(), MAX_SHOWN),
            not_before: UNIX_EPOCH + parsed.validity.not_before.to_unix_duration(),
            not_after: UNIX_EPOCH + parsed.validity.not_after.to_unix_duration(),
        })
    }

    /// All certificates of a PEM file, in order; at least one.
    pub fn read_file(path: &Path) -> Result<Vec<Self>, TlsSetupError> {
        let unreadable = || TlsSetupError::Pem {
            path: path.to_owned(),
            problem: "a certificate in the file cannot be read".to_owned(),
        };
        let certificates = tls::certificates(path)?;
        certificates.iter().map(|one| Self::read(one).ok_or_else(unreadable)).collect()
    }

    /// End of validity in seconds since 1970, for metrics.
    pub fn expires_at(&self) -> i64 {
        let since = self.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// Whole days until the end of validity; `None` if it has passed.
    pub fn days_left(&self, now: SystemTime) -> Option<u64> {
        self.not_after.duration_since(now).ok().map(|left| left.as_secs() / 86_400)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn names_and_times_are_read() {
        let names = ["db.example".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let cert = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let facts = CertificateFacts::read(cert.der()).unwrap();
        assert_eq!(facts.names, names);
        assert_eq!(
            (&*facts.subject, &*facts.issuer),
            ("CN=rcgen self signed cert", "CN=rcgen self signed cert")
        );
        let end = UNIX_EPOCH + Duration::from_hours(438_288);
        assert_eq!((facts.not_after, facts.expires_at()), (end, 1_577_836_800));
        assert_eq!(facts.days_left(end + Duration::from_secs(1)), None);
        assert_eq!(facts.days_left(end - Duration::from_hours(47)), Some(1));
        assert_eq!(CertificateFacts::read(&CertificateDer::from(vec![0x30, 0])), None);
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
