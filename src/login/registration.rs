//! A client as it is registered at an issuer: the public client of a profile, or the one of the proxy's sign-in page.

use std::path::PathBuf;

use super::tokens::ClientSecret;
use crate::config::client::Profile;

/// A client of one issuer.
#[derive(Debug)]
pub struct ClientRegistration {
    /// Issuer URL, exactly as the issuer writes it in `iss`.
    pub issuer: String,
    /// Client identifier.
    pub client_id: String,
    /// Secret of a confidential client; public clients have none.
    pub secret: Option<ClientSecret>,
    /// Scopes of a request, in their order.
    pub scopes: Vec<String>,
    /// Value of the parameter `audience`, which Auth0 asks for.
    pub audience: Option<String>,
    /// Value of the parameter `prompt` of the page where people sign in.
    pub prompt: Option<String>,
    /// PEM file with the authorities of the issuer's certificate; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// True if the issuer may have a private or loopback address.
    pub private_network: bool,
}

impl From<&Profile> for ClientRegistration {
    fn from(profile: &Profile) -> Self {
        Self {
            issuer: profile.issuer.clone(),
            client_id: profile.client_id.clone(),
            secret: None,
            scopes: profile.scopes.clone(),
            audience: profile.audience.clone(),
            prompt: profile.prompt.clone(),
            ca_file: profile.issuer_ca_file.clone(),
            private_network: profile.private_network,
        }
    }
}

impl ClientRegistration {
    /// True if an answer has to hold an ID token (OpenID Connect Core 1.0, section 3.1.2.1).
    pub fn asks_for_id_token(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "openid")
    }
}
