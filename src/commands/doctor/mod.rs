//! `pgpassport doctor`: walks the whole chain with a real token, link by link, and says which one is broken, why, and
//! what to change. It goes the way of a login, with the very steps of a login.

mod access;
mod args;
mod certificates;
mod issuers;
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
pub use self::render::{OutputStyle, json, text};
use self::report::LinkProblem;
pub use self::report::{ChainLink, DoctorReport, Finding, LinkState};
use crate::app::egress;
use crate::aws::retry::StsTimes;
use crate::clock::Clock;
use crate::config::Config;
use crate::net::outgoing::Outgoing;
use crate::net::peer_clocks::PeerClocks;
use crate::net::resolver::Resolver;
use crate::secret::Jwt;

/// Where the token was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// Standard input.
    StandardInput,
    /// A file that its owner alone can read.
    PrivateFile(PathBuf),
    /// A file that others can read, by its mode.
    OpenFile(PathBuf),
}

/// What is to be examined.
#[derive(Debug)]
pub struct DoctorRequest {
    /// A real token.
    pub jwt: Jwt,
    /// Its source.
    pub source: TokenSource,
    /// This cluster, where several could be meant.
    pub cluster: Option<String>,
    /// This database instead of the cluster's first.
    pub database: Option<String>,
    /// Waits of the call to STS.
    pub sts_times: StsTimes,
    /// A call to STS that takes longer is worth a warning: it is part of every first login.
    pub sts_slow: Duration,
    /// Waits for the database's answers.
    pub patience: Duration,
}

impl DoctorRequest {
    /// With the usual waits.
    pub fn new(jwt: Jwt) -> Self {
        Self {
            jwt,
            source: TokenSource::StandardInput,
            cluster: None,
            database: None,
            sts_times: StsTimes::of(Duration::from_secs(10)),
            sts_slow: Duration::from_secs(2),
            patience: Duration::from_mins(1),
        }
    }
}

/// Examines everything, in the order of a login. The token is spent.
pub async fn examine(config: Config, question: DoctorRequest, clock: &Clock, report: &mut DoctorReport<'_>) {
    let DoctorRequest { jwt, source, cluster, database, sts_times, sts_slow, patience } = question;
    let resolver = Resolver::system();
    // A file that cannot be read is a problem of the configuration, which is reported first.
    let outgoing = Outgoing::new(resolver.clone(), egress(&config.egress).unwrap_or_default())
        .with_clocks(PeerClocks::new(clock.clone()));
    setup::config(&config, report);
    setup::listeners(&config.listeners, clock.now(), report);
    let usable = issuers::examine(&config.issuers, &outgoing, clock.now(), report).await;
    token::source(&source, report);
    let claims = token::examine(&jwt, &config.issuers, &usable, (clock, &outgoing), report).await;
    let wanted = access::AccessRequest { cluster: cluster.as_deref(), database: database.as_deref() };
    let listener = config.listeners.first().map_or("", |listen| listen.name.as_str()).to_owned();
    let clusters: Vec<_> = config.clusters.into_iter().map(Arc::new).collect();
    let Some(claims) = claims else {
        report.skip_all(&access::LINKS, "not tried: the token is not good");
        report.skip_all(&sts::LINKS, "not tried: STS is asked for good tokens only");
        report.skip_all(&upstream::LINKS, "not tried: the database is dialled for good tokens only");
        report.skip_all(&session::LINKS, "not tried: there is no session");
        return;
    };
    let Some((grant, tags)) = access::examine(claims, &clusters, wanted, &listener, report) else {
        report.skip_all(&sts::LINKS, "not tried: nobody is granted a login");
        report.skip_all(&upstream::LINKS, "not tried: nobody is granted a login");
        report.skip_all(&session::LINKS, "not tried: there is no session");
        return;
    };
    let token = sts::examine(jwt, &grant, tags, (sts_times, sts_slow), (clock, &outgoing), report).await;
    let dialed =
        upstream::dial(&grant, config.limits.server_connect_timeout, resolver, clock.now(), report).await;
    match upstream::log_in(&grant, dialed, token, (patience, outgoing.clocks()), report).await {
        Some(upstream) => session::examine(upstream, &grant, clock, patience, report).await,
        None => report.skip_all(&session::LINKS, "not tried: there is no session"),
    }
}

/// Whole seconds as people say them.
fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
