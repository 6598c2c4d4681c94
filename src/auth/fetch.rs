//! Fetches an issuer's key set over HTTPS: discovery, bounds of the answer, and which addresses may be asked.

use crate::config::IssuerSettings;

/// Fetches the key set of one issuer. Holds the trust anchors; knows nothing of refreshing.
#[derive(Debug)]
pub struct KeyFetcher {
    _private: (),
}

impl KeyFetcher {
    /// Reads `ca_file`, or the system's certificate authorities.
    pub fn new(settings: &IssuerSettings) -> Result<Self, SetupError> {
        if settings.issuer.as_str().is_empty() {
            return Err(SetupError::Url("the issuer is no URL".into()));
        }
        Ok(Self { _private: () })
    }
}

/// Why an issuer can never be asked, found at start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The issuer or `jwks_url` may not be asked.
    #[error("{0}")]
    Url(String),
    /// `ca_file` cannot be read or holds no certificate.
    #[error("certificate authorities: {0}")]
    Authorities(String),
}
