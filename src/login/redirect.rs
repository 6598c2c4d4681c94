//! The loopback server that one redirect comes to (RFC 8252, section 7.3): one request, which must fit in every part.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use url::form_urlencoded;

use super::SignInError;
use super::error::OAuthError;
use super::tokens::AuthorizationCode;
use crate::config::client::{LoopbackHost, RedirectAddress};
use crate::sync::lock;

/// Longest wait for the redirect, from the moment when the person is asked to sign in.
pub const MAX_WAIT: Duration = Duration::from_mins(3);

/// Connections at the same time. Browsers open some without a request.
const MAX_CONNECTIONS: usize = 16;

/// Longest time for the head of a request, and for the whole of it.
const MAX_HEAD_TIME: Duration = Duration::from_secs(10);
const MAX_TIME: Duration = Duration::from_secs(20);

/// Largest head of a request: codes of some issuers have several thousand bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Tries to find a free port that is the same on both loopback addresses.
const MAX_PORT_TRIES: usize = 16;

const DONE: &str = "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
     <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>pgpassport</title>\
    <h1>Sign-in received</h1><p>Go back to your terminal or tool; it says whether you are signed in. You can close this page.";
const FAILED: &str = "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
     <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>pgpassport</title>\
    <h1>Not signed in</h1><p>This sign-in is ended. Your terminal or tool says why. You can close this page.";

type Outcome = Result<AuthorizationCode, SignInError>;

/// Required parts of the redirect.
#[derive(Clone, Debug)]
pub struct ExpectedRedirect {
    /// `state` of the request.
    pub state: String,
    /// Value of `iss` where there is one.
    pub issuer: String,
    /// True if `iss` must be there (RFC 9207).
    pub iss_required: bool,
}

/// A listener at one redirect address.
#[derive(Debug)]
pub struct RedirectListener {
    sockets: Vec<TcpListener>,
    host: LoopbackHost,
    port: u16,
    path: String,
}

impl RedirectListener {
    /// Listens at the first address whose port is free.
    pub async fn bind(addresses: &[RedirectAddress]) -> Result<Self, SignInError> {
        let mut problems = Vec::new();
        for address in addresses {
            match Self::bind_one(address).await {
                Ok(listener) => return Ok(listener),
                Err(error) => problems.push(format!("port {}: {error}", address.port.unwrap_or(0))),
            }
        }
        Err(SignInError::NoPort(problems.join("; ")))
    }

    async fn bind_one(address: &RedirectAddress) -> io::Result<Self> {
        let bind = async |port: u16| match address.host {
            LoopbackHost::V4 => Ok(vec![TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?]),
            LoopbackHost::V6 => Ok(vec![TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await?]),
            LoopbackHost::Localhost => both(port).await,
        };
        let mut tries = 0;
        let sockets = loop {
            tries += 1;
            match bind(address.port.unwrap_or(0)).await {
                // The port that was free on one address is taken on the other.
                Err(error)
                    if address.port.is_none()
                        && error.kind() == io::ErrorKind::AddrInUse
                        && tries < MAX_PORT_TRIES => {}
                bound => break bound?,
            }
        };
        let port = sockets.first().map(TcpListener::local_addr).transpose()?.map_or(0, |addr| addr.port());
        Ok(Self { sockets, host: address.host, port, path: address.path.clone() })
    }

    /// Host and port, as they stand in the redirect URI and in the header `Host`.
    fn authority(&self) -> String {
        format!("{}:{}", self.host.as_str(), self.port)
    }

    /// The redirect URI.
    pub fn uri(&self) -> String {
        format!("http://{}{}", self.authority(), self.path)
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Waits for the redirect. The first request decides, whatever it is.
    pub async fn code(self, expected: ExpectedRedirect) -> Outcome {
        let deadline = tokio::time::Instant::now() + MAX_WAIT;
        let check =
            Arc::new(RedirectCheck { authority: self.authority(), path: self.path.clone(), expected });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                stream = accept(&self.sockets), if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(converse(stream, Arc::clone(&check)));
                }
                Some(ended) = connections.join_next() => {
                    if let Ok(Some(outcome)) = ended {
                        return outcome;
                    }
                }
                () = sleep_until(deadline) => return Err(SignInError::TimedOut(MAX_WAIT)),
            }
        }
    }
}

