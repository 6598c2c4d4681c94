//! The validated configuration: every value checked, every required value present. Each step borrows its own
//! settings struct, never the whole [`Config`].

mod access;
mod admin;
mod audit;
mod cancel;
pub mod client;
mod cluster;
mod database_protocol;
mod denied;
mod document;
mod egress;
mod endpoint;
mod environment;
mod issuer;
mod limits;
mod listen;
mod log;
mod named_file;
mod pages;
mod parse;
mod partition;
mod pool;
pub mod problem;
pub mod problems;
mod reader;
mod readers;
mod reload;
mod restart_only;
mod route;
mod rules;
mod running_keys;
mod schema;
mod session;
mod trust_anchors;
mod user;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use access::{GroupSettings, OptionRules, RoleMapping};
pub use admin::{CONSOLE_DATABASES, ConsoleRules};
pub use audit::{AuditSettings, WhenUnwritable};
pub use cancel::CancelSettings;
pub use database_protocol::DatabaseProtocol;
pub use denied::DeniedSettings;
pub use egress::EgressSettings;
pub use environment::{Environment, KeySource, WHOLE_FILE};
pub use issuer::{AcceptedIssuer, IssuerSettings, SignatureAlgorithm};
pub use limits::LimitSettings;
pub use listen::{ListenAddr, PeerSettings, UnixSocketSettings};
pub use log::{LogFormat, LogLevel, LogSettings};
pub use named_file::{NamedFile, variable_of};
pub use pages::{PageListener, ProfilesSettings, SignInSettings};
pub use pool::PoolSettings;
pub use reload::{ReloadSettings, WatchScope};
pub use route::{ClusterRoute, NamePattern};
pub use rules::ClaimRule;
pub use running_keys::RunningKey;
pub use session::{OnTokenExpiry, SessionSettings};
pub use trust_anchors::TrustAnchors;
pub use user::{NameScope, StartupUser, UserRegex, UserRules, UserSettings};

use crate::names::{Endpoint, Issuer, Region};

/// The whole configuration. Only `app.rs` reads all of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners: at least one, with different addresses.
    pub listeners: Vec<ListenSettings>,
    /// Timeouts and counts.
    pub limits: LimitSettings,
    /// Health and metrics.
    pub admin: AdminSettings,
    /// The page of profiles; off if absent.
    pub profiles: Option<ProfilesSettings>,
    /// The sign-in page; off if absent.
    pub sign_in: Option<SignInSettings>,
    /// Routing of requests to issuers and STS.
    pub egress: EgressSettings,
    /// Lifetime of sessions.
    pub session: SessionSettings,
    /// Logging.
    pub log: LogSettings,
    /// Changed files.
    pub reload: ReloadSettings,
    /// Audit records.
    pub audit: AuditSettings,
    /// Cancel requests.
    pub cancel: CancelSettings,
    /// People and tokens whose access is withdrawn.
    pub denied: Vec<DeniedSettings>,
    /// The connection pool; off if absent.
    pub pool: Option<PoolSettings>,
    /// Accepted issuers, at least one, with different `url`s.
    pub issuers: Vec<IssuerSettings>,
    /// Upstream clusters, at least one. No connection matches two of them.
    pub clusters: Vec<ClusterSettings>,
    /// Valid settings that will probably not work, each with place and reason.
    pub warnings: Vec<String>,
    /// Files that the configuration names, in the order in which its keys are read.
    pub files: Vec<NamedFile>,
    /// The configuration file.
    pub file: PathBuf,
    /// Keys that variables of the environment set.
    pub sources: Vec<KeySource>,
    /// All keys with their values.
    pub keys: Arc<[RunningKey]>,
}

/// `[listen]`, or one `[[listen]]`
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// The operator's name for the listener, in logs. Default: its address.
    pub name: String,
    /// Protocol of its clients.
    pub protocol: DatabaseProtocol,
    /// Version in MySQL's greeting; the cluster's if absent.
    pub server_version: Option<String>,
    /// Address to listen on.
    pub addr: ListenAddr,
    /// Certificate and key; absent at a Unix socket.
    pub tls: Option<ListenTls>,
    /// Mode and group of a Unix socket.
    pub unix_socket: UnixSocketSettings,
    /// Users and groups that may use a Unix socket; all that can open it if absent.
    pub peers: Option<PeerSettings>,
    /// Requirements for client certificates; none if absent.
    pub client_certificate: Option<ClientCertificate>,
    /// True if other processes of the same user may listen on the same port (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// True if a client on the loopback interface may log in without TLS.
    pub plaintext_from_loopback: bool,
    /// Networks whose connections must begin with a PROXY protocol header, which is trusted.
    pub proxy_protocol_from: Vec<ipnet::IpNet>,
    /// Method of requesting the token.
    pub auth: ListenAuth,
}

