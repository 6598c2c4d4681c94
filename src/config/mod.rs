//! What the program believes after reading `proxy.toml`: every value checked, nothing left optional that
//! must be there. The steps borrow their own settings struct from here, never the whole [`Config`].

mod access;
mod admin;
mod audit;
mod cancel;
pub mod client;
mod cluster;
mod denied;
mod egress;
mod endpoint;
mod issuer;
mod limits;
mod listen;
mod named_file;
mod parse;
mod partition;
mod pool;
pub mod problem;
mod reader;
mod readers;
mod restart_only;
mod route;
mod rules;
mod session;
mod user;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use access::{GroupSettings, OptionRules, RoleMapping};
pub use audit::{AuditSettings, WhenUnwritable};
pub use denied::DeniedSettings;
pub use egress::EgressSettings;
pub use issuer::{AcceptedIssuer, SignatureAlgorithm};
pub use named_file::NamedFile;
pub use pool::PoolSettings;
pub use route::{ClusterRoute, NamePattern};
pub use rules::ClaimRule;
pub use user::{NameScope, StartupUser, UserRegex, UserRules, UserSettings};

use crate::names::{Endpoint, Issuer, Region};

/// The whole configuration. Only `app.rs` reads all of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect: at least one, no two with the same address.
    pub listeners: Vec<ListenSettings>,
    /// Waits and counts.
    pub limits: LimitSettings,
    /// Health and metrics.
    pub admin: AdminSettings,
    /// The way to issuers and STS.
    pub egress: EgressSettings,
    /// The life of a session.
    pub session: SessionSettings,
    /// Logging.
    pub log: LogSettings,
    /// Audit records.
    pub audit: AuditSettings,
    /// Cancel requests.
    pub cancel: CancelSettings,
    /// Whose access is withdrawn.
    pub denied: Vec<DeniedSettings>,
    /// The warm pool; there is none when absent.
    pub pool: Option<PoolSettings>,
    /// The accepted issuers, at least one, no two with the same `url`.
    pub issuers: Vec<IssuerSettings>,
    /// The upstreams, at least one; no connection leads to two of them.
    pub clusters: Vec<ClusterSettings>,
    /// What is allowed and will probably not work, each with place and reason.
    pub warnings: Vec<String>,
    /// Files that the configuration names, in the order in which its keys are read.
    pub files: Vec<NamedFile>,
}

/// `[listen]`, or one `[[listen]]`
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// The operator's name for it, in logs; its address when it has none.
    pub name: String,
    /// Address and port to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// PEM file with the listener's certificate chain.
    pub tls_cert_file: PathBuf,
    /// PEM file with its private key.
    pub tls_key_file: PathBuf,
    /// Which certificates clients have to show; none when absent.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether other processes of the same user may listen there too (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Whether a client on the loopback interface may log in without TLS.
    pub plaintext_from_loopback: bool,
    /// Networks whose connections have to begin with a PROXY protocol header, and are believed.
    pub proxy_protocol_from: Vec<ipnet::IpNet>,
    /// How clients are asked for their token.
    pub auth: ListenAuth,
}

/// How clients of a listener are asked for their token.
#[derive(Clone, Debug)]
pub enum ListenAuth {
    /// As a cleartext password.
    Password,
    /// By SASL OAUTHBEARER.
    OAuthBearer {
        /// The issuer that clients without a token are sent to.
        issuer: Issuer,
        /// The scope that they shall ask for there.
        scope: String,
    },
}

/// The certificates that clients may, or have to, show.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// PEM file with the certificate authorities that sign them.
    pub ca_file: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}

/// `[limits]`
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// From accept to the end of the client's token, in all.
    pub client_login_timeout: Duration,
    /// From accept to the session's ReadyForQuery, in all.
    pub login_timeout: Duration,
    /// One TCP and TLS connection attempt to the upstream, all addresses together.
    pub server_connect_timeout: Duration,
    /// Sessions at the same time, logins in progress included.
    pub max_client_conn: usize,
    /// Sessions of one person at the same time, in all clusters together; any number when absent.
    pub max_user_client_connections: Option<usize>,
    /// Connections that have not shown a good token yet, at the same time; below `max_client_conn`.
    pub max_logins: usize,
    /// Those of them that come from one address (IPv6: one /64); any number when absent.
    pub max_logins_per_address: Option<usize>,
    /// Time between SIGTERM and the close of the listeners. Clients are served meanwhile.
    pub shutdown_delay: Duration,
    /// How long sessions may go on after that.
    pub shutdown_timeout: Duration,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Where health and metrics are asked for over HTTP; nowhere when absent.
    pub addr: Option<SocketAddr>,
}

/// `[session]`
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// How long a client may be silent outside a transaction; for ever when absent.
    pub client_idle_timeout: Option<Duration>,
    /// How long a client may be silent inside one.
    pub idle_transaction_timeout: Option<Duration>,
    /// How old a session may become.
    pub max_lifetime: Option<Duration>,
    /// What becomes of it when its token expires.
    pub on_token_expiry: OnTokenExpiry,
    /// How long before that the client is told so.
    pub token_expiry_notice: Option<Duration>,
}

/// What becomes of a session whose token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTokenExpiry {
    /// Nothing: the token was for the login.
    Keep,
    /// It ends at the first moment out of a transaction.
    CloseWhenIdle,
    /// It ends within 5 s.
    Close,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Lowest level that is written.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

