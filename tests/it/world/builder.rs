//! Options of a world, and the configuration that follows from them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_emulator::certs::CertFiles;
use aws_emulator::{Ca, Cloud, CloudMysql, CredentialStore, names};
use pgpassport::app::AppEnvironment;
use pgpassport::clock::Clock;
use pgpassport::commands::policy;
use pgpassport::commands::serve::ServiceOptions;
use pgpassport::net::resolver::Resolver;

use super::{World, log};

type Change = Arc<dyn Fn(&mut ServiceOptions) + Send + Sync>;

/// Options of a world.
#[derive(Clone)]
pub(crate) struct WorldBuilder {
    pub(super) listen: String,
    pub(super) second: Option<String>,
    pub(super) limits: String,
    pub(super) session: String,
    admin: String,
    pub(super) reload: String,
    pool: String,
    pages: String,
    pub(super) issuer: String,
    pub(super) role: String,
    pub(super) cluster: String,
    pub(super) user: String,
    pub(super) endpoint: String,
    pub(super) hostaddr: Vec<SocketAddr>,
    pub(super) cancel: String,
    resource: String,
    pub(super) resolver: Option<Resolver>,
    one_clock: bool,
    pub(super) change: Option<Change>,
    pub(super) issuer_down: bool,
    pub(super) ca: Option<Ca>,
    pub(super) printed: policy::PlanOptions,
    pub(super) store: Option<CredentialStore>,
}

impl WorldBuilder {
    /// The usual world, to be changed.
    pub(super) fn new() -> Self {
        Self {
            listen: String::new(),
            second: None,
            limits: String::new(),
            session: String::new(),
            admin: String::new(),
            reload: "watch = \"off\"".to_owned(),
            pool: String::new(),
            pages: String::new(),
            issuer: String::new(),
            role: format!("role_arn = \"{}\"", names::ROLE_ARN),
            cluster: String::new(),
            user: String::new(),
            endpoint: names::ENDPOINT.to_owned(),
            hostaddr: Vec::new(),
            cancel: String::new(),
            resource: format!("resource_id = \"{}\"", names::RESOURCE_ID),
            resolver: None,
            one_clock: false,
            change: None,
            issuer_down: false,
            ca: None,
            printed: policy::PlanOptions::default(),
            store: None,
        }
    }

