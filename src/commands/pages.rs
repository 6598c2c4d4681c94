//! The HTTPS pages of the service: their sockets, and their content by the configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::accept::acceptor::Generation;
use crate::app::egress;
use crate::config::client::ClientConfig;
use crate::config::{Config, PageListener, SignInSettings};
use crate::login::SignInError;
use crate::login::issuer_client::IssuerClient;
use crate::login::published::PublishedProfiles;
use crate::login::registration::ClientRegistration;
use crate::login::tokens::ClientSecret;
use crate::net::file_content;
use crate::net::outgoing::Outgoing;
use crate::net::tls;
use crate::session::shared::Shared;
use crate::sign_in::access::Entrance;
use crate::sign_in::profiles::ProfilesPage;
use crate::sign_in::site::{SignInPage, SignInParts};
use crate::sign_in::web::{self, WebPage, WebServer, WebSite};
use crate::supervisor::TaskKind;
use crate::telemetry::labels::PageName;

/// Most requests of the sign-in page to its issuer at a time; further ones wait.
const MAX_ISSUER_REQUESTS: usize = 8;

/// Application protocol of the pages (RFC 9112).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Listening sockets of the pages.
#[derive(Debug, Default)]
pub struct PageSockets {
    /// Socket of `[profiles]`.
    pub profiles: Option<TcpListener>,
    /// Socket of `[sign_in]`.
    pub sign_in: Option<TcpListener>,
}

impl PageSockets {
    /// Listens on the configured addresses.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let profiles = match &config.profiles {
            Some(settings) => Some(listen("profiles.addr", settings.listener.addr).await?),
            None => None,
        };
        let sign_in = match &config.sign_in {
            Some(settings) => Some(listen("sign_in.addr", settings.listener.addr).await?),
            None => None,
        };
        Ok(Self { profiles, sign_in })
    }
}

async fn listen(key: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("{key}: cannot listen on {addr}"))
}

/// The content of the pages, built from one configuration.
#[derive(Debug)]
pub(super) struct Pages {
    profiles: Option<Arc<WebSite<ProfilesPage>>>,
    sign_in: Option<Arc<WebSite<SignInPage>>>,
}

/// State of the service that pages use.
#[derive(Clone, Debug)]
pub(super) struct PageContext {
    /// The state that outlives a configuration.
    pub(super) shared: Arc<Shared>,
    /// The current configuration.
    pub(super) current: Arc<ArcSwap<Generation>>,
}

impl Pages {
    /// Reads the files that the pages need.
    pub(super) fn build(config: &Config, context: &PageContext) -> anyhow::Result<Self> {
        let profiles = match &config.profiles {
            Some(settings) => {
                let document = published(&settings.client_file).context("profiles.client_file")?;
                Some(site(&settings.listener, ProfilesPage::new(document))?)
            }
            None => None,
        };
        let sign_in = match &config.sign_in {
            Some(settings) => {
                let page = sign_in_page(config, settings, context).context("sign_in")?;
                Some(site(&settings.listener, page)?)
            }
            None => None,
        };
        Ok(Self { profiles, sign_in })
    }

    /// Starts the pages.
    pub(super) fn start(
        self,
        sockets: PageSockets,
        shared: &Arc<Shared>,
        ended: &CancellationToken,
    ) -> RunningPages {
        let profiles = self.profiles.zip(sockets.profiles);
        let sign_in = self.sign_in.zip(sockets.sign_in);
        RunningPages {
            profiles: profiles
                .map(|page| run((PageName::Profiles, TaskKind::ProfilesServer), page, shared, ended)),
            sign_in: sign_in.map(|page| run((PageName::SignIn, TaskKind::SignInServer), page, shared, ended)),
        }
    }
}

/// The running pages, whose content a reload replaces.
#[derive(Debug)]
pub(super) struct RunningPages {
    profiles: Option<Arc<ArcSwap<WebSite<ProfilesPage>>>>,
    sign_in: Option<Arc<ArcSwap<WebSite<SignInPage>>>>,
}

impl RunningPages {
    /// Takes the content of another configuration for new connections.
    pub(super) fn replace(&self, pages: Pages) {
        if let (Some(running), Some(new)) = (&self.profiles, pages.profiles) {
            running.store(new);
        }
        if let (Some(running), Some(new)) = (&self.sign_in, pages.sign_in) {
            running.store(new);
        }
    }
}

/// Serves a page on its socket.
fn run<P: WebPage>(
    (name, kind): (PageName, TaskKind),
    (site, socket): (Arc<WebSite<P>>, TcpListener),
    shared: &Arc<Shared>,
    ended: &CancellationToken,
) -> Arc<ArcSwap<WebSite<P>>> {
    let site = Arc::new(ArcSwap::new(site));
    let server = Arc::new(WebServer {
        name,
        site: Arc::clone(&site),
        metrics: shared.metrics.pages.clone(),
        noise: shared.log.noise(),
    });
    let socket = Arc::new(socket);
    shared.supervisor.spawn(kind, ended.clone(), move || {
        let (socket, server) = (Arc::clone(&socket), Arc::clone(&server));
        async move { web::serve(&socket, server).await }
    });
    site
}

