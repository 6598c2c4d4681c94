//! Requests to one issuer: discovery, and the token, device and revocation endpoints, as a public client.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use url::form_urlencoded::Serializer;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::error::OAuthError;
use super::registration::ClientRegistration;
use super::tokens::{AuthorizationCode, ClientSecret, CodeVerifier, RefreshToken};
use super::{Profile, SignInError};
use crate::names::printable;
use crate::net::https::{Answer, HttpsClient, HttpsLimits};
use crate::net::outgoing::Outgoing;

/// An answer holds at most three tokens of 20,000 bytes.
const LIMITS: HttpsLimits = HttpsLimits {
    body: 256 * 1024,
    connect: Duration::from_secs(10),
    request: Duration::from_secs(20),
    connections: 1,
};

/// Authentication of a confidential client by a header (OpenID Connect Core 1.0, section 9).
const BASIC: &str = "client_secret_basic";

const JSON: &str = "application/json";

/// Grant type of the device flow (RFC 8628, section 3.4).
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// An issuer, as a client sees it.
#[derive(Debug)]
pub struct IssuerClient {
    https: HttpsClient,
    registration: ClientRegistration,
    endpoints: OnceCell<IssuerEndpoints>,
}

/// Endpoints of the discovery document (OpenID Connect Discovery 1.0, section 3; RFC 8414, section 2).
#[derive(Clone, Debug)]
pub struct IssuerEndpoints {
    /// Page where people sign in.
    pub authorization: Option<Url>,
    /// Source of tokens.
    pub token: Url,
    /// Source of device codes (RFC 8628).
    pub device: Option<Url>,
    /// Taker of tokens that end (RFC 7009).
    pub revocation: Option<Url>,
    /// True if redirects carry `iss` (RFC 9207).
    pub redirect_has_iss: bool,
    /// True if a client's secret is a field of the form; else it is a header (RFC 6749, section 2.3.1).
    pub secret_in_form: bool,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// A good answer of the token endpoint (RFC 6749, section 5.1).
#[derive(Deserialize)]
pub struct TokenAnswer {
    /// `access_token`
    pub access_token: Option<String>,
    /// `id_token`
    pub id_token: Option<String>,
    /// `refresh_token`
    pub refresh_token: Option<String>,
    /// Life of the access token in seconds.
    pub expires_in: Option<u64>,
}

/// A device code and what the person has to be told (RFC 8628, section 3.2).
#[derive(Deserialize)]
pub struct DeviceAnswer {
    /// Known to this program and the issuer only.
    pub device_code: String,
    /// Typed by the person.
    pub user_code: String,
    /// Page where it is typed.
    #[serde(alias = "verification_url")]
    pub verification_uri: String,
    /// Life of both codes in seconds.
    pub expires_in: u64,
    /// Seconds between two polls.
    pub interval: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
    error_description: Option<String>,
}

impl IssuerClient {
    /// No request is made yet.
    pub fn new(profile: &Profile, outgoing: &Outgoing) -> Result<Self, SignInError> {
        Self::of(ClientRegistration::from(profile), outgoing, LIMITS.connections)
    }

    /// A client that makes at most `requests` requests at a time; further ones wait.
    pub fn of(
        registration: ClientRegistration,
        outgoing: &Outgoing,
        requests: usize,
    ) -> Result<Self, SignInError> {
        let limits = HttpsLimits { connections: requests, ..LIMITS };
        let https = outgoing.client(registration.ca_file.as_deref(), registration.private_network, limits)?;
        Ok(Self { https, registration, endpoints: OnceCell::new() })
    }

    /// The client as it is registered.
    pub fn registration(&self) -> &ClientRegistration {
        &self.registration
    }

    /// The endpoints; the discovery document is read once.
    pub async fn endpoints(&self) -> Result<&IssuerEndpoints, SignInError> {
        self.endpoints.get_or_try_init(|| self.discover()).await
    }

    async fn discover(&self) -> Result<IssuerEndpoints, SignInError> {
        let issuer = &self.registration.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let answer =
            self.https.get(&url, JSON).await.map_err(|error| SignInError::unreachable(issuer, &error))?;
        if answer.status != StatusCode::OK {
            return Err(self.status(answer.status));
        }
        let found: Discovery = json(&answer)?;
        // RFC 8414, section 3.3: an issuer that is another one could collect codes (mix-up).
        if found.issuer != *issuer {
            let shown = printable(&found.issuer, 200);
            return Err(SignInError::Answer(format!(
                "the discovery document of {issuer} is that of {shown}"
            )));
        }
        let challenges = found.code_challenge_methods_supported;
        if challenges.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err(SignInError::Answer(
                "the issuer has no PKCE with S256, which a sign-in needs".into(),
            ));
        }
        let endpoint = |text: String| self.endpoint(&text);
        let methods = found.token_endpoint_auth_methods_supported;
        Ok(IssuerEndpoints {
            authorization: found.authorization_endpoint.map(endpoint).transpose()?,
            token: self.endpoint(&found.token_endpoint)?,
            device: found.device_authorization_endpoint.map(endpoint).transpose()?,
            revocation: found.revocation_endpoint.map(endpoint).transpose()?,
            redirect_has_iss: found.authorization_response_iss_parameter_supported,
            secret_in_form: methods.is_some_and(|methods| methods.iter().all(|method| method != BASIC)),
        })
    }

