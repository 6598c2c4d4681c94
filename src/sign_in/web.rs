//! The listener of an HTTPS page: bounded in connections, connections per second, time, and bytes. It runs on the control
//! runtime; sessions run on threads of their own.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::names::client_addr::ClientAddr;
use crate::net::proxy_protocol::{ClientOrigin, OriginError, origin};
use crate::session::permits::{EvictionSet, EvictionSignal, EvictionStep};
use crate::telemetry::labels::{PageName, PageOutcome};
use crate::telemetry::noise::NoiseLimiter;
use crate::telemetry::page_metrics::PageMetrics;

/// Most concurrent connections of a page. A further one evicts the longest silent connection of the address that holds
/// most.
pub const MAX_CONNECTIONS: usize = 64;

/// Time between two accepted connections, over time: TLS handshakes of a flood take a few percent of one processor.
const PACE: Duration = Duration::from_millis(10);

/// Connections that are accepted at once after a pause.
const BURST: u32 = 50;

/// Longest time for a load balancer's header.
const MAX_HEADER_TIME: Duration = Duration::from_secs(5);

/// Longest time for a TLS handshake.
const MAX_TLS_TIME: Duration = Duration::from_secs(5);

/// Longest time for the head of a request, after the handshake.
const MAX_HEAD_TIME: Duration = Duration::from_secs(5);

/// Longest lifetime of a connection after the handshake: one request and its response.
const MAX_LIFE: Duration = Duration::from_secs(30);

/// Largest head of a request. Bodies are not read.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Content type of plain texts.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Content type of JSON.
pub const JSON: &str = "application/json";

/// A complete response.
pub type WebAnswer = Response<Full<Bytes>>;

/// Content behind a listener.
pub trait WebPage: Send + Sync + 'static {
    /// Answers one request. The future is dropped when the connection's time is over.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = WebAnswer> + Send;
}

/// A page and its certificate, replaced as a whole by a reload.
pub struct WebSite<P> {
    /// TLS with the certificate.
    pub tls: TlsAcceptor,
    /// Networks of load balancers that send PROXY protocol headers.
    pub balancers: Vec<IpNet>,
    /// The page.
    pub page: P,
}

impl<P> fmt::Debug for WebSite<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebSite")
    }
}

/// Server of one page.
#[derive(Debug)]
pub struct WebServer<P> {
    /// Name in metrics and log lines.
    pub name: PageName,
    /// The current page and certificate.
    pub site: Arc<ArcSwap<WebSite<P>>>,
    /// Counts ended connections.
    pub metrics: PageMetrics,
    /// Limits log lines.
    pub noise: Arc<NoiseLimiter>,
}

/// Reason why a connection got no response.
enum NoAnswer {
    /// A load balancer looks whether the page listens.
    HealthCheck,
    /// The problem, for the log.
    Failed(String),
}

/// Serves connections of `listener`. Never returns. Accepting never waits for a connection to end.
pub async fn serve<P: WebPage>(listener: &TcpListener, server: Arc<WebServer<P>>) {
    let connections: Arc<EvictionSet<()>> = Arc::default();
    let mut pace = AcceptPace::new();
    loop {
        pace.turn().await;
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, page = server.name.word(), "a connection could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let evicted = EvictionSignal::default();
        let source = peer.ip().into();
        let Ok((place, _)) = connections.enter(source, MAX_CONNECTIONS, (), EvictionStep::Client, &evicted)
        else {
            server.ended(peer, Err(NoAnswer::Failed("all connections wait for an answer".to_owned())));
            continue;
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let located = |client: ClientAddr| place.relocate(client.into());
            let answering = || place.step(EvictionStep::Proxy);
            tokio::select! {
                () = evicted.received() => server.evicted(),
                outcome = server.serve_one((tcp, peer), located, answering) => server.ended(peer, outcome),
            }
            drop(place);
        });
    }
}

impl<P: WebPage> WebServer<P> {
    /// Serves one request. `located` is called with the client's address, and `answering` when the head of the request has
    /// arrived.
    async fn serve_one(
        &self,
        (mut tcp, peer): (TcpStream, SocketAddr),
        located: impl Fn(ClientAddr),
        answering: impl Fn(),
    ) -> Result<(), NoAnswer> {
        let failed = |problem: &str| NoAnswer::Failed(problem.to_owned());
        let site = self.site.load_full();
        let origin = match timeout(MAX_HEADER_TIME, origin(&mut tcp, peer.into(), &site.balancers)).await {
            Ok(Ok(origin)) => origin,
            Ok(Err(OriginError::Silent)) => return Err(NoAnswer::HealthCheck),
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => return Err(failed("timed out in the PROXY protocol header")),
        };
        located(origin.client());
        let is_check = matches!(origin, ClientOrigin::Balancer(_));
        let tls = match timeout(MAX_TLS_TIME, site.tls.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(_)) if is_check => return Err(NoAnswer::HealthCheck),
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => return Err(failed("timed out in the TLS handshake")),
        };
        let service = service_fn(|request| {
            answering();
            async { Ok::<_, Infallible>(site.page.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(MAX_HEAD_TIME)
            .max_buf_size(MAX_HEAD_BYTES)
            .keep_alive(false)
            .serve_connection(TokioIo::new(tls), service);
        match timeout(MAX_LIFE, served).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(&error.to_string())),
            Err(_) => Err(failed("timed out")),
        }
    }

    fn evicted(&self) {
        self.metrics.ended(self.name, PageOutcome::Evicted);
    }

    /// Counts the connection and logs a problem, rate-limited because anyone can cause many.
    fn ended(&self, peer: SocketAddr, outcome: Result<(), NoAnswer>) {
        let counted = match &outcome {
            Ok(()) => PageOutcome::Answered,
            Err(NoAnswer::HealthCheck) => PageOutcome::HealthCheck,
            Err(NoAnswer::Failed(_)) => PageOutcome::Failed,
        };
        self.metrics.ended(self.name, counted);
        if let Err(NoAnswer::Failed(problem)) = outcome
            && tracing::enabled!(tracing::Level::DEBUG)
            && let Some(left_out) = self.noise.line(self.name.word())
        {
            tracing::debug!(%peer, page = self.name.word(), problem, left_out, "a connection failed");
        }
    }
}

/// Turns of new connections: a burst, then one for each [`PACE`].
struct AcceptPace {
    next: Instant,
}

impl AcceptPace {
    fn new() -> Self {
        Self { next: Instant::now() }
    }

    async fn turn(&mut self) {
        let now = Instant::now();
        let saved = now.checked_sub(PACE * BURST).unwrap_or(now);
        self.next = self.next.max(saved);
        if self.next > now {
            sleep_until(self.next).await;
        }
        self.next += PACE;
    }
}

/// A response that no cache keeps and no browser guesses about.
pub fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> WebAnswer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_accepted_in_a_burst_and_then_at_a_pace() {
        let start = Instant::now();
        let mut pace = AcceptPace::new();
        for _ in 0..2 {
            sleep(Duration::from_mins(1)).await;
            let start = Instant::now();
            for _ in 0..=BURST {
                pace.turn().await;
            }
            assert_eq!(start.elapsed(), Duration::ZERO, "the burst waits");
            for _ in 0..100 {
                pace.turn().await;
            }
            assert!(start.elapsed() >= PACE * 100, "{:?}", start.elapsed());
        }
        assert!(start.elapsed() < Duration::from_mins(3));
    }
}
