//! `pgpassport doctor`: checks every step of a login with a real token, in the order and with the code of a
//! login. Without a token it checks the steps that need none. Reports the step that fails, the cause, and the
//! remedy.

mod access;
mod args;
mod certificates;
mod clocks;
mod issuers;
mod login;
mod mysql_session;
mod preflight;
mod render;
mod report;
mod session;
mod setup;
mod sts;
mod sts_advice;
mod token;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::args::DoctorArgs;
use self::preflight::PreflightLimits;
pub use self::render::{OutputStyle, json, text};
use self::report::LinkProblem;
pub use self::report::{ChainLink, DoctorReport, Finding, LinkState};
use crate::app::egress;
use crate::aws::retry::StsTimes;
use crate::clock::Clock;
use crate::config::{Config, DatabaseProtocol};
use crate::identity::Grant;
use crate::mysql::Mysql;
use crate::mysql::own_session::OwnSession;
use crate::mysql::protocol::MysqlStartup;
use crate::mysql::response::ClientFeatures;
use crate::net::outgoing::Outgoing;
use crate::net::peer_clocks::PeerClocks;
use crate::net::resolver::Resolver;
use crate::postgres::Postgres;
use crate::postgres::server_login::UpstreamSession;
use crate::secret::{IamToken, Jwt};

/// Source of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// Standard input.
    StandardInput,
    /// A file that only its owner can read.
    PrivateFile(PathBuf),
    /// A file whose mode lets others read it.
    OpenFile(PathBuf),
}

/// A real token and its source.
#[derive(Debug)]
pub struct TokenInput {
    /// The token.
    pub jwt: Jwt,
    /// Source of the token.
    pub source: TokenSource,
}

/// Input of `doctor`.
#[derive(Debug)]
pub struct DoctorRequest {
    /// A real token. Without one, only the links that need none are checked.
    pub token: Option<TokenInput>,
    /// The cluster to check. Required with a token if several match; without one, every cluster is checked.
    pub cluster: Option<String>,
    /// The database to log in to; default is the cluster's first.
    pub database: Option<String>,
    /// Time limits of the STS call.
    pub sts_times: StsTimes,
    /// Duration of the STS call above which `doctor` warns, because every first login includes it.
    pub sts_slow: Duration,
    /// Longest wait for an answer of the database.
    pub patience: Duration,
}

impl DoctorRequest {
    /// A request with a token and the default time limits.
    pub fn new(jwt: Jwt) -> Self {
        Self { token: Some(TokenInput { jwt, source: TokenSource::StandardInput }), ..Self::preflight() }
    }

    /// A request without a token, with the default time limits.
    pub fn preflight() -> Self {
        Self {
            token: None,
            cluster: None,
            database: None,
            sts_times: StsTimes::of(Duration::from_secs(10)),
            sts_slow: Duration::from_secs(2),
            patience: Duration::from_mins(1),
        }
    }
}

/// Checks everything, in the order of a login. Consumes the token.
pub async fn examine(
    config: Config,
    mut question: DoctorRequest,
    clock: &Clock,
    report: &mut DoctorReport<'_>,
) {
    let resolver = Resolver::system();
    // An unreadable file is a problem of the configuration, which is reported first.
    let outgoing = Outgoing::new(resolver.clone(), egress(&config.egress).unwrap_or_default())
        .with_clocks(PeerClocks::new(clock.clone()));
    setup::config(&config, report);
    setup::listeners(&config.listeners, clock.now(), report);
    let usable = issuers::examine(&config.issuers, &outgoing, clock.now(), report).await;
    if let Some(token) = question.token.take() {
        let network = (clock, &outgoing, resolver);
        return examine_login(config, question, (token, &usable), network, report).await;
    }
    let limits = PreflightLimits { sts: question.sts_times, connect: config.limits.server_connect_timeout };
    let network = (clock.now(), &outgoing, &resolver);
    preflight::examine(&config.clusters, question.cluster.as_deref(), limits, network, report).await;
    clocks::examine(outgoing.clocks(), report);
}