/// `[cancel]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelSettings {
    /// File with the secret that all replicas share; a random one for this process alone when absent.
    pub secret_file: Option<PathBuf>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Faults of the proxy itself.
    Error,
    /// And faults of others that an operator should know of.
    Warn,
    /// And the life of the service.
    Info,
    /// And each step of each session.
    Debug,
    /// And everything else; never secrets.
    Trace,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// One `[[issuer]]`
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerSettings {
    /// The operator's name for it, in logs.
    pub name: String,
    /// The exact `iss`, or with `tenants` the template of it; the discovery document is below it.
    pub issuer: Issuer,
    /// Tenants whose ids may stand in place of [`TENANT`](IssuerSettings::TENANT) in `issuer`, lower-case; none for an
    /// `issuer` that is no template.
    pub tenants: Vec<String>,
    /// Where the key set is, when discovery is not to be asked.
    pub jwks_url: Option<url::Url>,
    /// Accepted `aud` values, at least one.
    pub audience: Vec<String>,
    /// Accepted signature algorithms, at least one.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Accepted header `typ` values, lower-case; an absent `typ` is always accepted.
    pub token_types: Vec<String>,
    /// Clock difference forgiven in `exp`, `nbf` and `iat`, at most 300 s.
    pub leeway: Duration,
    /// Longest accepted `exp - iat`.
    pub max_token_lifetime: Duration,
    /// PEM file with the certificate authorities of the issuer; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Whether the issuer may resolve to a private or loopback address (and be plain http on loopback).
    pub private_network: bool,
    /// How often the key set is fetched again.
    pub jwks_refresh: Duration,
    /// How long the last good key set is used while fetching fails.
    pub jwks_max_stale: Duration,
    /// Longest time of one request for the discovery document or the key set.
    pub jwks_timeout: Duration,
    /// Longest discovery document and key set, in bytes.
    pub jwks_max_bytes: usize,
    /// Least time between two fetches that tokens with unknown keys or bad signatures ask for.
    pub jwks_refetch_interval: Duration,
    /// Every one of these must hold for a token to be accepted.
    pub require: Vec<ClaimRule>,
    /// The claim that names the person in this issuer's tokens, instead of the cluster's.
    pub user_claim: Option<Vec<String>>,
}

/// One `[[cluster]]`
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// The operator's name for it.
    pub name: String,
    /// Name and port of the server: what its certificate must say and what the IAM token is signed for.
    pub endpoint: Endpoint,
    /// Where to connect instead of resolving the endpoint's name (libpq's `hostaddr`), in this order; at most 8.
    /// Empty to resolve it.
    pub hostaddr: Vec<SocketAddr>,
    /// Region of the database.
    pub region: Region,
    /// What is behind the endpoint.
    pub kind: EndpointKind,
    /// The role that users assume with their token.
    pub roles: RoleMapping,
    /// `cluster-…`, `db-…` or `prx-…`, for the session policy; any when absent.
    pub resource_id: Option<String>,
    /// PEM file with the certificate authorities of the server; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Whether TLS begins without an SSLRequest (PostgreSQL 17, `sslnegotiation=direct`).
    pub direct_tls: bool,
    /// The STS endpoint: the Region's own, or the configured one.
    pub sts_endpoint_url: url::Url,
    /// PEM file with the certificate authorities of STS; the system's when absent.
    pub sts_ca_file: Option<PathBuf>,
    /// Lifetime asked of STS for the role credentials, 900 s to 12 h.
    pub sts_duration: Duration,
    /// Sessions at the same time; any number when absent.
    pub max_client_conn: Option<usize>,
    /// New logins that may begin in any second; 0 for any number.
    pub max_logins_per_second: usize,
    /// How the database user is tied to the credentials.
    pub pin: PinMode,
    /// How the database user is derived, by issuer.
    pub user: UserRules,
    /// Which connections lead here.
    pub route: ClusterRoute,
    /// Names of the issuers whose people may come; all when absent.
    pub issuers: Option<Vec<String>>,
    /// A token must fit one of these; all do when absent.
    pub allow: Option<Vec<ClaimRule>>,
    /// What clients may set while they connect.
    pub options: OptionRules,
    /// Settings by claim; the first group that fits counts.
    pub groups: Vec<GroupSettings>,
}

/// What is behind an endpoint.
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
    /// Whether the server looks at cancel requests (Aurora user guide, "RDS Proxy": limitations for PostgreSQL).
    pub fn takes_cancels(self) -> bool {
        self != Self::RdsProxy
    }
}

/// How the database user is tied to the role credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    /// An inline session policy allows `rds-db:connect` as this user only.
    SessionPolicy,
    /// The token must carry the session tag `dbuser` with this very user.
    SessionTag,
    /// Both of them.
    Both,
    /// Neither: the role's own policy decides.
    None,
}

impl PinMode {
    /// Whether the session policy is sent.
    pub fn by_policy(self) -> bool {
        matches!(self, Self::SessionPolicy | Self::Both)
    }

    /// Whether the session tag is demanded.
    pub fn by_tag(self) -> bool {
        matches!(self, Self::SessionTag | Self::Both)
    }
}

#[cfg(test)]
pub(crate) mod test_fixture;
#[cfg(test)]
mod tests;
