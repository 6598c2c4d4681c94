//! Fetches an issuer's key set over HTTPS: discovery, bounds of the answer, and which addresses may be asked.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tower_service::Service as _;
use url::Url;

use crate::auth::json::{self, JsonFault};
use crate::auth::jwks::{KeySet, KeySetFault, MAX_BODY_BYTES};
use crate::config::IssuerSettings;
use crate::resolver::Resolver;

/// TCP connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Discovery and key set together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches the key set of one issuer. Holds the trust anchors; knows nothing of refreshing.
#[derive(Debug)]
pub struct KeyFetcher {
    client: Client<Connector, Empty<Bytes>>,
    connector: Connector,
    issuer: String,
    discovery: Url,
    jwks_url: Option<Url>,
    private_network: bool,
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
    /// The whole took too long.
    #[error("no answer within {} s", TOTAL_TIMEOUT.as_secs())]
    TimedOut,
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
            HttpConnector::new_with_resolver(GuardedResolver { resolver: resolver.clone(), private_network });
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let issuer = settings.issuer.as_str().to_owned();
        // The trailing slash of an issuer is not doubled (OpenID Connect Discovery 1.0, section 4).
        let discovery = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector.clone()),
            connector,
            discovery: Url::parse(&discovery)
                .map_err(|error| SetupError::Url(format!("{issuer}: {error}")))?,
            issuer,
            jwks_url: settings.jwks_url.clone(),
            private_network,
        })
    }

    /// Fetches the key set once.
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        in_time(async { self.keys_at(&self.key_set_url().await?).await }).await
    }

    /// The certificates that the issuer shows, its own first, verified as in every fetch; none where it is asked in
    /// clear. It is the host of the key set where that is configured.
    pub async fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FetchError> {
        in_time(self.greet(self.jwks_url.as_ref().unwrap_or(&self.discovery))).await
    }

    /// The first half of [`KeyFetcher::fetch`]: where the key set is, as configured or discovered.
    pub async fn locate(&self) -> Result<Url, FetchError> {
        in_time(self.key_set_url()).await
    }

    /// The second half: the key set at an address that [`KeyFetcher::locate`] gave.
    pub async fn fetch_from(&self, url: &Url) -> Result<Fetched, FetchError> {
        in_time(self.keys_at(url)).await
    }

    async fn key_set_url(&self) -> Result<Url, FetchError> {
        match &self.jwks_url {
            Some(url) => Ok(url.clone()),
            None => self.discover().await,
        }
    }

    async fn keys_at(&self, url: &Url) -> Result<Fetched, FetchError> {
        let (body, max_age) = self.get(url).await?;
        Ok(Fetched { keys: KeySet::parse(&body)?, max_age })
    }

    /// Where the issuer says its keys are. It may not send us to another host: then `jwks_url` has to be
    /// configured, so that the operator decides whose keys are believed.
    async fn discover(&self) -> Result<Url, FetchError> {
        let (body, _) = self.get(&self.discovery).await?;
        let fault = |fault: JsonFault| FetchError::Discovery(format!("it is {fault}"));
        let document = json::parse_object(&body, MAX_BODY_BYTES).map_err(fault)?;
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
        if literal.is_some_and(|ip| !may_be_asked(ip, self.private_network)) {
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
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await;
        Ok((body.map_err(|error| failed(chain(error.as_ref())))?.to_bytes(), max_age))
    }
}

fn failed(url: &Url, problem: String) -> FetchError {
    FetchError::Http { url: url.to_string(), problem }
}

async fn in_time<T>(work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    tokio::time::timeout(TOTAL_TIMEOUT, work).await.unwrap_or(Err(FetchError::TimedOut))
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
    let value = answer.headers().get(header::CACHE_CONTROL)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

/// An error with its causes: hyper's own text is only the outermost.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Leaves out addresses that may not be asked.
#[derive(Clone, Debug)]
struct GuardedResolver {
    resolver: Resolver,
    private_network: bool,
}

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

impl tower_service::Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        let (resolver, private_network) = (self.resolver.clone(), self.private_network);
        Box::pin(async move {
            let found = resolver.look_up(name.as_str(), 0).await.map_err(io::Error::other)?;
            let usable: Vec<_> =
                found.into_iter().filter(|addr| may_be_asked(addr.ip(), private_network)).collect();
            if usable.is_empty() {
                let text = "the name has no address that may be asked; see private_network";
                return Err(io::Error::other(text));
            }
            Ok(usable.into_iter())
        })
    }
}

/// Addresses of cloud metadata services are never asked; private ones where the configuration says so.
fn may_be_asked(ip: IpAddr, private_network: bool) -> bool {
    let ip = ip.to_canonical();
    let never = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast() || is_ec2_metadata(ip)
        }
    };
    let private = match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || a == 0 || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    };
    !never && (!private || private_network)
}

/// `fd00:ec2::/32`, EC2's instance services over IPv6 (EC2 user guide, "Instance metadata").
fn is_ec2_metadata(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0xfd00, 0x0ec2, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p5_metadata_is_never_asked_and_private_addresses_by_leave_only() {
        let ask = |ip: &str, private| may_be_asked(ip.parse().unwrap(), private);
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "::ffff:169.254.1.1",
        ] {
            assert!(!ask(ip, false) && !ask(ip, true), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!ask(ip, false) && ask(ip, true), "{ip}");
        }
        for ip in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(ask(ip, false) && ask(ip, true), "{ip}");
        }
    }

    #[test]
    fn max_age_is_read_from_among_others() {
        let answer = |value: &str| Response::builder().header("cache-control", value).body(()).unwrap();
        assert_eq!(max_age(&answer("public, max-age=600, must-revalidate")), Some(Duration::from_mins(10)));
        assert_eq!(max_age(&answer("no-store")), None);
        assert_eq!(max_age(&answer("max-age=x")), None);
    }
}
