//! Health and metrics over HTTP for operators. Read-only; responses contain no secrets.

use std::convert::Infallible;
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout, timeout_at};

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

/// Sources of health and metrics.
#[derive(Debug)]
pub struct AdminServer {
    /// The state that outlives a configuration.
    pub shared: Arc<Shared>,
    /// The current configuration.
    pub current: Arc<ArcSwap<Generation>>,
}

/// Serves requests on `listener`. Never returns. Accepting never waits for a connection to end.
pub async fn serve(listener: &TcpListener, admin: Arc<AdminServer>) {
    let connections: Arc<EvictionSet<()>> = Arc::default();
    loop {
        match listener.accept().await {
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
            "/readyz" => match self.ready() {
                Ok(()) => say(StatusCode::OK, TEXT, "ready\n"),
                Err(why) => say(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            },
            "/metrics" => self.metrics(request.headers()),
            _ => say(StatusCode::NOT_FOUND, TEXT, "there are /livez, /readyz and /metrics\n"),
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
        let active = self.shared.permits.sessions();
        MetricsSnapshot {
            active,
            waiting: self.shared.permits.clients().saturating_sub(active),
            max_clients: current.limits.clients,
            ready: self.ready().is_ok(),
            issuers: current.context.issuers(),
            certificates: names.zip(current.certificates.iter().copied()).collect(),
            aws: current.context.aws(),
            pool: current.context.pool(),
            resolver: self.shared.resolver.status(),
            tasks: self.shared.supervisor.status(),
            threads: threads::count(),
            log: self.shared.log.snapshot(),
            clusters: current.context.cluster_names(),
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
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    /// A response larger than a slow reader's buffer.
    fn large(_: &Request<Incoming>) -> Response<Full<Bytes>> {
        say(StatusCode::OK, TEXT, "x".repeat(100_000))
    }

    #[tokio::test(start_paused = true)]
    async fn l6_a_slow_scraper_is_cut_after_ten_seconds() {
        let (ours, mut theirs) = duplex(1_024);
        let start = Instant::now();
        let serving = tokio::spawn(serve_connection(ours, large));
        theirs.write_all(REQUEST).await.unwrap();
        let mut read = 0;
        let mut byte = [0; 1];
        while theirs.read(&mut byte).await.unwrap() > 0 {
            read += 1;
            sleep(Duration::from_millis(50)).await;
        }
        serving.await.unwrap();
        assert!(read < 100_000, "all of it was read");
        assert!(start.elapsed() >= MAX_LIFE, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn l6_a_head_that_is_not_whole_within_a_second_is_cut() {
        let header = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        let cut = REQUEST.get(..REQUEST.len() - 1).unwrap();
        for trickled in [&b""[..], b"G", cut, b"\r\n", &header[..13], header, &[header, &b"G"[..]].concat()] {
            let (ours, mut theirs) = duplex(1_024);
            let start = Instant::now();
            let serving = tokio::spawn(serve_connection(ours, large));
            for byte in trickled {
                sleep(Duration::from_millis(20)).await;
                theirs.write_all(&[*byte]).await.unwrap();
            }
            serving.await.unwrap();
            assert_eq!(start.elapsed(), MAX_HEAD_TIME, "{trickled:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_one_gets_all_of_it_and_the_connection_ends() {
        let (ours, mut theirs) = duplex(1_024);
        tokio::spawn(serve_connection(ours, large));
        theirs.write_all(&[REQUEST, REQUEST].concat()).await.unwrap();
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() > 100_000 && answer.len() < 101_000, "{}", answer.len());
    }

    /// The answer to `bytes`, which come one by one or all at once.
    async fn answered(bytes: &[u8], one_by_one: bool) -> String {
        let (ours, mut theirs) = duplex(200_000);
        let serving = tokio::spawn(serve_connection(ours, |_| say(StatusCode::OK, TEXT, "here")));
        for piece in bytes.chunks(if one_by_one { 1 } else { bytes.len() }) {
            let _ = theirs.write_all(piece).await; // cut off before all of it is read
            yield_now().await;
        }
        theirs.shutdown().await.unwrap();
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        serving.await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_header_may_stand_before_the_request() {
        let header = |command: u8, family: u8, block: &[u8]| {
            let length = u16::try_from(block.len()).unwrap().to_be_bytes();
            [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, block].concat()
        };
        for good in [
            Vec::new(),
            header(0x20, 0, b""),
            header(0x20, 0x11, &[0; 12]),
            header(0x21, 0x11, &[7; 12]),
            header(0x21, 0x21, &[7; 36]),
            header(0x21, 0x31, &[7; 216]),
            header(0x21, 0x11, &[7; 520]), // with extensions, the longest
        ] {
            for one_by_one in [false, true] {
                let answer = answered(&[&good, REQUEST].concat(), one_by_one).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{good:?}: {answer}");
            }
        }
        for bad in [
            header(0x22, 0x11, &[7; 12]),
            header(0x11, 0x11, &[7; 12]),
            header(0x21, 0x11, &[7; 521]),
            [header(0x20, 0, b""), header(0x20, 0, b"")].concat(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        ] {
            let answer = answered(&[&bad, REQUEST].concat(), false).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        }
        // Input that only begins like a header is a request (RFC 9112, section 2.2: empty lines are ignored).
        let answer = answered(&[b"\r\n", REQUEST].concat(), true).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}
