//! TLS of a server and of a client that trusts it, for unit tests.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A server with a fresh self-signed certificate, and a client that trusts this certificate alone.
pub(crate) struct TestTls {
    pub(crate) server: ServerConfig,
    pub(crate) client: ClientConfig,
    /// The certificate.
    pub(crate) pem: String,
}

impl TestTls {
    /// The certificate is for `name`.
    pub(crate) fn new(name: &str) -> Self {
        let issued = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server, client, pem: issued.cert.pem() }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(self.server.clone()))
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::new(self.client.clone()))
    }
}