fn sign_in_page(
    config: &Config,
    settings: &SignInSettings,
    context: &PageContext,
) -> anyhow::Result<SignInPage> {
    let issuer = config.issuers.iter().find(|issuer| issuer.name == settings.issuer);
    let issuer = issuer.context("the issuer is not known")?;
    let secret = settings.client_secret_file.as_deref().map(client_secret).transpose()?;
    let registration = ClientRegistration {
        issuer: issuer.issuer.as_str().to_owned(),
        client_id: settings.client_id.clone(),
        secret,
        scopes: settings.scopes.clone(),
        audience: settings.audience.clone(),
        prompt: None,
        ca_file: issuer.ca_file.clone(),
        private_network: issuer.private_network,
    };
    let outgoing = Outgoing::new(context.shared.resolver.clone(), egress(&config.egress)?)
        .with_clocks(context.shared.peer_clocks.clone());
    let authorities = settings.ca_file.as_deref().map(authorities).transpose()?;
    let parts = SignInParts {
        issuer: IssuerClient::of(registration, &outgoing, MAX_ISSUER_REQUESTS)?,
        url: settings.url.clone(),
        token: settings.token,
        entrance: Entrance { proxies: settings.proxies.clone(), databases: settings.databases.clone() },
        authorities,
        shared: Arc::clone(&context.shared),
        current: Arc::clone(&context.current),
    };
    SignInPage::new(parts).context("a random key cannot be made")
}

/// The client's secret in a file.
pub(super) fn client_secret(path: &Path) -> anyhow::Result<ClientSecret> {
    let text = file_content::read_text(path).with_context(|| path.display().to_string())?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.chars().any(char::is_control) {
        bail!("{}: write the client's secret on one line", path.display());
    }
    Ok(ClientSecret::new(secret.to_owned()))
}

/// The certificates of a PEM file, and nothing else of it.
fn authorities(path: &Path) -> anyhow::Result<String> {
    let text = |certificate: CertificateDer<'_>| {
        let lines = STANDARD.encode(certificate);
        let lines: Vec<_> = lines.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    Ok(tls::certificates(path)?.into_iter().map(text).collect())
}

fn site<P>(listener: &PageListener, page: P) -> anyhow::Result<Arc<WebSite<P>>> {
    let files = tls::ListenerFiles {
        cert_file: &listener.tls_cert_file,
        key_file: &listener.tls_key_file,
        client: None,
    };
    let mut config = tls::server_config(files, None)?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    let (tls, balancers) = (TlsAcceptor::from(Arc::new(config)), listener.proxy_protocol_from.clone());
    Ok(Arc::new(WebSite { tls, balancers, page }))
}

/// The document of the profiles in the file `path`.
pub(super) fn published(path: &Path) -> Result<String, SignInError> {
    Ok(PublishedProfiles::of(&client_config(path)?)?.json())
}

/// Warnings about profiles that the proxy itself would refuse.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let Some(settings) = &config.profiles else { return Vec::new() };
    let Ok(found) = client_config(&settings.client_file) else { return Vec::new() };
    let foreign = found
        .profiles
        .iter()
        .filter(|profile| !config.issuers.iter().any(|issuer| issuer.accepts(&profile.issuer).is_some()));
    let warning = |(name, issuer): (&str, &str)| {
        format!(
            "{}: profile {name:?} signs people in at {issuer}, which is no [[issuer]] of this proxy",
            settings.client_file.display()
        )
    };
    foreign.map(|profile| warning((&profile.name, &profile.issuer))).collect()
}

fn client_config(path: &Path) -> Result<ClientConfig, SignInError> {
    let text = file_content::read_text(path)
        .map_err(|error| SignInError::File { path: path.to_owned(), problem: error.to_string() })?;
    Ok(ClientConfig::from_toml(&text, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_another_issuer_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.toml");
        let profile = |name: &str, issuer: &str| {
            format!(
                "[[profile]]\nname = \"{name}\"\nissuer = \"{issuer}\"\nclient_id = \"c\"\nproxy = \"db.acme.com:5432\"\n"
            )
        };
        let known = "https://acme.okta.com/oauth2/default";
        std::fs::write(&file, [profile("known", known), profile("other", "https://idp.example")].concat())
            .unwrap();
        let reference = include_str!("../../proxy.toml");
        let keys =
            "[profiles]\naddr = \"127.0.0.1:0\"\ntls_cert_file = \"c\"\ntls_key_file = \"k\"\nclient_file = ";
        let text = reference.replacen("[profiles]\n", &format!("{keys}{file:?}\n"), 1);
        let config = Config::from_toml(&text, "proxy.toml").unwrap();
        assert_eq!(config.issuers[0].issuer.as_str(), known);
        let warnings = warnings(&config);
        assert!(warnings.len() == 1 && warnings[0].contains("\"other\""), "{warnings:?}");
        assert!(published(&file).unwrap().contains("https://idp.example"));
        std::fs::write(&file, "[[profile]]").unwrap();
        assert!(published(&file).unwrap_err().to_string().contains("client_id"));
    }
}
