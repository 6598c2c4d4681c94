//! Fetches an issuer's key set over HTTPS: discovery, and where the keys may be.

use std::sync::{Mutex, PoisonError};
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

/// Longest time for one connection, as far as the limit of a request lets it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests at the same time; a fetch makes one after the other.
const CONNECTIONS: usize = 2;

/// Time for which a discovered `jwks_uri` is used without a new discovery.
const KEEP_DISCOVERED: Duration = Duration::from_hours(1);

/// Fetches the key set of one issuer; knows nothing of refreshing.
#[derive(Debug)]
pub struct KeyFetcher {
    client: HttpsClient,
    clocks: PeerClocks,
    issuer: String,
    discovery: Url,
    jwks_url: Option<Url>,
    /// The last discovered `jwks_uri`, and when it was.
    discovered: Mutex<Option<(Url, Instant)>>,
}

/// A key set and how long its issuer lets it be kept.
#[derive(Debug)]
pub struct FetchedKeys {
    /// The usable keys.
    pub keys: KeySet,
    /// `Cache-Control: max-age`, when there is one.
    pub max_age: Option<Duration>,
}

/// Why an issuer can never be asked, found at start.
#[derive(Debug, thiserror::Error)]
pub enum FetcherSetupError {
    /// The issuer or `jwks_url` may not be asked.
    #[error("{0}")]
    Url(String),
    /// `ca_file` cannot be read or holds no certificate.
    #[error("certificate authorities: {0}")]
    Authorities(#[from] OutgoingError),
}

/// Why there is no key set this time. For the log.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No whole answer within the limits.
    #[error("{url}: {error}")]
    Http {
        /// What was asked.
        url: String,
        /// What happened.
        error: HttpsError,
    },
    /// An answer that is not 200; redirects are not followed.
    #[error("{url}: HTTP status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The discovery document is not one for this issuer.
    #[error("discovery document: {0}")]
    Discovery(String),
    /// The key set cannot be used.
    #[error(transparent)]
    KeySet(#[from] KeySetFault),
}

impl KeyFetcher {
    /// Reads `ca_file`, or the system's certificate authorities. The issuer is asked by way of `outgoing`.
    pub fn new(settings: &IssuerSettings, outgoing: &Outgoing) -> Result<Self, FetcherSetupError> {
        let issuer = settings.issuer.as_str().to_owned();
        // The trailing slash of an issuer is not doubled (OpenID Connect Discovery 1.0, section 4).
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

    /// Fetches the key set once: from where it was found last, or after discovery. Discovery is repeated when the answer
    /// there is not good any more, or when it holds no other keys than `missed_in`, in which a token's key was missed.
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

    /// Seconds by which this machine's clock is ahead of that of the issuer; `None` before its first answer. It is the
    /// host of the key set where that is configured.
    pub fn clock_ahead(&self) -> Option<i64> {
        let url = self.jwks_url.as_ref().unwrap_or(&self.discovery).as_str().parse().ok()?;
        self.clocks.seconds_ahead_of(&peer(&url))
    }

    /// The certificates that the issuer shows, its own first, verified as in every fetch; none where it is asked in
    /// clear. It is the host of the key set where that is configured.
    pub async fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FetchError> {
        let url = self.jwks_url.as_ref().unwrap_or(&self.discovery).as_str();
        self.client.certificates(url).await.map_err(|error| FetchError::Http { url: url.to_owned(), error })
    }

    /// The first half of a fetch: where the key set is, as configured or discovered. A discovery that fails leaves what was
    /// discovered before in use.
    pub async fn locate(&self) -> Result<Url, FetchError> {
        if let Some(url) = &self.jwks_url {
            return Ok(url.clone());
        }
        let found = self.discover().await;
        let mut discovered = self.discovered.lock().unwrap_or_else(PoisonError::into_inner);
        match (found, discovered.as_ref()) {
            (Ok(url), _) => {
                *discovered = Some((url.clone(), Instant::now()));
                Ok(url)
            }
            (Err(_), Some((before, _))) => Ok(before.clone()),
            (Err(error), None) => Err(error),
        }
    }

    /// The second half: the key set at an address that [`KeyFetcher::locate`] gave.
    pub async fn fetch_from(&self, url: &Url) -> Result<FetchedKeys, FetchError> {
        let answer = self.get(url).await?;
        Ok(FetchedKeys { keys: KeySet::parse(&answer.body)?, max_age: max_age(&answer) })
    }

    /// The configured URL of the key set, or the discovered one while it is fresh.
    fn known_url(&self) -> Option<Url> {
        let discovered = self.discovered.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = discovered.as_ref().filter(|(_, at)| at.elapsed() < KEEP_DISCOVERED);
        self.jwks_url.as_ref().or(fresh.map(|(url, _)| url)).cloned()
    }

    /// Where the issuer says its keys are. It may not send us to another host: then `jwks_url` has to be
    /// configured, so that the operator decides whose keys are believed.
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
            let text = "its jwks_uri is at another host or not https; if that is right, set jwks_url";
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
