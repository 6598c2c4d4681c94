//! One connection for HTTP: direct or through the proxy, then TLS, all within one time limit.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::egress::Egress;
use super::guard::GuardedResolver;
use super::resolver::Resolver;
use super::tls_error;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Longest time for TCP, for all addresses of a host together.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle time after which the kernel probes the peer.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// TCP to the host, or to the proxy and through it to the host (`CONNECT`, RFC 9110, section 9.3.6).
#[derive(Clone)]
pub(super) struct Dial {
    egress: Egress,
    direct: HttpConnector<GuardedResolver>,
    to_proxy: HttpConnector<GuardedResolver>,
}

impl Dial {
    pub(super) fn new(resolver: &Resolver, private_network: bool, egress: Egress, limit: Duration) -> Self {
        let tcp = |private_network| {
            let resolver = GuardedResolver::new(resolver.clone(), private_network);
            let mut tcp = HttpConnector::new_with_resolver(resolver);
            tcp.set_connect_timeout(Some(limit.min(TCP_TIMEOUT)));
            tcp.set_nodelay(true);
            tcp.set_keepalive(Some(KEEPALIVE));
            tcp.enforce_http(false);
            tcp
        };
        // The operator configured the proxy's address, so it is not guarded.
        Self { egress, direct: tcp(private_network), to_proxy: tcp(true) }
    }
}

impl Dial {
    pub(super) fn uses_proxy(&self, target: &Uri) -> bool {
        self.egress.proxy_for(target).is_some()
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Boxed<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        match self.egress.proxy_for(&target) {
            None => {
                let dialing = self.direct.call(target);
                Box::pin(async move { Ok(dialing.await?) })
            }
            Some(proxy) => {
                let through = format!("through the proxy {}", proxy.uri);
                let mut tunnel = Tunnel::new(proxy.uri.clone(), self.to_proxy.clone());
                if let Some(authorization) = &proxy.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let tunnelling = tunnel.call(target);
                Box::pin(async move {
                    tunnelling.await.map_err(|error| format!("{through}: {}", chain(&error)).into())
                })
            }
        }
    }
}

/// [`Dial`], then TLS for `https`, within `limit`.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dial>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(dial: Dial, tls: ClientConfig, limit: Duration) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dial);
        Self { https, limit }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Boxed<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, limit) = (self.https.call(target), self.limit);
        let timed_out = move |_| format!("no connection within {} s", limit.as_secs());
        Box::pin(async move { tokio::time::timeout(limit, connecting).await.map_err(timed_out)? })
    }
}

/// An error with its causes, because the outermost text alone often says little. Libraries differ in
/// whether an error's text holds that of its cause; each text is given once.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let mut text = String::new();
    for cause in causes.map(tls_error::cause) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
