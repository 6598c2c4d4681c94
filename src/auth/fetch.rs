//! Fetches an issuer's key set over HTTPS: discovery, bounds of the answer, and which addresses may be asked.

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::Instant;
use tower_service::Service as _;
use url::Url;

use crate::auth::json::{self, JsonFault};
use crate::auth::jwks::{KeySet, KeySetFault};
use crate::config::IssuerSettings;
use crate::net::guard::{GuardedResolver, is_allowed};
use crate::resolver::Resolver;

/// TCP connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How long a discovered `jwks_uri` is used without asking again.
const KEEP_DISCOVERED: Duration = Duration::from_hours(1);

/// Fetches the key set of one issuer. Holds the trust anchors; knows nothing of refreshing.
#[derive(Debug)]
pub struct KeyFetcher {
    client: Client<Connector, Empty<Bytes>>,
    connector: Connector,
    issuer: String,
    discovery: Url,
    jwks_url: Option<Url>,
    /// The last discovered `jwks_uri`, and when it was.
    discovered: Mutex<Option<(Url, Instant)>>,
    private_network: bool,
    timeout: Duration,
    max_bytes: usize,
}

type Connector = HttpsConnector<HttpConnector<GuardedResolver>>;

/// A key set and how long its issuer lets it be kept.
#[derive(Debug)]
pub struct Fetched {
    /// The usable keys.
    pub keys: KeySet,
    /// `Cache-Control: max-age`, when there is one.
    pub max_age: Option<Duration>,
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

/// Why there is no key set this time. For the log.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, no answer, or a broken one.
    #[error("{url}: {problem}")]
    Http {
        /// What was asked.
        url: String,
        /// What happened.
        problem: String,
    },
    /// An answer that is not 200; redirects are not followed.
    #[error("{url}: HTTP status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// A request took longer than `jwks_timeout`.
    #[error("{url}: no whole answer within {seconds} s (issuer.jwks_timeout)")]
    TimedOut {
        /// What was asked.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// The discovery document is not one for this issuer.
    #[error("discovery document: {0}")]
    Discovery(String),
    /// The key set cannot be used.
    #[error(transparent)]
    KeySet(#[from] KeySetFault),
}

impl KeyFetcher {
    /// Reads `ca_file`, or the system's certificate authorities. `resolver` finds the issuer.
    pub fn new(settings: &IssuerSettings, resolver: &Resolver) -> Result<Self, SetupError> {
        let roots = roots(settings)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError::Authorities(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let private_network = settings.private_network;
        let mut http =
            HttpConnector::new_with_resolver(GuardedResolver::new(resolver.clone(), private_network));
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let issuer = settings.issuer.as_str().to_owned();
        // The trailing slash of an issuer is not doubled (OpenID Connect Discovery 1.0, section 4).
        let base = settings.discovery_base();
        let discovery = format!("{}/.well-known/openid-configuration", base.trim_end_matches('/'));
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(1)
                .http1_max_buf_size(MAX_HEAD_BYTES)
                .build(connector.clone()),
            connector,
            discovery: Url::parse(&discovery)
                .map_err(|error| SetupError::Url(format!("{issuer}: {error}")))?,
            issuer,
            jwks_url: settings.jwks_url.clone(),
            discovered: Mutex::default(),
            private_network,
            timeout: settings.jwks_timeout,
            max_bytes: settings.jwks_max_bytes,
        })
    }

    /// Fetches the key set once: from where it was found last, or after discovery. Discovery is repeated when the answer
    /// there is not good any more, or when it holds no other keys than `missed_in`, in which a token's key was missed.
    pub async fn fetch(&self, missed_in: Option<&KeySet>) -> Result<Fetched, FetchError> {
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

    /// The certificates that the issuer shows, its own first, verified as in every fetch; none where it is asked in
    /// clear. It is the host of the key set where that is configured.
    pub async fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FetchError> {
        let url = self.jwks_url.as_ref().unwrap_or(&self.discovery);
        self.in_time(url, self.greet(url)).await
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
    pub async fn fetch_from(&self, url: &Url) -> Result<Fetched, FetchError> {
        let (body, max_age) = self.get(url).await?;
        Ok(Fetched { keys: KeySet::parse(&body)?, max_age })
    }

    /// Where the key set is, if that needs no discovery.
    fn known_url(&self) -> Option<Url> {
        let discovered = self.discovered.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = discovered.as_ref().filter(|(_, at)| at.elapsed() < KEEP_DISCOVERED);
        self.jwks_url.as_ref().or(fresh.map(|(url, _)| url)).cloned()
    }

    /// Where the issuer says its keys are. It may not send us to another host: then `jwks_url` has to be
    /// configured, so that the operator decides whose keys are believed.
    async fn discover(&self) -> Result<Url, FetchError> {
        let (body, _) = self.get(&self.discovery).await?;
        let fault = |fault: JsonFault| FetchError::Discovery(format!("it is {fault}"));
        let document = json::parse_document(&body).map_err(fault)?;
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

    /// Names are looked at when they are resolved; addresses in the URL are not resolved.
    fn check_address(&self, url: &Url) -> Result<(), FetchError> {
        let literal = match url.host() {
            Some(url::Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(url::Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        if literal.is_some_and(|ip| !is_allowed(ip, self.private_network)) {
            return Err(failed(url, "this address may not be asked; see private_network".into()));
        }
        Ok(())
    }

    /// A connection of its own, which nothing is asked on.
    async fn greet(&self, url: &Url) -> Result<Vec<CertificateDer<'static>>, FetchError> {
        self.check_address(url)?;
        let uri = Uri::try_from(url.as_str()).map_err(|error| failed(url, error.to_string()))?;
        let connecting = self.connector.clone().call(uri).await;
        let stream = connecting.map_err(|error| failed(url, chain(error.as_ref())))?;
        let MaybeHttpsStream::Https(tls) = stream else { return Ok(Vec::new()) };
        let (_, session) = tls.inner().get_ref();
        Ok(session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|one| one.clone().into_owned())
            .collect())
    }

    async fn get(&self, url: &Url) -> Result<(Bytes, Option<Duration>), FetchError> {
        self.in_time(url, self.ask(url)).await
    }

    async fn in_time<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let late = || FetchError::TimedOut { url: url.to_string(), seconds: self.timeout.as_secs() };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, url: &Url) -> Result<(Bytes, Option<Duration>), FetchError> {
        let failed = |problem: String| failed(url, problem);
        self.check_address(url)?;
        let request = Request::get(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("pgpassport/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| failed(chain(&error)))?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status { url: url.to_string(), status: answer.status() });
        }
        let max_age = max_age(&answer);
        let body = Limited::new(answer.into_body(), self.max_bytes).collect().await;
        Ok((body.map_err(|error| failed(chain(error.as_ref())))?.to_bytes(), max_age))
    }
}

fn failed(url: &Url, problem: String) -> FetchError {
    FetchError::Http { url: url.to_string(), problem }
}

fn roots(settings: &IssuerSettings) -> Result<RootCertStore, SetupError> {
    let failed = |error: String| SetupError::Authorities(error);
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(path) => {
            let named = |error: String| failed(format!("{}: {error}", path.display()));
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| named(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| named(error.to_string()))?;
                roots.add(certificate).map_err(|error| named(error.to_string()))?;
            }
        }
        // A system without any is found out by the first fetch over https, and plain http needs none.
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    Ok(roots)
}

/// `max-age` of Cache-Control (RFC 9111, section 5.2.2.1).
fn max_age<B>(answer: &Response<B>) -> Option<Duration> {
    let value = answer.headers().get(header::CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
    let seconds = value.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

/// An error with its causes: hyper's own text is only the outermost.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_from_among_others() {
        let answer = |value: &str| Response::builder().header("cache-control", value).body(()).unwrap();
        assert_eq!(max_age(&answer("public, max-age=600, must-revalidate")), Some(Duration::from_mins(10)));
        assert_eq!(max_age(&answer("Max-Age=\"60\"")), Some(Duration::from_mins(1)));
        assert_eq!(max_age(&answer("no-store")), None);
        assert_eq!(max_age(&answer("max-age=x")), None);
    }
}
