//! The HTTPS pages of the service: their sockets, and their content by the configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::client::ClientConfig;
use crate::config::{Config, PageListener};
use crate::login::SignInError;
use crate::login::published::PublishedProfiles;
use crate::net::tls;
use crate::session::shared::Shared;
use crate::sign_in::profiles::ProfilesPage;
use crate::sign_in::web::{self, WebPage, WebServer, WebSite};
use crate::supervisor::TaskKind;

/// Application protocol of the pages (RFC 9112).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Listening sockets of the pages.
#[derive(Debug, Default)]
pub struct PageSockets {
    /// Socket of `[profiles]`.
    pub profiles: Option<TcpListener>,
}

impl PageSockets {
    /// Listens on the configured addresses.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let profiles = match &config.profiles {
            Some(settings) => Some(listen("profiles.addr", settings.listener.addr).await?),
            None => None,
        };
        Ok(Self { profiles })
    }
}

async fn listen(key: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("{key}: cannot listen on {addr}"))
}

/// The content of the pages, built from one configuration.
#[derive(Debug)]
pub(super) struct Pages {
    profiles: Option<Arc<WebSite<ProfilesPage>>>,
}

impl Pages {
    /// Reads the files that the pages need.
    pub(super) fn build(config: &Config) -> anyhow::Result<Self> {
        let profiles = match &config.profiles {
            Some(settings) => {
                let document = published(&settings.client_file).context("profiles.client_file")?;
                Some(site(&settings.listener, ProfilesPage::new(document))?)
            }
            None => None,
        };
        Ok(Self { profiles })
    }

    /// Starts the pages.
    pub(super) fn start(
        self,
        sockets: PageSockets,
        shared: &Arc<Shared>,
        ended: &CancellationToken,
    ) -> RunningPages {
        let profiles = self.profiles.zip(sockets.profiles).map(|(site, socket)| {
            let site = Arc::new(ArcSwap::new(site));
            let server = WebServer { name: "profiles", site: Arc::clone(&site), shared: Arc::clone(shared) };
            run(TaskKind::ProfilesServer, socket, server, ended);
            site
        });
        RunningPages { profiles }
    }
}

/// The running pages, whose content a reload replaces.
#[derive(Debug)]
pub(super) struct RunningPages {
    profiles: Option<Arc<ArcSwap<WebSite<ProfilesPage>>>>,
}

impl RunningPages {
    /// Takes the content of another configuration for new connections.
    pub(super) fn replace(&self, pages: Pages) {
        if let (Some(running), Some(new)) = (&self.profiles, pages.profiles) {
            running.store(new);
        }
    }
}

fn run<P: WebPage>(kind: TaskKind, socket: TcpListener, server: WebServer<P>, ended: &CancellationToken) {
    let supervisor = server.shared.supervisor.clone();
    let (socket, server) = (Arc::new(socket), Arc::new(server));
    supervisor.spawn(kind, ended.clone(), move || {
        let (socket, server) = (Arc::clone(&socket), Arc::clone(&server));
        async move { web::serve(&socket, server).await }
    });
}

fn site<P>(listener: &PageListener, page: P) -> anyhow::Result<Arc<WebSite<P>>> {
    let files = tls::ListenerFiles {
        cert_file: &listener.tls_cert_file,
        key_file: &listener.tls_key_file,
        client: None,
    };
    let mut config = tls::server_config(files, None)?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(WebSite { tls: TlsAcceptor::from(Arc::new(config)), page }))
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
    let text = std::fs::read_to_string(path)
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