    /// An endpoint is asked over https; over http where the issuer itself is, which is on this machine.
    fn endpoint(&self, text: &str) -> Result<Url, SignInError> {
        let refuse =
            |why: &str| Err(SignInError::Answer(format!("endpoint {}: {why}", printable(text, 200))));
        let Ok(url) = Url::parse(text) else { return refuse("it is not a URL") };
        let in_clear = self.registration.issuer.starts_with("http://") && url.scheme() == "http";
        if url.scheme() != "https" && !in_clear {
            return refuse("it is not https");
        }
        if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return refuse("it has a user, a password or a fragment");
        }
        Ok(url)
    }

    /// Tokens for a code (RFC 6749, section 4.1.3; RFC 7636, section 4.5).
    pub async fn exchange_code(
        &self,
        code: &AuthorizationCode,
        verifier: &CodeVerifier,
        redirect: &str,
    ) -> Result<TokenAnswer, SignInError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", redirect),
            ("code_verifier", verifier.expose()),
        ];
        self.tokens(&fields).await
    }

    /// Tokens for a refresh token (RFC 6749, section 6).
    pub async fn refresh(&self, token: &RefreshToken) -> Result<TokenAnswer, SignInError> {
        self.tokens(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())]).await
    }

    /// Tokens for an approved device code (RFC 8628, section 3.4).
    pub async fn exchange_device_code(&self, code: &str) -> Result<TokenAnswer, SignInError> {
        self.tokens(&[("grant_type", DEVICE_GRANT), ("device_code", code)]).await
    }

    /// A device code.
    pub async fn device_code(&self) -> Result<DeviceAnswer, SignInError> {
        let Some(url) = &self.endpoints().await?.device else {
            return Err(SignInError::Unsupported("the issuer gives no device codes"));
        };
        let scope = self.registration.scopes.join(" ");
        let mut fields = vec![("scope", scope.as_str())];
        fields.extend(self.registration.audience.as_deref().map(|audience| ("audience", audience)));
        let answer: DeviceAnswer = json(&self.post(url, &fields).await?)?;
        self.endpoint(&answer.verification_uri)?;
        Ok(answer)
    }

    /// Ends a refresh token at the issuer (RFC 7009). False when the issuer has no such endpoint.
    pub async fn revoke(&self, token: &RefreshToken) -> Result<bool, SignInError> {
        let Some(url) = &self.endpoints().await?.revocation else { return Ok(false) };
        self.post(url, &[("token", token.expose()), ("token_type_hint", "refresh_token")]).await?;
        Ok(true)
    }

    async fn tokens(&self, fields: &[(&str, &str)]) -> Result<TokenAnswer, SignInError> {
        json(&self.post(&self.endpoints().await?.token, fields).await?)
    }

    /// Posts a form with the client's identifier; gives good answers only.
    async fn post(&self, url: &Url, fields: &[(&str, &str)]) -> Result<Answer, SignInError> {
        let in_form = self.endpoints.get().is_some_and(|endpoints| endpoints.secret_in_form);
        let (in_form, in_header) = match &self.registration.secret {
            Some(secret) if in_form => (Some(secret), None),
            secret => (None, secret.as_ref()),
        };
        let body = {
            let mut form = Serializer::new(String::with_capacity(64 * 1024)); // it cannot change threads
            form.append_pair("client_id", &self.registration.client_id).extend_pairs(fields);
            if let Some(secret) = in_form {
                form.append_pair("client_secret", secret.expose());
            }
            Zeroizing::new(form.finish().into_bytes())
        };
        let mut request = Request::post(url.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, JSON)
            .body(Bytes::from_owner(body))
            .map_err(|error| SignInError::Answer(error.to_string()))?;
        if let Some(secret) = in_header {
            let value = self.basic(secret)?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let issuer = &self.registration.issuer;
        let answer =
            self.https.ask(request).await.map_err(|error| SignInError::unreachable(issuer, &error))?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.status(answer.status));
        }
        match json::<ErrorAnswer>(&answer) {
            Ok(told) => {
                Err(SignInError::Refused(OAuthError::new(&told.error, told.error_description.as_deref())))
            }
            Err(_) => Err(self.status(answer.status)),
        }
    }

    /// `Authorization` of a confidential client.
    fn basic(&self, secret: &ClientSecret) -> Result<HeaderValue, SignInError> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Zeroizing::new(format!(
            "{}:{}",
            encoded(&self.registration.client_id),
            *Zeroizing::new(encoded(secret.expose()))
        ));
        let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut value =
            HeaderValue::from_str(&value).map_err(|error| SignInError::Answer(error.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn status(&self, status: StatusCode) -> SignInError {
        SignInError::Unreachable {
            issuer: self.registration.issuer.clone(),
            problem: format!("it answers {status}"),
        }
    }
}

/// The error of serde could quote a token; its place is enough.
fn json<T: DeserializeOwned>(answer: &Answer) -> Result<T, SignInError> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let problem =
            if error.is_data() { "a member is missing or of another type" } else { "it is not JSON" };
        SignInError::Answer(format!("{problem} (line {}, column {})", error.line(), error.column()))
    })
}
