//! Fetches an issuer's key set over HTTPS, with discovery of its URL.

use std::sync::Mutex;
use std::time::Duration;

use hyper::{StatusCode, header};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use url::Url;

use super::jwks::{KeySet, KeySetFault};
use super::strict_json;
use super::strict_json::JsonFault;
use crate::config::IssuerSettings;
use crate::net::https::{Answer, HttpsClient, HttpsError, HttpsLimits, peer};
use crate::net::outgoing::{Outgoing, OutgoingError};
use crate::net::peer_clocks::PeerClocks;
use crate::sync::lock;

/// Longest time for one connection; a shorter request limit takes precedence.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Concurrent requests; a fetch makes one at a time.
const CONNECTIONS: usize = 2;

/// Time for which a discovered `jwks_uri` is used without a new discovery.
const KEEP_DISCOVERED: Duration = Duration::from_hours(1);

/// Fetches the key set of one issuer. Refreshing is the key store's.
#[derive(Debug)]
pub struct KeyFetcher {
    client: HttpsClient,
    clocks: PeerClocks,
    issuer: String,
    discovery: Url,
    jwks_url: Option<Url>,
    /// The last discovered `jwks_uri` and the time of its discovery.
    discovered: Mutex<Option<(Url, Instant)>>,
}

/// A key set and the time for which its issuer allows caching it.
#[derive(Debug)]
pub struct FetchedKeys {
    /// The usable keys.
    pub keys: KeySet,
    /// `Cache-Control: max-age`, if present.
    pub max_age: Option<Duration>,
}

/// Error of the fetcher's configuration, found at start.
#[derive(Debug, thiserror::Error)]
pub enum FetcherSetupError {
    /// The issuer's URL or `jwks_url` is unusable.
    #[error("{0}")]
    Url(String),
    /// `ca_file` cannot be read or holds no certificate.
    #[error("certificate authorities: {0}")]
    Authorities(OutgoingError),
}

impl From<OutgoingError> for FetcherSetupError {
    fn from(error: OutgoingError) -> Self {
        Self::Authorities(error)
    }
}

/// Error of one fetch. For the log.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No complete response within the limits.
    #[error("{url}: {error}")]
    Http {
        /// Requested URL.
        url: String,
        /// Error of the request.
        error: HttpsError,
    },
    /// A response other than 200; redirects are not followed.
    #[error("{url}: HTTP status {status}")]
    Status {
        /// Requested URL.
        url: String,
        /// Status of the response.
        status: StatusCode,
    },
    /// The discovery document is unusable or belongs to another issuer.
    #[error("discovery document: {0}")]
    Discovery(String),
    /// The key set cannot be used.
    #[error(transparent)]
    KeySet(#[from] KeySetFault),
}

impl KeyFetcher {
    /// Reads `ca_file`, or the system's certificate authorities. All requests use `outgoing`.
    pub fn new(settings: &IssuerSettings, outgoing: &Outgoing) -> Result<Self, FetcherSetupError> {
        let issuer = settings.issuer.as_str().to_owned();
        // An issuer's trailing slash is not doubled (OpenID Connect Discovery 1.0, section 4).
        let base = settings.discovery_base();
        let discovery = format!("{}/.well-known/openid-configuration", base.trim_end_matches('/'));
        let limits = HttpsLimits {
            body: settings.jwks_max_bytes,
            connect: CONNECT_TIMEOUT.min(settings.jwks_timeout),
            request: settings.jwks_timeout,
            connections: CONNECTIONS,
        };
        Ok(Self {
            client: outgoing.client(settings.ca_file.as_deref(), settings.private_network, limits)?,
            clocks: outgoing.clocks().clone(),
            discovery: Url::parse(&discovery)
                .map_err(|error| FetcherSetupError::Url(format!("{issuer}: {error}")))?,
            issuer,
            jwks_url: settings.jwks_url.clone(),
            discovered: Mutex::default(),
        })
    }

    /// Fetches the key set once: from the URL of the last fetch, or after discovery. Discovery is repeated if
    /// that URL no longer gives a usable set, or if its keys are the same as `missed_in`, the set without the
    /// key of the token that caused the fetch.
    pub async fn fetch(&self, missed_in: Option<&KeySet>) -> Result<FetchedKeys, FetchError> {
        let Some(known) = self.known_url() else { return self.fetch_from(&self.locate().await?).await };
        let fetched = self.fetch_from(&known).await;
        let is_news = |keys: &KeySet| missed_in.is_none_or(|missed_in| !keys.same_keys(missed_in));
        if self.jwks_url.is_some() || fetched.as_ref().is_ok_and(|fetched| is_news(&fetched.keys)) {
            return fetched;
        }
        match self.locate().await {
            Ok(url) if url != known => self.fetch_from(&url).await,
            Ok(_) | Err(_) => fetched,
        }
    }