/// Checks the token and a login with it. Keys are fetched from the issuers that are `usable`.
async fn examine_login(
    config: Config,
    question: DoctorRequest,
    (TokenInput { jwt, source }, usable): (TokenInput, &[String]),
    (clock, outgoing, resolver): (&Clock, &Outgoing, Resolver),
    report: &mut DoctorReport<'_>,
) {
    let DoctorRequest { cluster, database, sts_times, sts_slow, patience, .. } = question;
    token::source(&source, report);
    let claims = token::examine(&jwt, &config.issuers, usable, (clock, outgoing), report).await;
    let wanted = access::AccessRequest { cluster: cluster.as_deref(), database: database.as_deref() };
    let listener = config.listeners.first().map_or("", |listen| listen.name.as_str()).to_owned();
    let clusters: Vec<_> = config.clusters.into_iter().map(Arc::new).collect();
    let Some(claims) = claims else {
        report.skip_all(&access::LINKS, "not tried: the token is not valid");
        report.skip_all(&sts::LINKS, "not tried: STS is called only with a valid token");
        let why = "not tried: the database is contacted only with a valid token";
        return end_without_login(why, outgoing, report);
    };
    let Some((grant, tags)) = access::examine(claims, &clusters, wanted, &listener, report) else {
        report.skip_all(&sts::LINKS, "not tried: the login is not allowed");
        return end_without_login("not tried: the login is not allowed", outgoing, report);
    };
    let token = sts::examine(jwt, &grant, tags, (sts_times, sts_slow), (clock, outgoing), report).await;
    let limits = (config.limits.server_connect_timeout, patience);
    let network = (resolver, clock, outgoing.clocks());
    match grant.cluster().engine {
        DatabaseProtocol::PostgreSql => in_postgres(&grant, token, limits, network, report).await,
        DatabaseProtocol::MySql => in_mysql(&grant, token, limits, network, report).await,
    }
}

const NO_SESSION: &str = "not tried: there is no session";

/// Logs in at PostgreSQL and checks the session.
async fn in_postgres(
    grant: &Grant,
    token: Option<IamToken>,
    (connect, patience): (Duration, Duration),
    (resolver, clock, clocks): (Resolver, &Clock, &PeerClocks),
    report: &mut DoctorReport<'_>,
) {
    let network = (resolver, clock.now());
    let dialed = upstream::dial::<Postgres>(grant.cluster(), grant, (&(), connect), network, report).await;
    clocks::examine(clocks, report);
    let remedy = |error: &_| login::postgres_remedy(error, grant);
    let limits = (patience, clocks);
    let opened = match login::postgres_startup(report) {
        Some(startup) => login::log_in(grant, (dialed, &startup, token), limits, remedy, report).await,
        None => None,
    };
    match opened {
        Some((dialed, reply)) => {
            let session = UpstreamSession::opened(dialed, reply);
            session::examine(session, grant, clock, patience, report).await;
        }
        None => report.skip_all(&session::LINKS, NO_SESSION),
    }
}

/// Logs in at MySQL or MariaDB and checks the session.
async fn in_mysql(
    grant: &Grant,
    token: Option<IamToken>,
    (connect, patience): (Duration, Duration),
    (resolver, clock, clocks): (Resolver, &Clock, &PeerClocks),
    report: &mut DoctorReport<'_>,
) {
    let (hello, network) = (ClientFeatures::default(), (resolver, clock.now()));
    let dialed = upstream::dial::<Mysql>(grant.cluster(), grant, (&hello, connect), network, report).await;
    clocks::examine(clocks, report);
    let startup = MysqlStartup::without_client("pgpassport doctor");
    let remedy = |error: &_| login::mysql_remedy(error, grant);
    let login = (dialed, &startup, token);
    match login::log_in(grant, login, (patience, clocks), remedy, report).await {
        Some((dialed, reply)) => {
            let session = OwnSession::opened(dialed, &reply);
            mysql_session::examine(session, grant, clock, patience, report).await;
        }
        None => report.skip_all(&session::LINKS, NO_SESSION),
    }
}

/// Skips the links from the database's address on, except the clocks.
fn end_without_login(why: &str, outgoing: &Outgoing, report: &mut DoctorReport<'_>) {
    report.skip_all(&upstream::LINKS, why);
    clocks::examine(outgoing.clocks(), report);
    report.skip(ChainLink::Login, why);
    report.skip_all(&session::LINKS, NO_SESSION);
}

/// Duration in seconds for display.
fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
