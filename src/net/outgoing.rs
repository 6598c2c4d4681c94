//! The parts that all HTTPS clients share: the resolver, the egress proxy, the system's certificate authorities.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::connect::{Connector, Dial};
use super::egress::Egress;
use super::https::{HttpsClient, HttpsLimits};
use super::peer_clocks::PeerClocks;
use super::resolver::Resolver;
use crate::clock::Clock;

/// Makes HTTPS clients. Clones share the system's certificate authorities, which are read when they are first needed.
#[derive(Clone, Debug)]
pub struct Outgoing {
    resolver: Resolver,
    egress: Egress,
    system: Arc<OnceLock<Arc<RootCertStore>>>,
    clocks: PeerClocks,
}

/// The authorities of a file cannot be used, or the TLS library refuses the settings.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// The file cannot be read, or holds something else.
    #[error("{}: {problem}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The TLS library's words.
    #[error("TLS: {0}")]
    Tls(String),
}

impl Outgoing {
    /// Names are found by `resolver`, hosts reached by `egress`.
    pub fn new(resolver: Resolver, egress: Egress) -> Self {
        Self { resolver, egress, system: Arc::default(), clocks: PeerClocks::new(Clock::system()) }
    }

    /// Compares the `Date` of every answer in `clocks`.
    #[must_use]
    pub fn with_clocks(self, clocks: PeerClocks) -> Self {
        Self { clocks, ..self }
    }

    /// The times of the peers.
    pub fn clocks(&self) -> &PeerClocks {
        &self.clocks
    }

    /// Directly, with the system's resolver.
    pub fn system() -> Self {
        Self::new(Resolver::system(), Egress::default())
    }

    /// A client that believes the authorities in `ca_file`, or the system's. It asks private and loopback addresses with
    /// `private_network` only.
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

/// A system without any is found out by the first request over https, and plain http needs none.
fn system_authorities() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

fn authorities(path: &Path) -> Result<RootCertStore, OutgoingError> {
    let failed = |problem: String| OutgoingError::Authorities { path: path.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}