    pub(crate) fn listen(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.listen);
        self
    }
    /// A second listener with `keys`; one at a Unix socket has its address among them, with `@folder@` for the world's.
    pub(crate) fn second_listener(mut self, keys: &str) -> Self {
        self.second = Some(keys.to_owned());
        self
    }
    pub(crate) fn limits(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.limits);
        self
    }
    /// Keys of `[reload]`; changed files are not taken by themselves without them.
    pub(crate) fn reload(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.reload);
        self
    }
    /// Keys of `[admin]`.
    pub(crate) fn admin(mut self, keys: &str) -> Self {
        self.admin = format!("[admin]\n{keys}");
        self
    }
    pub(crate) fn session(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.session);
        self
    }
    /// The warm pool, on, with `keys`.
    pub(crate) fn pool(mut self, keys: &str) -> Self {
        self.pool = format!("[pool]\nmode = \"session\"\n{keys}");
        self
    }
    /// Tables of HTTPS pages; `@cert@`, `@key@` and `@folder@` are those of the first listener.
    pub(crate) fn pages(mut self, tables: &str) -> Self {
        tables.clone_into(&mut self.pages);
        self
    }
    pub(crate) fn issuer(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.issuer);
        self
    }
    /// Another `role_arn`.
    pub(crate) fn role(mut self, key: &str) -> Self {
        key.clone_into(&mut self.role);
        self
    }
    pub(crate) fn cluster(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.cluster);
        self
    }
    /// Keys of `[cluster.user]`, or several `[[cluster.user]]` with their headers.
    pub(crate) fn user(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.user);
        self
    }
    /// Another server than the shared one.
    pub(crate) fn upstream(self, hostaddr: SocketAddr, ca: &Ca) -> Self {
        self.upstreams(&[hostaddr], ca)
    }
    /// Several servers behind the endpoint's name.
    pub(crate) fn upstreams(mut self, hostaddr: &[SocketAddr], ca: &Ca) -> Self {
        self.hostaddr = hostaddr.to_vec();
        self.ca = Some(ca.clone());
        self
    }
    /// A listener for MySQL with `keys`, and a server that speaks it.
    pub(crate) fn mysql(mut self, database: &CloudMysql, keys: &str) -> Self {
        self.store = Some(database.gate.store().clone());
        self.mysql_at(database.server.addr(), &database.ca, keys)
    }
    /// The same with any server at `addr`, which has a certificate of `ca`.
    pub(crate) fn mysql_at(mut self, addr: SocketAddr, ca: &Ca, keys: &str) -> Self {
        self.listen = format!("protocol = \"mysql\"\n{keys}");
        "engine = \"mysql\"".clone_into(&mut self.cluster);
        self.resource = format!("resource_id = \"{}\"", names::MYSQL_RESOURCE_ID);
        self.endpoint(names::MYSQL_ENDPOINT).upstream(addr, ca)
    }
    /// The credentials of another server's gate.
    pub(crate) fn store(mut self, store: CredentialStore) -> Self {
        self.store = Some(store);
        self
    }
    /// Another name for it.
    pub(crate) fn endpoint(mut self, endpoint: &str) -> Self {
        endpoint.clone_into(&mut self.endpoint);
        self
    }
    /// Another `resource_id` than the shared server's, or none.
    pub(crate) fn resource(mut self, key: &str) -> Self {
        key.clone_into(&mut self.resource);
        self
    }
    /// The form of the role's policies, which `pgpassport policy` prints for this world's configuration.
    pub(crate) fn policies(mut self, form: policy::PlanOptions) -> Self {
        self.printed = form;
        self
    }
    /// The proxy resolves the endpoint's name, by `resolver`.
    pub(crate) fn resolver(mut self, resolver: Resolver, ca: &Ca) -> Self {
        (self.resolver, self.ca) = (Some(resolver), Some(ca.clone()));
        self.hostaddr.clear();
        self
    }
    /// The proxy's clock is that of issuer and STS, which a test can move. The database's is not.
    pub(crate) fn one_clock(mut self) -> Self {
        self.one_clock = true;
        self
    }
    /// Changes the options of the service: its clock, its rules for tasks, the source of a reload.
    pub(crate) fn service_with(
        mut self,
        change: impl Fn(&mut ServiceOptions) + Send + Sync + 'static,
    ) -> Self {
        self.change = Some(Arc::new(change));
        self
    }
    /// The issuer is down when the proxy starts.
    pub(crate) fn issuer_down(mut self) -> Self {
        self.issuer_down = true;
        self
    }
    pub(crate) async fn start(self) -> World {
        World::build(self).await
    }

    /// The time, and where names lead.
    pub(super) fn environment(self, cloud: &Cloud) -> AppEnvironment {
        let mut outside = AppEnvironment::default();
        if self.one_clock {
            let clock = cloud.clock.clone();
            let seconds = move || Duration::from_secs(clock.unix().try_into().unwrap());
            outside.clock = Clock::from_fn(move || UNIX_EPOCH + seconds());
        }
        if let Some(resolver) = self.resolver {
            outside.resolver = resolver;
        }
        outside
    }

    fn hostaddr(&self) -> String {
        let addresses: Vec<_> = self.hostaddr.iter().map(ToString::to_string).collect();
        if addresses.is_empty() { String::new() } else { format!("hostaddr = {addresses:?}") }
    }

    fn second(&self, files: &CertFiles) -> String {
        let Some(keys) = &self.second else { return String::new() };
        let (cert, key) = (files.cert.display(), files.key.display());
        if keys.contains("unix:") {
            let folder = files.cert.parent().unwrap().display().to_string();
            return format!("[[listen]]\n{}\n", keys.replace("@folder@", &folder));
        }
        format!(
            "[[listen]]\naddr = \"127.0.0.1:0\"\ntls_cert_file = \"{cert}\"\ntls_key_file = \"{key}\"\n{keys}\n"
        )
    }

    #[expect(clippy::too_many_lines, reason = "one template")]
    pub(super) fn toml(&self, cloud: &Cloud, files: &CertFiles, ca: &Path) -> String {
        format!(
            r#"
            [[listen]]
            addr = "127.0.0.1:0"
            tls_cert_file = "{cert}"
            tls_key_file = "{key}"
            {name}
            {listen}
            {second}
            [limits]
            {limits}
            [session]
            {session}
            {admin}
            [reload]
            {reload}
            {pool}
            {pages}
            [cancel]
            {cancel}
            [[issuer]]
            name = "idp"
            url = "{issuer_url}"
            audience = ["{audience}"]
            private_network = true
            {issuer}
            [[cluster]]
            name = "app"
            endpoint = "{endpoint}"
            {hostaddr}
            region = "{region}"
            {role}
            {resource}
            ca_file = "{ca}"
            sts_endpoint_url = "{sts}"
            {cluster}
            {user_header}
            {user}
            "#,
            cert = files.cert.display(),
            key = files.key.display(),
            name = log::name_for(&self.listen),
            listen = self.listen,
            second = self.second(files),
            limits = self.limits,
            cancel = self.cancel,
            hostaddr = self.hostaddr(),
            session = self.session,
            admin = self.admin,
            reload = self.reload,
            pool = self.pool,
            pages = self
                .pages
                .replace("@cert@", &files.cert.display().to_string())
                .replace("@key@", &files.key.display().to_string())
                .replace("@folder@", &files.cert.parent().unwrap().display().to_string()),
            issuer_url = cloud.issuer.url(),
            audience = names::AUDIENCE,
            endpoint = self.endpoint,
            region = names::REGION,
            role = self.role,
            issuer = self.issuer,
            resource = self.resource,
            ca = ca.display(),
            sts = cloud.sts.url(),
            cluster = self.cluster,
            user_header = if self.user.starts_with("[[cluster.user]]") { "" } else { "[cluster.user]" },
            user = self
                .user
                .replace("@upstream-ca@", &ca.display().to_string())
                .replace("@sts@", &cloud.sts.url()),
        )
    }
}