    /// Seconds by which this machine's clock is ahead of the issuer's; `None` before its first response. If
    /// `jwks_url` is configured, its host is measured.
    pub fn clock_ahead(&self) -> Option<i64> {
        let url = self.jwks_url.as_ref().unwrap_or(&self.discovery).as_str().parse().ok()?;
        self.clocks.seconds_ahead_of(&peer(&url))
    }

    /// Certificate chain of the issuer, leaf first, verified as in every fetch; empty for an issuer without
    /// TLS. If `jwks_url` is configured, its host is asked.
    pub async fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FetchError> {
        let url = self.jwks_url.as_ref().unwrap_or(&self.discovery).as_str();
        self.client.certificates(url).await.map_err(|error| FetchError::Http { url: url.to_owned(), error })
    }

    /// First half of a fetch: the URL of the key set, configured or discovered. If discovery fails, the URL
    /// discovered before remains in use.
    pub async fn locate(&self) -> Result<Url, FetchError> {
        if let Some(url) = &self.jwks_url {
            return Ok(url.clone());
        }
        let found = self.discover().await;
        let mut discovered = lock(&self.discovered);
        match (found, discovered.as_ref()) {
            (Ok(url), _) => {
                *discovered = Some((url.clone(), Instant::now()));
                Ok(url)
            }
            (Err(_), Some((before, _))) => Ok(before.clone()),
            (Err(error), None) => Err(error),
        }
    }

    /// Second half of a fetch: the key set at a URL that [`KeyFetcher::locate`] returned.
    pub async fn fetch_from(&self, url: &Url) -> Result<FetchedKeys, FetchError> {
        let answer = self.get(url).await?;
        Ok(FetchedKeys { keys: KeySet::parse(&answer.body)?, max_age: max_age(&answer) })
    }

    /// The configured URL of the key set, or the discovered one while it is fresh.
    fn known_url(&self) -> Option<Url> {
        let discovered = lock(&self.discovered);
        let fresh = discovered.as_ref().filter(|(_, at)| at.elapsed() < KEEP_DISCOVERED);
        self.jwks_url.as_ref().or(fresh.map(|(url, _)| url)).cloned()
    }

    /// Discovers the `jwks_uri`. It must be at the issuer's host: for another host the operator has to set
    /// `jwks_url`, because that decides whose keys are trusted.
    async fn discover(&self) -> Result<Url, FetchError> {
        let body = self.get(&self.discovery).await?.body;
        let fault = |fault: JsonFault| FetchError::Discovery(format!("it is {fault}"));
        let document = strict_json::parse_document(&body).map_err(fault)?;
        let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str);
        if text("issuer") != Some(&self.issuer) {
            return Err(FetchError::Discovery("its issuer is not the configured url, byte for byte".into()));
        }
        let url = text("jwks_uri").and_then(|uri| Url::parse(uri).ok());
        let url = url.ok_or_else(|| FetchError::Discovery("it has no usable jwks_uri".into()))?;
        let scheme_is_kept = url.scheme() == "https" || url.scheme() == self.discovery.scheme();
        if !scheme_is_kept || url.host() != self.discovery.host() || !url.username().is_empty() {
            let text = "its jwks_uri is at another host or not https; if that is intended, set jwks_url";
            return Err(FetchError::Discovery(text.into()));
        }
        Ok(url)
    }

    async fn get(&self, url: &Url) -> Result<Answer, FetchError> {
        let answer = self.client.get(url.as_str(), "application/json").await;
        let answer = answer.map_err(|error| FetchError::Http { url: url.to_string(), error })?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            status => Err(FetchError::Status { url: url.to_string(), status }),
        }
    }
}

/// `max-age` of Cache-Control (RFC 9111, section 5.2.2.1).
fn max_age(answer: &Answer) -> Option<Duration> {
    let value = answer.header(header::CACHE_CONTROL)?.to_ascii_lowercase();
    let seconds = value.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_from_among_others() {
        let answer = |value: &str| Answer {
            status: StatusCode::OK,
            headers: [(header::CACHE_CONTROL, value.parse().unwrap())].into_iter().collect(),
            body: Vec::new().into(),
        };
        assert_eq!(max_age(&answer("public, max-age=600, must-revalidate")), Some(Duration::from_mins(10)));
        assert_eq!(max_age(&answer("Max-Age=\"60\"")), Some(Duration::from_mins(1)));
        assert_eq!(max_age(&answer("no-store")), None);
        assert_eq!(max_age(&answer("max-age=x")), None);
    }
}
