//! A small world for each test: an issuer and an STS of its own, one PostgreSQL behind one login gate for all,
//! and the proxy, started in-process on a free port. When a world ends it looks for every secret it planted in
//! all log lines and in everything its clients were told.

pub(crate) mod admin;
pub(crate) mod binary;
mod builder;
mod cancel;
pub(crate) mod connect_proxy;
pub(crate) mod drivers;
pub(crate) mod haproxy;
mod leak_check;
mod life_limit;
pub(crate) mod log;
pub(crate) mod openid_provider;
pub(crate) mod process;
mod psql;
pub(crate) mod raw;
pub(crate) mod scripted_server;
pub(crate) mod second;
pub(crate) mod sessions;
pub(crate) mod tls_front;
pub(crate) mod web_driver;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use aws_emulator::{
    Ca, Cloud, CloudDatabase, CloudOptions, DatabaseOptions, PolicyTemplate, TokenClaims, names, sigv4,
};
use pgpassport::accept::listening_socket::ListeningSocket;
use pgpassport::accept::socket_activation;
use pgpassport::commands::pages::PageSockets;
use pgpassport::commands::serve::{self, ServiceOptions};
use pgpassport::commands::{check, policy};
use pgpassport::config::Config;
use pgpassport::lifecycle::ShutdownTokens;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

pub(crate) use self::builder::WorldBuilder;
pub(crate) use self::cancel::{shared_secret, until_asleep};
pub(crate) use self::psql::PsqlOutput;
pub(crate) use self::raw::{ErrorFields, RawClient};

/// The server that all tests of this binary share.
pub(crate) fn database() -> &'static CloudDatabase {
    static DATABASE: OnceLock<CloudDatabase> = OnceLock::new();
    DATABASE.get_or_init(|| CloudDatabase::start(DatabaseOptions::default()).expect("PostgreSQL starts"))
}

pub(crate) struct World {
    pub(crate) cloud: Cloud,
    /// The first listener's.
    pub(crate) port: u16,
    /// All listeners', in their order; 0 for a Unix socket.
    pub(crate) ports: Vec<u16>,
    /// Their names, by which its records are known among those of other worlds.
    listeners: Vec<String>,
    /// Health and metrics.
    pub(crate) admin_addr: SocketAddr,
    /// The page of profiles'.
    pub(crate) profiles_port: Option<u16>,
    /// The sign-in page's.
    pub(crate) sign_in_port: Option<u16>,
    /// Makes it read its configuration file again, as SIGHUP does.
    pub(crate) reload: Arc<Notify>,
    pub(crate) stopping: ShutdownTokens,
    pub(crate) serving: Option<JoinHandle<anyhow::Result<()>>>,
    listener_ca: Ca,
    folder: TempDir,
    secrets: Mutex<Vec<String>>,
    heard: Mutex<Vec<u8>>,
    log_from: usize,
    _limit: life_limit::LifeLimit,
}

