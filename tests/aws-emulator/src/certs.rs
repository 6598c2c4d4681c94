//! Certificates for tests: good ones and each kind of bad one a client must refuse.

mod version_1;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::EmulatorError;
use crate::files::{write_private, write_public};

/// A certificate authority made for one run.
#[derive(Clone)]
pub struct Ca {
    pem: Arc<str>,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

/// A server's certificate and key.
#[derive(Clone)]
pub struct ServerCert {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
}

/// Paths of the two files of [`ServerCert::write`].
#[derive(Clone, Debug)]
pub struct CertFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key, mode 0600.
    pub key: PathBuf,
}

impl Ca {
    /// A fresh authority with a fresh key.
    pub fn new() -> Result<Self, EmulatorError> {
        let wrap = |source| EmulatorError::Certificate { names: "the authority".to_owned(), source };
        let key = KeyPair::generate().map_err(wrap)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("pgpassport test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(wrap)?.pem();
        Ok(Self { pem: pem.into(), issuer: Arc::new(Issuer::new(params, key)) })
    }

    /// The authority's certificate: what a client's `sslrootcert` or the proxy's `ca_file` holds.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// This authority, whose file also holds the certificate of `other`: a bundle, as during a rotation.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Self {
        Self { pem: format!("{}{}", self.pem, other.pem).into(), issuer: Arc::clone(&self.issuer) }
    }

    /// A good certificate for these DNS names and IP addresses. For one with the wrong name, ask for another name.
    pub fn server(&self, names: &[&str]) -> Result<ServerCert, EmulatorError> {
        self.issue(names, |_| {})
    }

    /// A good certificate for a client of this name.
    pub fn client(&self, name: &str) -> Result<ServerCert, EmulatorError> {
        self.issue(&[], |params| {
            params.distinguished_name = named(name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A certificate that ran out years ago.
    pub fn expired(&self, names: &[&str]) -> Result<ServerCert, EmulatorError> {
        self.issue(names, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// A certificate for these names that says of itself that it is an authority's.
    pub fn authority(&self, names: &[&str]) -> Result<ServerCert, EmulatorError> {
        self.issue(names, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    /// A certificate that looks right in everything but that another authority of the same name signed.
    pub fn untrusted(names: &[&str]) -> Result<ServerCert, EmulatorError> {
        Self::new()?.server(names)
    }

    /// Writes `ca.pem` into `dir` and says where it is.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, EmulatorError> {
        let path = dir.join("ca.pem");
        write_public(&path, self.pem())?;
        Ok(path)
    }

    fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<ServerCert, EmulatorError> {
        let wrap = |source| EmulatorError::Certificate { names: names.join(", "), source };
        let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(owned).map_err(wrap)?;
        // The common name is none of the names: only the alternative names may count (RFC 9525, section 2).
        params.distinguished_name = named("pgpassport test server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().map_err(wrap)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(wrap)?;
        Ok(ServerCert { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

impl ServerCert {
    /// Writes `<stem>.crt` and `<stem>.key` (mode 0600) into `dir`.
    pub fn write(&self, dir: &Path, stem: &str) -> Result<CertFiles, EmulatorError> {
        let files = CertFiles { cert: dir.join(format!("{stem}.crt")), key: dir.join(format!("{stem}.key")) };
        write_public(&files.cert, &self.cert_pem)?;
        write_private(&files.key, &self.key_pem)?;
        Ok(files)
    }
}
