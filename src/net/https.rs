//! HTTPS client for small responses of configured peers: bounded in bytes, time and connections. Redirects
//! are not followed; compressed and truncated responses are rejected.

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

/// Longest head of a response. hyper also limits the number of headers to 100.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Time for which an idle connection is kept. AWS load balancers close theirs after a minute.
const KEEP_IDLE: Duration = Duration::from_secs(50);

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("pgpassport/", env!("CARGO_PKG_VERSION")));

/// Limits of a client.
#[derive(Clone, Copy, Debug)]
pub struct HttpsLimits {
    /// Longest body of a response, in bytes.
    pub body: usize,
    /// Longest time for one connection: DNS, TCP, the proxy and TLS.
    pub connect: Duration,
    /// Longest time for one request, from waiting for a connection to the end of the response.
    pub request: Duration,
    /// Most concurrent requests and connections; further requests wait.
    pub connections: usize,
}

/// A client with its own connections.
pub struct HttpsClient {
    client: Client<Connector, Full<Bytes>>,
    dial: Dial,
    connector: Connector,
    permits: Semaphore,
    clocks: PeerClocks,
    private_network: bool,
    limits: HttpsLimits,
}

/// Address of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Address of the host or of the proxy.
    pub addr: SocketAddr,
    /// True for the proxy's address.
    pub through_proxy: bool,
}

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most [`HttpsLimits::body`] bytes.
    pub body: Bytes,
}

/// No response, or an unusable one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpsError {
    /// The URL's address is forbidden.
    #[error("requests to this address are not permitted; see private_network")]
    Address,
    /// The request is invalid.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// The connection failed or broke. A response that ends before its length counts as broken.
    #[error("{0}")]
    Broken(String),
    /// The response is longer than the limit.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The response is compressed although the request did not allow it.
    #[error("the answer is compressed (Content-Encoding), which was not requested")]
    Compressed,
    /// The request took longer than the limit.
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

impl Answer {
    /// A header as a string; `None` if it is absent or not ASCII.
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
        let permits = Semaphore::new(limits.connections);
        Self { client, dial, connector, permits, clocks, private_network, limits }
    }

    /// Sends a GET request to `url`.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<Answer, HttpsError> {
        let request = Request::get(url).header(header::ACCEPT, accept).body(Bytes::new());
        self.ask(request.map_err(|error| HttpsError::Request(error.to_string()))?).await
    }

    /// Sends `request` and reads the complete response, for any status.
    pub async fn ask(&self, request: Request<Bytes>) -> Result<Answer, HttpsError> {
        self.check_address(request.uri())?;
        let peer = peer(request.uri());
        self.in_time(self.limits.request, async {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await;
            let mut request = request.map(Full::new);
            let headers = request.headers_mut();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| HttpsError::Broken(chain(&error)))?;
            if let Some(date) = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok()) {
                self.clocks.record(&peer, date);
            }
            self.read_response(answer).await
        })
        .await
    }

    /// Certificate chain of the host of `url`, leaf first, verified as for every request; empty for plain
    /// HTTP. Uses a separate connection and sends no request.
    pub async fn certificates(&self, url: &str) -> Result<Vec<CertificateDer<'static>>, HttpsError> {
        let target = self.target(url)?;
        let connecting = self.connector.clone().call(target);
        let stream = connecting.await.map_err(|error| HttpsError::Broken(chain(error.as_ref())))?;
        let MaybeHttpsStream::Https(tls) = stream else { return Ok(Vec::new()) };
        let (_, session) = tls.inner().get_ref();
        let certificates = session.peer_certificates().unwrap_or_default();
        Ok(certificates.iter().map(|one| one.clone().into_owned()).collect())
    }

    /// Connects to the host of `url`, or to the proxy, without TLS.
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

    /// Checks an IP address in the URL. Names are checked when they are resolved.
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

    async fn read_response(&self, answer: Response<Incoming>) -> Result<Answer, HttpsError> {
        let (head, mut body) = answer.into_parts();
        let encoding = head.headers.get_all(header::CONTENT_ENCODING);
        if encoding.iter().any(|encoding| encoding != "identity") {
            return Err(HttpsError::Compressed);
        }
        let too_long = HttpsError::TooLong(self.limits.body);
        let announced = hyper::body::Body::size_hint(&body).lower();
        let announced = usize::try_from(announced).ok().filter(|bytes| *bytes <= self.limits.body);
        // Zeroized, because the body of STS holds credentials.
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

/// Key of the peer in [`PeerClocks`]: host and port of the URL.
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