/// Certificate and key of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
}

/// Method of requesting the client's token.
#[derive(Clone, Debug)]
pub enum ListenAuth {
    /// Cleartext password.
    Password,
    /// SASL OAUTHBEARER.
    OAuthBearer {
        /// Issuer named to clients without a token.
        issuer: Issuer,
        /// Scope named to clients.
        scope: String,
    },
    /// MySQL's plugin for OpenID Connect.
    OpenIdConnect,
}

/// Requirements for client certificates.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Certificate authorities of the clients, PEM.
    pub ca_file: PathBuf,
    /// True if a client without a certificate is rejected.
    pub required: bool,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// HTTP address of health and metrics; off if absent.
    pub addr: Option<SocketAddr>,
    /// True if other machines are meant to reach it.
    pub public: bool,
    /// People who may use the console.
    pub console: ConsoleRules,
}

/// A `[[cluster]]`
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// The operator's name for it.
    pub name: String,
    /// Protocol of its servers.
    pub engine: DatabaseProtocol,
    /// Host and port of the server, as in its certificate and in the IAM token.
    pub endpoint: Endpoint,
    /// Addresses to connect to instead of resolving the endpoint's name (libpq's `hostaddr`), in this order;
    /// at most 8. Empty to resolve the name.
    pub hostaddr: Vec<SocketAddr>,
    /// Region of the database.
    pub region: Region,
    /// Service behind the endpoint.
    pub kind: EndpointKind,
    /// Roles that people assume with their token.
    pub roles: RoleMapping,
    /// `cluster-…`, `db-…` or `prx-…`, for the session policy; any if absent.
    pub resource_id: Option<String>,
    /// Certificate authorities of the server.
    pub authorities: TrustAnchors,
    /// True if TLS begins without an SSLRequest (PostgreSQL 17, `sslnegotiation=direct`).
    pub direct_tls: bool,
    /// STS endpoint: the Region's, or the configured one.
    pub sts_endpoint_url: url::Url,
    /// Certificate authorities of STS, PEM; the system's if absent.
    pub sts_ca_file: Option<PathBuf>,
    /// Requested lifetime of the role credentials, 900 s to 12 h.
    pub sts_duration: Duration,
    /// Most concurrent sessions; unlimited if absent.
    pub max_client_conn: Option<usize>,
    /// Most new logins per second; 0 for unlimited.
    pub max_logins_per_second: usize,
    /// Method of tying the credentials to the database user.
    pub pin: PinMode,
    /// Rules for deriving the database user, by issuer.
    pub user: UserRules,
    /// Connections that this cluster serves.
    pub route: ClusterRoute,
    /// Names of the issuers whose people may use the cluster; all if absent.
    pub issuers: Option<Vec<String>>,
    /// Rules; one must hold for the token. `None` allows all.
    pub allow: Option<Vec<ClaimRule>>,
    /// Restrictions on settings in the startup packet.
    pub options: OptionRules,
    /// Groups with their settings; the first match applies.
    pub groups: Vec<GroupSettings>,
}

/// Service behind an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// A cluster, reader, custom or instance endpoint of Aurora PostgreSQL.
    Aurora,
    /// An instance or Multi-AZ cluster of RDS for PostgreSQL.
    Rds,
    /// An endpoint of RDS Proxy.
    RdsProxy,
    /// A cluster of Aurora DSQL.
    Dsql,
}

impl EndpointKind {
    /// True if the server supports cancel requests (Aurora user guide, "RDS Proxy": limitations for
    /// PostgreSQL).
    pub fn takes_cancels(self) -> bool {
        self != Self::RdsProxy
    }
}

/// Method of tying the role credentials to the database user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    /// An inline session policy allows `rds-db:connect` as this user only.
    SessionPolicy,
    /// The token must carry the session tag `dbuser` with exactly this user.
    SessionTag,
    /// Session policy and session tag.
    Both,
    /// Neither: only the role's own policy applies.
    None,
}

impl PinMode {
    /// True if the session policy is sent.
    pub fn by_policy(self) -> bool {
        matches!(self, Self::SessionPolicy | Self::Both)
    }

    /// True if the session tag is required.
    pub fn by_tag(self) -> bool {
        matches!(self, Self::SessionTag | Self::Both)
    }
}

#[cfg(test)]
pub(crate) mod test_fixture;
#[cfg(test)]
mod tests;
