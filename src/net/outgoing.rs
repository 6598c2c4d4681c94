//! Shared parts of all HTTPS clients: resolver, egress proxy, system certificate authorities, peer clocks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::connect::{Connector, Dial};
use super::egress::Egress;
use super::file_content;
use super::https::{HttpsClient, HttpsLimits};
use super::peer_clocks::PeerClocks;
use super::resolver::Resolver;
use super::tls_error;
use crate::clock::Clock;

/// Factory of HTTPS clients. Clones share the system's certificate authorities, which are read at first use.
#[derive(Clone, Debug)]
pub struct Outgoing {
    resolver: Resolver,
    egress: Egress,
    system: Arc<OnceLock<Arc<RootCertStore>>>,
    clocks: PeerClocks,
}

/// A certificate authority file is unusable, or the TLS library rejects the settings.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// The file cannot be read or contains no certificate.
    #[error("{}: {problem}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The TLS library rejected the settings.
    #[error("TLS: {0}")]
    Tls(String),
}

impl Outgoing {
    /// Resolves names with `resolver` and reaches hosts by `egress`.
    pub fn new(resolver: Resolver, egress: Egress) -> Self {
        Self { resolver, egress, system: Arc::default(), clocks: PeerClocks::new(Clock::system()) }
    }

    /// Records the `Date` of every response in `clocks`.
    #[must_use]
    pub fn with_clocks(self, clocks: PeerClocks) -> Self {
        Self { clocks, ..self }
    }

    /// Clocks of the peers.
    pub fn clocks(&self) -> &PeerClocks {
        &self.clocks
    }

    /// Direct connections with the system's resolver.
    pub fn system() -> Self {
        Self::new(Resolver::system(), Egress::default())
    }

    /// A client that trusts the authorities in `ca_file`, or else the system's. It connects to private and
    /// loopback addresses only with `private_network`.
    pub fn client(
        &self,
        ca_file: Option<&Path>,
        private_network: bool,
        limits: HttpsLimits,
    ) -> Result<HttpsClient, OutgoingError> {
        let roots = match ca_file {
            Some(path) => Arc::new(authorities(path)?),
            None => Arc::clone(self.system.get_or_init(system_authorities)),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| OutgoingError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let dial = Dial::new(&self.resolver, private_network, self.egress.clone(), limits.connect);
        let connector = Connector::new(dial.clone(), tls, limits.connect);
        Ok(HttpsClient::new(dial, connector, self.clocks.clone(), private_network, limits))
    }
}

/// The system's certificate authorities. Their absence is reported by the first HTTPS request, because plain
/// HTTP needs none.
fn system_authorities() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

fn authorities(path: &Path) -> Result<RootCertStore, OutgoingError> {
    let failed = |problem: String| OutgoingError::Authorities { path: path.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    let content = file_content::read(path).map_err(|error| failed(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&content) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(tls_error::own(&error)))?;
    }
    if roots.is_empty() {
        return Err(failed("the file contains no certificate".to_owned()));
    }
    Ok(roots)
}
