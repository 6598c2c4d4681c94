//! TLS configurations of listeners and of upstream connections. Both name the crypto provider explicitly,
//! because a library could install another one for the process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{file_content, tls_error};
use crate::config::TrustAnchors;
use crate::names::visible;
use crate::rds_roots;

/// Longest label of a PEM item in an error message, in bytes.
const MAX_LABEL: usize = 64;

/// Reason why a TLS configuration could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A PEM file cannot be read or contains nothing usable.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Description of the fault.
        problem: String,
    },
    /// rustls rejects the combination, for example because key and certificate do not match.
    #[error("{}: {}", path.display(), tls_error::own(error))]
    Rustls {
        /// The file most likely at fault.
        path: PathBuf,
        /// rustls's reason.
        error: rustls::Error,
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

/// TLS files of a listener. Rereading them gives a new configuration for new connections.
#[derive(Clone, Copy, Debug)]
pub struct ListenerFiles<'a> {
    /// Certificate chain of the listener, PEM.
    pub cert_file: &'a Path,
    /// Private key, PEM.
    pub key_file: &'a Path,
    /// Requirements for client certificates.
    pub client: Option<ClientAuthority<'a>>,
}

/// Authority for client certificates.
#[derive(Clone, Copy, Debug)]
pub struct ClientAuthority<'a> {
    /// Certificate authorities, PEM.
    pub ca_file: &'a Path,
    /// True if a client without a certificate is rejected. A client with an invalid certificate always is.
    pub required: bool,
}

/// TLS configuration of a listener: TLS 1.2 and 1.3, no session tickets (a resuming client would not see a
/// replaced certificate), no early data. The listener chooses the cipher suite.
pub fn server_config(files: ListenerFiles<'_>, alpn: Option<&[u8]>) -> Result<ServerConfig, TlsSetupError> {
    let chain = certificates(files.cert_file)?;
    let key = private_key(files.key_file)?;
    let refused = |error| {
        let about_key = matches!(error, rustls::Error::General(_));
        let path = if about_key { files.key_file } else { files.cert_file };
        TlsSetupError::Rustls { path: path.to_owned(), error }
    };
    let provider = Arc::new(listener_provider());
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
    config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// TLS configuration of upstream connections. Certificate and name are always verified, against `ca_file` or
/// the system's authorities. `alpn` is the name of the protocol that begins with TLS. Build it once: it remembers the
/// server's key exchange group, which saves a round trip.
pub fn upstream_config(ca_file: Option<&Path>, alpn: Option<&[u8]>) -> Result<ClientConfig, TlsSetupError> {
    let anchors = ca_file.map_or(TrustAnchors::System, |path| TrustAnchors::File(path.to_owned()));
    cluster_config(&anchors, alpn)
}

/// As [`upstream_config`], for the authorities of a cluster.
pub fn cluster_config(anchors: &TrustAnchors, alpn: Option<&[u8]>) -> Result<ClientConfig, TlsSetupError> {
    let (path, roots) = match anchors {
        TrustAnchors::File(path) => (path.as_path(), roots(path)?),
        TrustAnchors::System => (Path::new("system"), system_roots()?),
        TrustAnchors::Rds => (Path::new("rds"), rds_roots()?),
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(upstream_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsSetupError::Rustls { path: path.to_owned(), error })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
    Ok(config)
}

/// The certificate authorities of RDS that ship with the program.
fn rds_roots() -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(rds_roots::PEM.as_bytes()) {
        let certificate = certificate.map_err(|error| pem_error(Path::new("rds"), &error))?;
        roots.add(certificate).map_err(|error| TlsSetupError::Rustls { path: "rds".into(), error })?;
    }
    Ok(roots)
}

/// The certificate authorities that this machine trusts.
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
        roots.add(certificate).map_err(|error| TlsSetupError::Rustls { path: ca_file.to_owned(), error })?;
    }
    Ok(roots)
}

/// The first private key of a PEM file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let content = file_content::read(path).map_err(|error| pem_error(path, &error))?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            pem_error(path, &format!("no private key in the file{}", found_instead(path)))
        }
        other => pem_error(path, &format!("no private key: {other}")),
    })
}

/// Description of the content of a file without an item of the wanted kind, for the end of an error message.
fn found_instead(path: &Path) -> String {
    let bytes = file_content::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
    match label.map(|(label, _)| label) {
        Some(label) if label.contains("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED") => {
            "; it is encrypted, and the service has no password for it (openssl pkey decrypts it)".to_owned()
        }
        Some(label) => format!("; it holds a {}", visible(label, MAX_LABEL)),
        // The first byte of a SEQUENCE (X.690, section 8.9), with a length of two bytes (section 8.1.3.5).
        None if bytes.starts_with(&[0x30, 0x82]) => {
            "; it is DER, and has to be PEM (openssl converts it)".to_owned()
        }
        None => String::new(),
    }
}

/// Crypto provider with AES-128-GCM first, the suite that every implementation of TLS 1.3 has (RFC 8446, section 9.1). Clients
/// with OpenSSL ask for AES-256 first, whose SHA-384 is a fifth of the instructions of a login.
fn listener_provider() -> CryptoProvider {
    let provider = aws_lc_rs::default_provider();
    let (mut cipher_suites, others): (Vec<_>, Vec<_>) =
        provider.cipher_suites.into_iter().partition(|suite| {
            matches!(
                suite.suite(),
                CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            )
        });
    cipher_suites.extend(others);
    CryptoProvider { cipher_suites, ..provider }
}

/// Crypto provider with P-256 first: PostgreSQL before 18 accepts no other curve by default
/// (`ssl_ecdh_curve`), and a wrong first key share costs every login a `HelloRetryRequest`.
fn upstream_provider() -> CryptoProvider {
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    CryptoProvider { kx_groups: vec![SECP256R1, X25519, SECP384R1], ..aws_lc_rs::default_provider() }
}

/// All certificates of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let content = file_content::read(path).map_err(|error| pem_error(path, &error))?;
    match CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => {
            Err(pem_error(path, &format!("no certificate in the file{}", found_instead(path))))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem_error(path, &error)),
    }
}

/// Name of a TLS version, as PostgreSQL writes it (`pg_stat_ssl.version`).
pub fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    }
}

/// True if a TLS connection failed because of the peer's certificate or of messages that are not TLS. A
/// closed connection or an alert says nothing about the peer's identity.
pub fn is_distrust(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.is_some_and(|tls| !matches!(tls, rustls::Error::AlertReceived(_)))
}