/// Both loopback addresses at one port. A machine without IPv6 has one.
async fn both(port: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let port = v4.local_addr()?.port();
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
        Ok(v6) => Ok(vec![v4, v6]),
        // The redirect could reach the program that listens there.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(vec![v4]),
    }
}

/// The next connection to any of the sockets.
async fn accept(sockets: &[TcpListener]) -> TcpStream {
    loop {
        let mut accepting: Vec<_> = sockets.iter().map(|socket| Box::pin(socket.accept())).collect();
        let next = std::future::poll_fn(|context| {
            let ready =
                accepting.iter_mut().map(|one| one.as_mut().poll(context)).find(std::task::Poll::is_ready);
            ready.unwrap_or(std::task::Poll::Pending)
        });
        match next.await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

struct RedirectCheck {
    authority: String,
    path: String,
    expected: ExpectedRedirect,
}

/// A request and its answer; none when the connection ended before a request.
async fn converse(stream: TcpStream, check: Arc<RedirectCheck>) -> Option<Outcome> {
    let outcome: Mutex<Option<Outcome>> = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let found = check.judge(&request);
        let page = answer(found.is_ok());
        lock(&outcome).get_or_insert(found);
        async { Ok::<_, Infallible>(page) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(MAX_TIME, served).await; // the outcome is what matters
    lock(&outcome).take()
}

impl RedirectCheck {
    fn judge(&self, request: &Request<Incoming>) -> Outcome {
        let refuse = |why| Err(SignInError::Redirect(why));
        if request.method() != Method::GET {
            return refuse("its method is not GET");
        }
        let mut hosts = request.headers().get_all(HOST).iter();
        if hosts.next().map(HeaderValue::as_bytes) != Some(self.authority.as_bytes())
            || hosts.next().is_some()
        {
            return refuse("its Host is another one");
        }
        if request.uri().authority().is_some() || request.uri().path() != self.path {
            return refuse("its path is another one");
        }
        self.expected.code_in(request.uri().query().unwrap_or_default())
    }
}

impl ExpectedRedirect {
    /// The code in the query of a redirect that matches in every part.
    pub fn code_in(&self, query: &str) -> Result<AuthorizationCode, SignInError> {
        let refuse = |why| Err(SignInError::Redirect(why));
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let known = ["code", "state", "iss", "error", "error_description"];
        // RFC 6749, section 3.1: parameters must not be included more than once.
        if known.iter().any(|name| pairs.iter().filter(|(key, _)| key == name).count() > 1) {
            return refuse("a parameter is there twice");
        }
        let field = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref());
        let state = field("state").unwrap_or_default();
        if verify_slices_are_equal(state.as_bytes(), self.state.as_bytes()).is_err() {
            return refuse("its state is another one");
        }
        match field("iss") {
            Some(iss) if iss != self.issuer => return refuse("its iss is another issuer"),
            None if self.iss_required => {
                return refuse("it has no iss, although the issuer sends one");
            }
            _ => {}
        }
        if let Some(error) = field("error") {
            return Err(SignInError::Refused(OAuthError::new(error, field("error_description"))));
        }
        match field("code").filter(|code| !code.is_empty()) {
            Some(code) => Ok(AuthorizationCode::new(code.to_owned())),
            None => refuse("it has no code"),
        }
    }
}

fn answer(good: bool) -> Response<Full<Bytes>> {
    let (status, page) = if good { (StatusCode::OK, DONE) } else { (StatusCode::BAD_REQUEST, FAILED) };
    let mut response = Response::new(Full::new(Bytes::from_static(page.as_bytes())));
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
