//! The two TLS configurations: what we show clients, and how we verify the upstream. One crypto provider,
//! named explicitly, because a library could install another one for the whole process first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::names::visible;

/// The protocol name of direct TLS (PostgreSQL 17, `PG_ALPN_PROTOCOL`).
pub const ALPN: &[u8] = b"postgresql";

/// Why a TLS configuration could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A PEM file cannot be read or holds nothing of use.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// rustls refuses the pieces, for example because key and certificate do not match.
    #[error("{}: {source}", path.display())]
    Rustls {
        /// The file most likely at fault.
        path: PathBuf,
        /// rustls's reason.
        source: rustls::Error,
    },
}

impl TlsSetupError {
    /// The file, most likely at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::Pem { path, .. } | Self::Rustls { path, .. } => path,
        }
    }
}

fn pem_error(path: &Path, problem: &impl ToString) -> TlsSetupError {
    TlsSetupError::Pem { path: path.to_owned(), problem: problem.to_string() }
}

/// The files of a listener. Read again, they make another configuration for new connections.
#[derive(Clone, Copy, Debug)]
pub struct ListenerFiles<'a> {
    /// PEM, the listener's certificate chain.
    pub cert_file: &'a Path,
    /// PEM, its private key.
    pub key_file: &'a Path,
    /// Which certificates clients have to show.
    pub client: Option<ClientAuthority<'a>>,
}

/// Who signs the certificates of clients.
#[derive(Clone, Copy, Debug)]
pub struct ClientAuthority<'a> {
    /// PEM, certificate authorities.
    pub ca_file: &'a Path,
    /// Whether a client without a certificate is turned away; one with a wrong certificate always is.
    pub required: bool,
}

/// The listener's configuration: TLS 1.2 and 1.3, no session tickets (a resuming client would go on seeing a
/// certificate that has been replaced), no early data.
pub fn server_config(files: ListenerFiles<'_>) -> Result<ServerConfig, TlsSetupError> {
    let chain = certificates(files.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(files.key_file)
        .map_err(|error| pem_error(files.key_file, &format!("no private key: {error}")))?;
    let refused = |source| TlsSetupError::Rustls { path: files.cert_file.to_owned(), source };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match files.client {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(authority) => client_verifier(authority, Arc::clone(&provider))?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The upstream's configuration: certificate and name are verified against `ca_file` or the system's authorities,
/// always; `direct` is for TLS without an SSLRequest. Build it once:
/// it remembers which key exchange the server took, which saves a round trip.
pub fn upstream_config(ca_file: Option<&Path>, direct: bool) -> Result<ClientConfig, TlsSetupError> {
    let path = ca_file.unwrap_or(Path::new("system"));
    let roots = match ca_file {
        Some(path) => roots(path)?,
        None => system_roots()?,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(upstream_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|source| TlsSetupError::Rustls { path: path.to_owned(), source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

/// The public authorities that this machine trusts.
fn system_roots() -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(pem_error(Path::new("system"), &"this machine has no certificate authorities"));
    }
    Ok(roots)
}

fn client_verifier(
    authority: ClientAuthority<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsSetupError> {
    let roots = Arc::new(roots(authority.ca_file)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = if authority.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| pem_error(authority.ca_file, &error))
}

fn roots(ca_file: &Path) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots
            .add(certificate)
            .map_err(|source| TlsSetupError::Rustls { path: ca_file.to_owned(), source })?;
    }
    Ok(roots)
}

/// P-256 first: PostgreSQL before 18 takes no other curve by default (`ssl_ecdh_curve`), and a wrong first
/// guess costs every login a `HelloRetryRequest`.
fn upstream_provider() -> CryptoProvider {
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    CryptoProvider { kx_groups: vec![SECP256R1, X25519, SECP384R1], ..aws_lc_rs::default_provider() }
}

/// Every certificate of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(certificates) if certificates.is_empty() => Err(pem_error(path, &"no certificate in the file")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem_error(path, &error)),
    }
}

/// Longest description of a failed handshake, in bytes. It can hold names of the peer's certificate.
const MAX_PROBLEM: usize = 512;

/// What a failed handshake was about, for the log. rustls hides its own error inside an `io::Error`.
pub fn describe(error: &io::Error) -> String {
    let problem = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => tls.to_string(),
        None => error.to_string(),
    };
    visible(&problem, MAX_PROBLEM)
}

/// Whether a TLS connection failed by what the peer showed: its certificate, or messages that are not TLS. A connection
/// that ended, and an alert, say nothing of whose it was.
pub fn is_distrust(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.is_some_and(|tls| !matches!(tls, rustls::Error::AlertReceived(_)))
}
