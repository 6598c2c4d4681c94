//! Builds the parts from the configuration; the only reader of the whole of it.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::{KeyFetcher, KeyStore, Policy, Verifier};
use crate::aws::federation::Federation;
use crate::aws::sts::StsTimes;
use crate::cancel::{CancelKeys, CancelSecret};
use crate::client::listener::{Ask, Listener};
use crate::client::oauthbearer::Discovery;
use crate::clock::Clock;
use crate::config::{Config, ListenAuth, ListenSettings};
use crate::session::{SessionLimits, Steps};
use crate::upstream::dial::Dialers;
use crate::wire::tls;

/// Builds what a session passes through. Fetching and federating run on `control`; `stop` ends sessions.
pub fn build(
    config: Config,
    clock: Clock,
    control: &Handle,
    stop: CancellationToken,
) -> anyhow::Result<Steps> {
    let clusters: Vec<_> = config.clusters.into_iter().map(Arc::new).collect();
    let dialers = Dialers::new(&clusters, config.limits.server_connect_timeout)?;
    let secret = match &config.cancel.secret_file {
        Some(path) => CancelSecret::read(path)?,
        None => CancelSecret::random(),
    };
    let cancels = CancelKeys::new(&secret).context("cancel keys cannot be derived")?;
    let federation = Federation::new(&clusters, StsTimes::default(), clock.clone(), control.clone())?;
    let mut issuers = Vec::new();
    for issuer in config.issuers {
        let fetcher = KeyFetcher::new(&issuer)?;
        let keys = KeyStore::start(&issuer, fetcher, control);
        issuers.push((issuer, keys));
    }
    Ok(Steps {
        limits: SessionLimits {
            client_login_timeout: config.limits.client_login_timeout,
            login_timeout: config.limits.login_timeout,
            max_client_conn: config.limits.max_client_conn,
        },
        verifier: Verifier::new(issuers, clock.clone()),
        policy: Policy::new(clusters),
        federation,
        dialers,
        cancels,
        clock,
        stop,
    })
}

/// Builds what the clients of one listener meet; its files are read here.
pub fn listener(settings: &ListenSettings) -> anyhow::Result<Listener> {
    let config = tls::server_config(listener_files(settings))?;
    if settings.plaintext_from_loopback {
        tracing::warn!(
            listener = settings.name,
            "plaintext_from_loopback is on: clients on this machine may send their token without TLS"
        );
    }
    let ask = match &settings.auth {
        ListenAuth::Password => Ask::Password,
        ListenAuth::OAuthBearer { issuer, scope } => {
            let discovery = Discovery::new(issuer.as_str(), scope).with_context(|| {
                format!("listener {}: issuer and oauth_scope are too long for clients", settings.name)
            })?;
            Ask::OAuthBearer(Arc::new(discovery))
        }
    };
    Ok(Listener {
        name: settings.name.clone(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
        plaintext_from_loopback: settings.plaintext_from_loopback,
        proxy_protocol_from: settings.proxy_protocol_from.clone(),
        ask,
    })
}

/// The files that a listener's TLS is made of.
pub fn listener_files(settings: &ListenSettings) -> tls::ListenerFiles<'_> {
    tls::ListenerFiles {
        cert_file: &settings.tls_cert_file,
        key_file: &settings.tls_key_file,
        client: settings
            .client_certificate
            .as_ref()
            .map(|client| tls::ClientAuthority { ca_file: &client.ca_file, required: client.required }),
    }
}
