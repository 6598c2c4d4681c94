//! An HTTP client for small answers of known peers: bounded in bytes, time and connections. Redirects are not followed,
//! compressed and broken-off answers are not believed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tower_service::Service as _;
use zeroize::Zeroizing;

use super::connect::{Connector, Dial, chain};
use super::guard::is_allowed;
use super::peer_clocks::PeerClocks;

/// Longest head of an answer. Ours; hyper reads at most 100 headers besides.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How long an idle connection is kept. Load balancers of AWS close theirs after a minute.
const KEEP_IDLE: Duration = Duration::from_secs(50);

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("pgpassport/", env!("CARGO_PKG_VERSION")));

/// Bounds of a client.
#[derive(Clone, Copy, Debug)]
pub struct HttpsLimits {
    /// Longest body of an answer, in bytes.
    pub body: usize,
    /// DNS, TCP, the proxy and TLS of one connection.
    pub connect: Duration,
    /// One request, from the wait for a connection to the end of the answer.
    pub request: Duration,
    /// Requests at the same time, and so connections; one more waits.
    pub connections: usize,
}

/// A client with connections of its own.
pub struct HttpsClient {
    client: Client<Connector, Full<Bytes>>,
    dial: Dial,
    connector: Connector,
    places: Semaphore,
    clocks: PeerClocks,
    private_network: bool,
    limits: HttpsLimits,
}

/// The address that was connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Of the host, or of the proxy.
    pub addr: SocketAddr,
    /// Whether it is that of the proxy.
    pub through_proxy: bool,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, at most [`HttpsLimits::body`] bytes.
    pub body: Bytes,
}

/// No answer, or none that can be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpsError {
    /// The URL's address may not be asked.
    #[error("this address may not be asked; see private_network")]
    Address,
    /// The request is not one.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// No connection, or a broken one. An answer that ends before its length is one.
    #[error("{0}")]
    Broken(String),
    /// The answer is longer than the limit.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The answer is compressed, which was not asked for.
    #[error("the answer is compressed (Content-Encoding), which was not asked for")]
    Compressed,
    /// The whole took longer than the limit.
    #[error("no whole answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

impl Answer {
    /// A header as text; `None` when it is absent or not ASCII.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl HttpsClient {
    pub(super) fn new(
        dial: Dial,
        connector: Connector,
        clocks: PeerClocks,
        private_network: bool,
        limits: HttpsLimits,
    ) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(limits.connections)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector.clone());
        let places = Semaphore::new(limits.connections);
        Self { client, dial, connector, places, clocks, private_network, limits }
    }

    /// A GET of `url`.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<Answer, HttpsError> {
        let request = Request::get(url).header(header::ACCEPT, accept).body(Bytes::new());
        self.ask(request.map_err(|error| HttpsError::Request(error.to_string()))?).await
    }

    /// Sends `request` and reads the whole answer, whatever its status.
    pub async fn ask(&self, request: Request<Bytes>) -> Result<Answer, HttpsError> {
        self.check_address(request.uri())?;
        let peer = peer(request.uri());
        self.in_time(self.limits.request, async {
            // The semaphore is never closed.
            let _place = self.places.acquire().await;
            let mut request = request.map(Full::new);
            let headers = request.headers_mut();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| HttpsError::Broken(chain(&error)))?;
            if let Some(date) = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok()) {
                self.clocks.saw(&peer, date);
            }
            self.whole(answer).await
        })
        .await
    }

    /// The certificates that the host of `url` shows, its own first, verified as for every request; none where it is asked
    /// in clear. A connection of its own, on which nothing is asked.
    pub async fn certificates(&self, url: &str) -> Result<Vec<CertificateDer<'static>>, HttpsError> {
        let target = self.target(url)?;
        let connecting = self.connector.clone().call(target);
        let stream = connecting.await.map_err(|error| HttpsError::Broken(chain(error.as_ref())))?;
        let MaybeHttpsStream::Https(tls) = stream else { return Ok(Vec::new()) };
        let (_, session) = tls.inner().get_ref();
        let certificates = session.peer_certificates().unwrap_or_default();
        Ok(certificates.iter().map(|one| one.clone().into_owned()).collect())
    }

    /// Connects to the host of `url`, or through the proxy, without TLS.
    pub async fn reach(&self, url: &str) -> Result<Reached, HttpsError> {
        let target = self.target(url)?;
        let through_proxy = self.dial.uses_proxy(&target);
        let dialing = self.dial.clone().call(target);
        self.in_time(self.limits.connect, async {
            let stream = dialing.await.map_err(|error| HttpsError::Broken(chain(error.as_ref())))?;
            let addr = stream.inner().peer_addr().map_err(|error| HttpsError::Broken(error.to_string()))?;
            Ok(Reached { addr, through_proxy })
        })
        .await
    }

    fn target(&self, url: &str) -> Result<Uri, HttpsError> {
        let target = Uri::try_from(url).map_err(|error| HttpsError::Request(error.to_string()))?;
        self.check_address(&target)?;
        Ok(target)
    }

    /// Names are looked at when they are resolved; addresses in the URL are not resolved.
    fn check_address(&self, target: &Uri) -> Result<(), HttpsError> {
        let host = target.host().unwrap_or_default().trim_matches(['[', ']']);
        let forbidden = host.parse::<IpAddr>().is_ok_and(|ip| !is_allowed(ip, self.private_network));
        if forbidden { Err(HttpsError::Address) } else { Ok(()) }
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, HttpsError>>,
    ) -> Result<T, HttpsError> {
        tokio::time::timeout(limit, work).await.unwrap_or(Err(HttpsError::TimedOut(limit)))
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<Answer, HttpsError> {
        let (head, mut body) = answer.into_parts();
        let encoding = head.headers.get_all(header::CONTENT_ENCODING);
        if encoding.iter().any(|encoding| encoding != "identity") {
            return Err(HttpsError::Compressed);
        }
        let too_long = HttpsError::TooLong(self.limits.body);
        let announced = hyper::body::Body::size_hint(&body).lower();
        let announced = usize::try_from(announced).ok().filter(|bytes| *bytes <= self.limits.body);
        // That of STS holds credentials.
        let mut bytes = Zeroizing::new(Vec::with_capacity(announced.ok_or_else(|| too_long.clone())?));
        // An end before the announced length, or without the last chunk, is an error of the body.
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| HttpsError::Broken(chain(&error)))?;
            let Ok(data) = frame.into_data() else { continue }; // trailers
            if data.len() > self.limits.body - bytes.len() {
                return Err(too_long);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Answer { status: head.status, headers: head.headers, body: Bytes::from_owner(bytes) })
    }
}

/// The peer's name among [`PeerClocks`]: host and port of the URL.
pub fn peer(url: &Uri) -> String {
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    format!("{}:{port}", url.host().unwrap_or_default())
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