impl World {
    /// The usual world, to be changed.
    pub(crate) fn builder() -> WorldBuilder {
        WorldBuilder::new()
    }

    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    #[expect(clippy::too_many_lines, reason = "the parts of a world in their order")]
    async fn build(mut builder: WorldBuilder) -> Self {
        let limit = life_limit::LifeLimit::start();
        let log_from = log::start();
        let database = tokio::task::spawn_blocking(database).await.unwrap();
        let store = builder.store.clone().unwrap_or_else(|| database.gate.store().clone());
        let options = CloudOptions { store, ..CloudOptions::default() };
        let cloud = tokio::task::spawn_blocking(|| Cloud::start(options).unwrap()).await.unwrap();
        if builder.issuer_down {
            cloud.issuer.go_down();
        }
        let folder = TempDir::new().unwrap();
        let listener_ca = Ca::new().unwrap();
        listener_ca.write(folder.path()).unwrap();
        let files =
            listener_ca.server(&["localhost", "127.0.0.1"]).unwrap().write(folder.path(), "proxy").unwrap();
        let ca_dir = folder.path().join("upstream");
        std::fs::create_dir(&ca_dir).unwrap();
        let upstream_ca = builder.ca.as_ref().unwrap_or(&database.ca).write(&ca_dir).unwrap();
        if builder.hostaddr.is_empty() && builder.resolver.is_none() {
            builder.hostaddr.push(database.postgres.addr());
        }
        let toml = builder.toml(&cloud, &files, &upstream_ca);
        std::fs::write(folder.path().join("proxy.toml"), &toml).unwrap();
        let config = Config::from_toml(&toml, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        trust_as_printed(&cloud, &config, &builder.printed);
        let sockets: Vec<_> = config.listeners.iter().map(|l| socket_activation::bind(l).unwrap()).collect();
        let port = |socket: &ListeningSocket| socket.addr().unwrap().tcp().map_or(0, |addr| addr.port());
        let ports: Vec<u16> = sockets.iter().map(port).collect();
        let listeners = config.listeners.iter().map(|listener| listener.name.clone()).collect();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_addr = admin.local_addr().unwrap();
        let (stopping, reload) = (ShutdownTokens::default(), Arc::new(Notify::new()));
        let file = folder.path().join("proxy.toml");
        let log = log::unused(&config);
        let pages = PageSockets::bind(&config).await.unwrap();
        let sign_in_port = pages.sign_in.as_ref().map(|page| page.local_addr().unwrap().port());
        let profiles_port = pages.profiles.as_ref().map(|page| page.local_addr().unwrap().port());
        let change = builder.change.take();
        let mut service = ServiceOptions {
            config,
            load: Arc::new(move || check::load(&file)),
            sockets,
            admin: Some(admin),
            pages,
            log,
            reload: Arc::clone(&reload),
            stopping: stopping.clone(),
            signals: None,
            outside: builder.environment(&cloud),
        };
        if let Some(change) = change {
            change(&mut service);
        }
        let serving = tokio::spawn(serve::serve(service));
        Self {
            cloud,
            port: ports[0],
            ports,
            listeners,
            admin_addr,
            profiles_port,
            sign_in_port,
            reload,
            stopping,
            serving: Some(serving),
            listener_ca,
            folder,
            secrets: Mutex::default(),
            heard: Mutex::default(),
            log_from,
            _limit: limit,
        }
    }

    /// The certificate authority of the proxy's own certificate.
    pub(crate) fn listener_ca(&self) -> &Ca {
        &self.listener_ca
    }

    /// A good token for `sub`.
    pub(crate) fn token(&self, sub: &str) -> String {
        self.mint(self.claims(sub))
    }

    pub(crate) fn claims(&self, sub: &str) -> TokenClaims {
        self.cloud.issuer.default_claims(sub)
    }

    pub(crate) fn mint(&self, claims: impl Into<serde_json::Value>) -> String {
        self.plant(self.cloud.issuer.mint(claims))
    }

    /// Remembers a token as a secret that must not be found anywhere.
    pub(crate) fn plant(&self, token: String) -> String {
        let mut secrets = self.secrets.lock().unwrap();
        secrets.extend(token.split('.').skip(1).filter(|part| part.len() > 16).map(str::to_owned));
        drop(secrets);
        token
    }

    fn tls(&self) -> rustls::ClientConfig {
        raw::trusting(&self.listener_ca)
    }

    /// TLS of drivers for connections to this proxy.
    pub(crate) fn connector(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(self.tls())
    }

    /// A connection of an ordinary driver; its error is what the user would see.
    pub(crate) async fn connect(&self, user: &str, token: &str) -> Result<Client, Error> {
        self.connect_with(user, token, |_| {}).await
    }

    pub(crate) async fn connect_with(
        &self,
        user: &str,
        token: &str,
        change: impl FnOnce(&mut tokio_postgres::Config),
    ) -> Result<Client, Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host("localhost")
            .hostaddr([127, 0, 0, 1].into())
            .port(self.port)
            .user(user)
            .dbname(names::DATABASE)
            .password(token)
            .ssl_mode(SslMode::Require);
        change(&mut config);
        match config.connect(self.connector()).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                Ok(client)
            }
            Err(error) => {
                self.hear(format!("{error:?}").as_bytes());
                Err(error)
            }
        }
    }

    /// An IAM token for `user`, signed with the credentials that the first call of STS gave.
    pub(crate) fn sign_for(&self, user: &str) -> String {
        let key = self.cloud.sts.calls().remove(0).access_key_id.unwrap();
        let session = self.cloud.sts.store().get(&key).unwrap();
        sigv4::sign(&sigv4::TokenRequest {
            endpoint: names::ENDPOINT,
            user,
            region: names::REGION,
            access_key_id: &session.access_key_id,
            secret: &session.secret,
            session_token: Some(&session.session_token),
            at: self.cloud.clock.unix(),
        })
    }

    /// The refusal that a login gets.
    pub(crate) async fn refusal(&self, user: &str, token: &str) -> ErrorFields {
        match self.raw().await.login(user, Some(names::DATABASE), token).await {
            Ok(_) => panic!("{user} was let in"),
            Err(error) => {
                self.hear(format!("{error:?}").as_bytes());
                error
            }
        }
    }

    /// A client that speaks bytes, over TLS.
    pub(crate) async fn raw(&self) -> RawClient {
        RawClient::connect(self.port, &self.listener_ca).await
    }

    /// Takes note of what a client was told.
    pub(crate) fn hear(&self, bytes: &[u8]) {
        self.heard.lock().unwrap().extend_from_slice(bytes);
    }

    /// A file with this world's configuration, for the binary.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// The role has the policies that `pgpassport policy` prints: what users paste is what all tests log in with.
fn trust_as_printed(cloud: &Cloud, config: &Config, form: &policy::PlanOptions) {
    let plan = policy::PolicyPlan::new(config, form).unwrap();
    if let Some(printed) = plan.roles.iter().find(|role| role.arn.as_str() == names::ROLE_ARN) {
        let mut role = cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
        (role.trust_policy, role.permission_policy) = (printed.trust.json(), printed.permission.json());
        cloud.sts.put_role(&role).unwrap();
    }
}
