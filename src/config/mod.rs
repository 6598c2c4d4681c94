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
mod named_principal;
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
mod sections;
mod session;
mod traces;
mod trust_anchors;
mod user;

use std::path::PathBuf;
use std::sync::Arc;

pub use access::{GroupSettings, OptionRules, RoleMapping};
pub use admin::{AdminSettings, CONSOLE_DATABASES, ConsoleRules};
pub use audit::{AuditSettings, WhenUnwritable};
pub use cancel::CancelSettings;
pub use cluster::{ClusterSettings, PinMode};
pub use database_protocol::DatabaseProtocol;
pub use denied::DeniedSettings;
pub use egress::EgressSettings;
pub use endpoint::EndpointKind;
pub use environment::{Environment, KeySource, WHOLE_FILE};
pub use issuer::{AcceptedIssuer, IssuerSettings, SignatureAlgorithm};
pub use limits::LimitSettings;
pub use listen::{
    ClientCertificate, ListenAddr, ListenAuth, ListenSettings, ListenTls, PeerSettings, UnixSocketSettings,
};
pub use log::{LogFormat, LogLevel, LogSettings};
pub use named_file::{NamedFile, variable_of};
pub use named_principal::{NamedPrincipal, PrincipalKind};
pub use pages::{PageListener, ProfilesSettings, SignInProxy, SignInSettings};
pub use pool::PoolSettings;
pub use reload::{ReloadSettings, WatchScope};
pub use route::{ClusterRoute, NamePattern};
pub use rules::ClaimRule;
pub use running_keys::RunningKey;
pub use session::{OnTokenExpiry, SessionSettings};
pub use traces::TraceSettings;
pub use trust_anchors::TrustAnchors;
pub use user::{NameScope, StartupUser, UserRegex, UserRules, UserSettings};

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
    /// Traces of logins; off if absent.
    pub traces: Option<TraceSettings>,
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
    /// Users and groups of this machine that the configuration names.
    pub principals: Vec<NamedPrincipal>,
    /// The configuration file.
    pub file: PathBuf,
    /// Keys that variables of the environment set.
    pub sources: Vec<KeySource>,
    /// All keys with their values.
    pub keys: Arc<[RunningKey]>,
}

#[cfg(test)]
pub(crate) mod test_fixture;
#[cfg(test)]
mod tests;
