//! Health, metrics, and the status page over HTTP for operators. Read-only; responses contain no secrets.

use std::convert::Infallible;
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::history::{History, HistorySample, SAMPLE_INTERVAL};
use super::status::{STYLE, StatusView};
use super::{readiness, runbooks, status};
use crate::accept::acceptor::Generation;
use crate::accept::threads;
use crate::net::proxy_protocol::skip_header;
use crate::session::permits::{EvictionSet, EvictionSignal, EvictionStep};
use crate::session::shared::Shared;
use crate::telemetry::metrics::MetricsSnapshot;
use crate::telemetry::metrics_format::MetricsFormat;
use crate::telemetry::process_metrics::ProcessSnapshot;

/// Most concurrent connections. A further one evicts the longest silent connection of the address that holds
/// most.
pub const MAX_CONNECTIONS: usize = 16;

/// Longest lifetime of a connection: one request and its response.
const MAX_LIFE: Duration = Duration::from_secs(10);

/// Longest time for the head of a request.
const MAX_HEAD_TIME: Duration = Duration::from_secs(1);

/// Largest head of a request; the smallest limit that hyper supports. Bodies are not read.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Answer to an unknown path.
const PATHS: &str = "\
    /          status page\n\
    /runbooks  what to do about each alert\n\
    /metrics   metrics for Prometheus\n\
    /livez     200 if all tasks of the process work\n\
    /readyz    200 if new clients are accepted; ?verbose lists what logins depend on\n";

/// Sources of health and metrics.
#[derive(Debug)]
pub struct AdminServer {
    shared: Arc<Shared>,
    current: Arc<ArcSwap<Generation>>,
    history: History,
    started: Instant,
    content_policy: HeaderValue,
}

