//! What a certificate says of itself, for people: whom it is for and until when. Nothing is trusted because of it;
//! rustls alone verifies.

use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::tls::{self, TlsSetupError};
use crate::names::printable;

/// Longest name that is shown.
const MAX_SHOWN: usize = 256;

/// Names and times of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The names it is for (`subjectAltName`): DNS names and addresses, escaped.
    pub names: Vec<String>,
    /// Who signed it, escaped.
    pub issuer: String,
    /// Its first moment.
    pub not_before: SystemTime,
    /// Its last moment.
    pub not_after: SystemTime,
}

impl CertificateFacts {
    /// Reads a certificate; `None` when it is none.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = Certificate::from_der(certificate).ok()?.tbs_certificate;
        let names = parsed.get::<SubjectAltName>().ok()?.map(|(_, names)| names.0);
        let name = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(printable(name.as_str(), MAX_SHOWN)),
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|address| address.to_string()),
            _ => None,
        };
        Some(Self {
            names: names.iter().flatten().filter_map(name).collect(),
            issuer: printable(&parsed.issuer.to_string(), MAX_SHOWN),
            not_before: UNIX_EPOCH + parsed.validity.not_before.to_unix_duration(),
            not_after: UNIX_EPOCH + parsed.validity.not_after.to_unix_duration(),
        })
    }

    /// Every certificate of a PEM file, in its order.
    pub fn read_file(path: &Path) -> Result<Vec<Self>, TlsSetupError> {
        let certificates = tls::certificates(path)?;
        Ok(certificates.iter().filter_map(Self::read).collect())
    }

    /// Whole days until it ends; `None` when it has ended.
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

    use super::*;

    #[test]
    fn names_and_times_are_read() {
        let names = ["db.example".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let facts = CertificateFacts::read(cert.der()).unwrap();
        assert_eq!(facts.names, names);
        let end = UNIX_EPOCH + Duration::from_hours(438_288);
        assert_eq!(facts.not_after, end);
        assert_eq!(facts.days_left(end + Duration::from_secs(1)), None);
        assert_eq!(facts.days_left(end - Duration::from_hours(47)), Some(1));
        assert_eq!(CertificateFacts::read(&CertificateDer::from(vec![0x30, 0])), None);
    }
}
