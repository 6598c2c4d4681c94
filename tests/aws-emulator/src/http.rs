//! The small HTTP server under issuer and STS, the faults both can show, and the client that reads key sets.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;
use tokio::task::{JoinHandle, JoinSet};

use crate::EmulatorError;
use crate::encoding::percent_encode;
use crate::sync::{AnswerHold, runtime};

/// The largest request or key set that is read.
const LARGEST_BODY: usize = 1 << 20;

/// Connections that may wait to be accepted. Crowds come at once, and a client that finds this queue full looks connected
/// and hears nothing for seconds.
const BACKLOG: u32 = 4_096;

/// A fault that any of the HTTP stand-ins can show.
#[derive(Clone, Debug)]
pub enum HttpFault {
    /// The connection is closed instead of an answer.
    Close,
    /// No answer ever comes.
    Hang,
    /// The right answer comes, once the test opens the gate.
    Hold(AnswerHold),
    /// This answer instead of the right one.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The `Content-Type`.
        content_type: String,
        /// The body.
        body: String,
    },
    /// An answer that never stops growing.
    Endless,
    /// A redirect (302) to this address.
    Redirect(String),
}

impl HttpFault {
    /// An answer with this status and an empty JSON object.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, content_type: "application/json".to_owned(), body: "{}".to_owned() }
    }

    /// An HTML page, as a load balancer or a captive portal sends.
    pub fn html(status: u16) -> Self {
        let body = "<!DOCTYPE html><html><body><h1>Service Unavailable</h1></body></html>".to_owned();
        Self::Answer { status, content_type: "text/html".to_owned(), body }
    }

    /// A good status with this JSON body: another key set or discovery document.
    pub fn json(body: impl Into<String>) -> Self {
        Self::Answer { status: 200, content_type: "application/json".to_owned(), body: body.into() }
    }

    /// A valid JSON document of at least `length` bytes.
    pub fn oversize(length: usize) -> Self {
        Self::json(format!("{{\"keys\":[],\"pad\":\"{}\"}}", "x".repeat(length)))
    }

    /// Shows the fault. `None` means: carry on as if nothing had been.
    pub(crate) async fn show(self) -> Option<Answer> {
        match self {
            Self::Close => Some(Err(PeerClosed)),
            Self::Hang => std::future::pending().await,
            Self::Hold(hold) => {
                hold.pass().await;
                None
            }
            Self::Answer { status, content_type, body } => Some(answer(status, &content_type, body)),
            Self::Endless => Some(Ok(Response::new(ResponseBody::Endless))),
            Self::Redirect(to) => {
                let redirect = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, to);
                Some(redirect.body(ResponseBody::from(String::new())).map_err(|_| PeerClosed))
            }
        }
    }
}

/// The handler wants the connection closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed on purpose")]
pub(crate) struct PeerClosed;

/// Answer of a handler.
pub(crate) type Answer = Result<Response<ResponseBody>, PeerClosed>;

/// An answer's body.
pub(crate) enum ResponseBody {
    /// Sent in one piece.
    Whole(Option<Bytes>),
    /// Sent until the other side stops reading.
    Endless,
}

impl From<String> for ResponseBody {
    fn from(text: String) -> Self {
        Self::Whole((!text.is_empty()).then(|| Bytes::from(text)))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match self.get_mut() {
            Self::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Endless => Some(Ok(Frame::data(Bytes::from_static(&[b' '; 8192])))),
        })
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Endless => hyper::body::SizeHint::default(),
        }
    }
}

/// An answer of one piece.
pub(crate) fn answer(status: u16, content_type: &str, body: String) -> Answer {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(ResponseBody::from(body))
        .map_err(|_| PeerClosed)
}

/// A running server. It stops, and closes every connection, when it is dropped.
pub(crate) struct HttpServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Listening address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens on `bind` and gives every connection to `serve`.
    pub(crate) fn connections<S, F>(bind: SocketAddr, serve: S) -> Result<Self, EmulatorError>
    where
        S: Fn(tokio::net::TcpStream, SocketAddr) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let io = || EmulatorError::io(format!("listening on {bind}"));
        let _entered = runtime().enter();
        let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(io())?;
        socket.set_reuseaddr(true).and_then(|()| socket.bind(bind)).map_err(io())?;
        let listener = socket.listen(BACKLOG).map_err(io())?;
        let addr = listener.local_addr().map_err(io())?;
        let task = runtime().spawn(async move {
            // Dropping the set ends the connections: aborting this one task stops everything.
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, peer)) = accepted {
                            open.spawn(serve(stream, peer));
                        }
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        });
        Ok(Self { addr, task })
    }

    /// Listens on `bind` and answers every HTTP request with `handler`.
    pub(crate) fn http<H, F>(bind: SocketAddr, handler: H) -> Result<Self, EmulatorError>
    where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let handler = Arc::new(handler);
        Self::connections(bind, move |stream, peer| {
            let handler = Arc::clone(&handler);
            async move {
                let service = service_fn(move |request| handler(request, peer));
                // A client that goes away, or that a fault cuts off, is no error of this server.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request's body as text; `None` if it is too long, broken off or not UTF-8.
pub(crate) async fn text(body: Incoming) -> Option<String> {
    let bytes = Limited::new(body, LARGEST_BODY).collect().await.ok()?.to_bytes();
    String::from_utf8(bytes.to_vec()).ok()
}

/// Gets a document over plain HTTP; anything but status 200 and UTF-8 is `None`.
pub async fn get(url: &str) -> Option<String> {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.get(url.parse().ok()?).await.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    text(response.into_body()).await
}

/// Posts a form over plain HTTP and gives status and body.
pub async fn post_form(url: &str, fields: &[(&str, &str)]) -> Option<(u16, String)> {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(pairs.join("&"))))
        .ok()?;
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.ok()?;
    Some((response.status().as_u16(), text(response.into_body()).await?))
}

/// Signs `user` in at the page of an issuer as a browser does: sends the form, and follows the redirect. The status of the
/// last answer.
pub async fn browse_sign_in(page: &str, user: &str) -> Option<u16> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let form = Request::post(page).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let form = form.body(Full::new(Bytes::from(format!("user={}", percent_encode(user))))).ok()?;
    let redirect = client.request(form).await.ok()?;
    let place = redirect.headers().get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
    let answer = client.get(place).await.ok()?;
    Some(answer.status().as_u16())
}