/// Serves requests on `listener`. Never returns. Accepting never waits for a connection to end.
pub async fn serve(listener: &TcpListener, admin: Arc<AdminServer>) {
    let connections: Arc<EvictionSet<()>> = Arc::default();
    let mut samples = interval(SAMPLE_INTERVAL);
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = samples.tick() => {
                admin.record_sample();
                continue;
            }
        };
        match accepted {
            Ok((tcp, peer)) => {
                let evicted = EvictionSignal::default();
                let source = peer.ip().into();
                let Ok((place, _)) =
                    connections.enter(source, MAX_CONNECTIONS, (), EvictionStep::Client, &evicted)
                else {
                    continue; // the proxy waits for all of them, so one can always be evicted
                };
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    tokio::select! {
                        () = evicted.received() => {
                            admin.note(peer, "evicted for a newer connection");
                        }
                        trouble = serve_connection(tcp, |request| admin.answer(request)) => {
                            if let Some(trouble) = trouble {
                                admin.note(peer, &trouble);
                            }
                        }
                    }
                    drop(place);
                });
                // Each connection is polled once before the next one may evict it.
                yield_now().await;
            }
            Err(error) => {
                tracing::debug!(%error, "an admin connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one request on a connection; a peer that is too slow is disconnected. Returns the problem, if any.
/// A PROXY protocol header of version 2 may precede the request: a load balancer that sends such headers also
/// sends one with each health check. The addresses in it are not used, so no network has to be trusted.
async fn serve_connection<S>(
    mut stream: S,
    answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
) -> Option<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = Instant::now();
    let first = match timeout(MAX_HEAD_TIME, skip_header(&mut stream)).await {
        Ok(Ok(first)) => first,
        Ok(Err(error)) => return Some(error.to_string()),
        Err(_) => return Some("timed out before the request".to_owned()),
    };
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(Cursor::new(first).chain(reader), writer);
    let service = service_fn(|request| {
        let answer = answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_HEAD_TIME.saturating_sub(start.elapsed()))
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout_at(start + MAX_LIFE, served).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("timed out".to_owned()),
    }
}

impl AdminServer {
    /// A server of the state that outlives a configuration, and of the current configuration.
    pub fn new(shared: Arc<Shared>, current: Arc<ArcSwap<Generation>>) -> Self {
        let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let content_policy =
            HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { shared, current, history: History::default(), started: Instant::now(), content_policy }
    }

    /// Logs a failed connection, rate-limited because anyone can cause many.
    fn note(&self, peer: SocketAddr, problem: &str) {
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(left_out) = self.shared.log.noise().line("admin")
        {
            tracing::debug!(%peer, problem, left_out, "admin connection failed");
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = say(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/livez" => match self.alive() {
                Ok(()) => say(StatusCode::OK, TEXT, "alive\n"),
                Err(faults) => say(StatusCode::SERVICE_UNAVAILABLE, TEXT, faults),
            },
            "/readyz" if request.uri().query() == Some("verbose") => {
                let view = self.view();
                let code = if view.ready.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                say(code, TEXT, readiness::report(&view))
            }
            "/readyz" => match self.ready() {
                Ok(()) => say(StatusCode::OK, TEXT, "ready\n"),
                Err(why) => say(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            },
            "/metrics" => self.metrics(request.headers()),
            "/" => self.page(status::page(&self.view())),
            "/runbooks" => self.page(runbooks::page()),
            _ => say(StatusCode::NOT_FOUND, TEXT, PATHS),
        }
    }

    /// A page for browsers: no scripts, the style by its hash, nothing from elsewhere, in no frame.
    fn page(&self, html: String) -> Response<Full<Bytes>> {
        let mut response = say(StatusCode::OK, HTML, html);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.content_policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }

    fn sample(&self) -> HistorySample {
        HistorySample {
            at: Instant::now(),
            sessions: self.shared.permits.sessions(),
            ready: self.ready().is_ok(),
            totals: self.shared.metrics.logins.totals(),
        }
    }

    fn record_sample(&self) {
        self.history.record(self.sample());
        self.shared.metrics.logins.forget_slowest_steps();
    }

    fn view(&self) -> StatusView {
        let snapshot = self.snapshot();
        let mut samples = self.history.samples();
        samples.push(self.sample());
        StatusView {
            now: Instant::now(),
            unix_seconds: i64::try_from(self.shared.clock.unix_seconds()).unwrap_or(i64::MAX),
            uptime: self.started.elapsed(),
            ready: self.ready(),
            faults: self.shared.supervisor.faults().iter().map(ToString::to_string).collect(),
            reload_applied: self.shared.metrics.reloads.last_was_applied(),
            routes: self.shared.metrics.logins.routes(&snapshot.routes),
            snapshot,
            samples,
        }
    }

    /// The metrics in the format that the client prefers.
    fn metrics(&self, request: &HeaderMap) -> Response<Full<Bytes>> {
        let accept = request.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = MetricsFormat::preferred(accept);
        let Ok(text) = self.shared.metrics.text(self.snapshot(), format) else {
            return say(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be encoded\n");
        };
        let mut response = say(StatusCode::OK, format.content_type(), text);
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }

    /// Checks that all tasks of the process are alive. The error has a line for each that is not.
    fn alive(&self) -> Result<(), String> {
        let faults: Vec<_> = self.shared.supervisor.faults().iter().map(ToString::to_string).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n") + "\n") }
    }

    /// Checks that the service accepts new clients. The error is the reason why not.
    fn ready(&self) -> Result<(), &'static str> {
        if self.shared.shutdown.is_over() {
            return Err("stopping");
        }
        let current = self.current.load();
        if !current.context.key_sets().any(|(_, status)| status.usable) {
            return Err("no issuer has usable keys");
        }
        if !current.context.admits_records() {
            return Err("audit records cannot be written");
        }
        Ok(())
    }

    fn snapshot(&self) -> MetricsSnapshot {
        let current = self.current.load();
        let names = current.listeners.iter().map(|listener| listener.name().to_owned());
        let certificates = names.zip(&current.certificates).filter_map(|(name, at)| Some((name, (*at)?)));
        let pages = current.page_certificates.iter().map(|(name, expires)| (format!("[{name}]"), *expires));
        let active = self.shared.permits.sessions();
        MetricsSnapshot {
            active,
            waiting: self.shared.permits.clients().saturating_sub(active),
            max_clients: current.context.limits.max_client_conn,
            ready: self.ready().is_ok(),
            issuers: current.context.issuers(),
            certificates: certificates.chain(pages).collect(),
            aws: current.context.aws(),
            pool: current.context.pool(),
            resolver: self.shared.resolver.status(),
            tasks: self.shared.supervisor.status(),
            threads: threads::count(),
            log: self.shared.log.snapshot(),
            routes: current.session_routes(),
            gates: current.context.gates(),
            work: current.context.work(),
            process: ProcessSnapshot::read(),
        }
    }
}

fn say(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
