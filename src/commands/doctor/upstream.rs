//! Doctor: the database's addresses, connection, certificate, and login.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::LinkProblem;
use super::certificates::CertificateChain;
use super::report::{ChainLink, DoctorReport, hint_of};
use crate::config::ClusterSettings;
use crate::identity::Grant;
use crate::names::{printable, sql_identifier, visible};
use crate::net::dial::{DialError, Dialed, Dialer};
use crate::net::dial_permission::DialPermission;
use crate::net::peer_clocks::PeerClocks;
use crate::net::resolver::Resolver;
use crate::net::start_tls::StartTls;
use crate::postgres::Postgres;
use crate::postgres::server_login::{LoginStep, ServerError, UpstreamLoginError, UpstreamSession};
use crate::postgres::startup::StartupParams;
use crate::protocol::LoginFailure;
use crate::secret::IamToken;
use crate::session::explain::explain;
use crate::session::open;
use crate::session::outcome::LoginError;

/// Longest string of the server that is shown, in bytes.
const MAX_SHOWN: usize = 512;

const SERVERS_WORDS: &str = "The server refused with this message.";

/// Remedy for a refused IAM token. The server sends the same message for every reason.
const IAM_REFUSED: &str = "One of these, in the order of likelihood: the role's permission policy has to allow rds-db:connect \
    as this user on the database's resource id (`pgpassport policy` prints it); cluster.resource_id has to be that id, as \
    the session policy is made of it; cluster.endpoint has to be host and port as AWS shows them; this machine's clock \
    has to be right. The database's log export iam-db-auth-error names the reason.";

const RENEW: &str =
    "Renew the server's certificate (aws rds modify-db-instance --ca-certificate-identifier).";

pub(super) const LINKS: [ChainLink; 3] = [ChainLink::Dns, ChainLink::Tcp, ChainLink::Tls];

/// Opens a verified connection to the database, if possible.
pub(super) async fn dial<P: StartTls>(
    cluster: &ClusterSettings,
    permission: &impl DialPermission,
    (hello, wait): (&P::Hello, Duration),
    (resolver, now): (Resolver, SystemTime),
    report: &mut DoctorReport<'_>,
) -> Option<Dialed<P>> {
    let dialer = match Dialer::<P>::new(cluster, wait, resolver) {
        Ok(dialer) => Arc::new(dialer),
        Err(error) => {
            report.skip_all(&[ChainLink::Dns, ChainLink::Tcp], "not tried: cluster.ca_file cannot be used");
            let remedy =
                "Set cluster.ca_file to \"rds\", or to a file with the RDS bundle (certs/README.md).";
            report.fail(ChainLink::Tls, LinkProblem::new(error.to_string(), remedy));
            return None;
        }
    };
    match dialer.resolve(permission).await {
        Ok(addresses) => {
            let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let how = if cluster.hostaddr.is_empty() { "" } else { " (cluster.hostaddr, DNS is not asked)" };
            report.ok(ChainLink::Dns, format!("{} is at {}{how}", cluster.endpoint.host(), shown.join(", ")));
        }
        Err(error) => {
            let remedy = "Check cluster.endpoint, and that this machine's DNS knows the VPC's names.";
            report.fail(ChainLink::Dns, LinkProblem::new(error.to_string(), remedy));
            report.skip_all(&[ChainLink::Tcp, ChainLink::Tls], "not tried: there is no address");
            return None;
        }
    }
    let begun = Instant::now();
    match dialer.dial(permission, hello, begun + wait).await {
        Ok(dialed) => {
            let facts = dialed.facts();
            report.ok(
                ChainLink::Tcp,
                format!("{} answers, {} ms with TLS", facts.addr, begun.elapsed().as_millis()),
            );
            let authorities = &cluster.authorities;
            let chain = CertificateChain {
                whose: "",
                what: "the server's certificate",
                certificates: &facts.certificates,
                remedy: RENEW,
                matters: "No login is possible.",
                order: None,
            };
            chain.tell(
                ChainLink::Tls,
                &format!(", {}, verified by {authorities}", facts.protocol),
                now,
                report,
            );
            Some(dialed)
        }
        Err(error) => {
            unreachable(&error, report);
            None
        }
    }
}

/// True if a certificate is unfit by itself, with any set of trusted authorities.
pub(super) fn is_to_be_reissued(problem: &str) -> bool {
    ["X.509", "CA:TRUE", "extension", "not accepted"].iter().any(|word| problem.contains(word))
}

fn unreachable(error: &DialError, report: &mut DoctorReport<'_>) {
    let found = error.to_string();
    match error {
        DialError::Resolve { .. } | DialError::Connect { .. } | DialError::TimedOut => {
            let remedy = "Let this machine reach the database's port: security group, routes, network ACL. A cluster that \
                          wakes up takes up to 30 seconds (limits.server_connect_timeout).";
            report.fail(ChainLink::Tcp, LinkProblem::new(found, remedy));
            report.skip(ChainLink::Tls, "not tried: there is no connection");
        }
        DialError::Handshake { .. } => {
            report.ok(ChainLink::Tcp, "the port accepts connections");
            let remedy = "Try again in a moment: the server is starting, stopping or overloaded. If it stays, look at its log, \
                          and at what stands between.";
            report.fail(ChainLink::Tls, LinkProblem::new(found, remedy));
        }
        DialError::NoTls(_) | DialError::WrongProtocol { .. } => {
            report.ok(ChainLink::Tcp, "the port accepts connections");
            let remedy = "Check host and port of cluster.endpoint and cluster.hostaddr: the server is not an RDS server with TLS.";
            report.fail(ChainLink::Tls, LinkProblem::new(found, remedy));
        }
        DialError::Tls { problem, .. } => {
            report.ok(ChainLink::Tcp, "the port accepts connections");
            let remedy = if problem.contains("not valid for") {
                "Write cluster.endpoint as AWS shows it (never a CNAME); an address to dial instead goes into hostaddr."
            } else if problem.contains("ALPN") {
                "Leave cluster.direct_tls out: it takes PostgreSQL 17 or later, or something in front that looks at the \
                 server name."
            } else if problem.contains("xpired") {
                RENEW
            } else if is_to_be_reissued(problem) {
                "Give the server a certificate of X.509 version 3 of its own (CA:FALSE) with its name in subjectAltName."
            } else {
                "Set cluster.ca_file to the authorities that sign the server's certificate: \"rds\" for Aurora and RDS, \
                 \"system\" for RDS Proxy and DSQL."
            };
            report.fail(ChainLink::Tls, LinkProblem::new(found, remedy));
        }
    }
}

/// Logs in as the granted user, up to the first ReadyForQuery.
pub(super) async fn log_in(
    grant: &Grant,
    dialed: Option<Dialed<Postgres>>,
    token: Option<IamToken>,
    (patience, clocks): (Duration, &PeerClocks),
    report: &mut DoctorReport<'_>,
) -> Option<UpstreamSession> {
    let (Some(mut dialed), Some(token)) = (dialed, token) else {
        report.skip(ChainLink::Login, "not tried: it takes a verified connection and an IAM token");
        return None;
    };
    // Visible in pg_stat_activity.
    let startup = StartupParams::parse(b"\0\x03\0\0user\0doctor\0application_name\0pgpassport doctor\0\0");
    let startup = match startup {
        Ok(startup) => startup,
        Err(error) => {
            report.fail(
                ChainLink::Login,
                LinkProblem::new(error.to_string(), "This is a fault of pgpassport: report it."),
            );
            return None;
        }
    };
    let deadline = Instant::now() + patience;
    match open::log_in(&mut dialed, (grant, &startup), token, deadline).await {
        Ok(said) => {
            let (user, database) = (grant.db_user().as_str(), grant.database().as_str());
            report.ok(
                ChainLink::Login,
                format!(
                    "the server takes the token of \"{}\" for database \"{}\"",
                    printable(user, 63),
                    printable(database, 63)
                ),
            );
            Some(UpstreamSession::opened(dialed, said))
        }
        Err(LoginFailure::Silent(_)) => {
            let found = format!("the server did not finish the login within {} s", patience.as_secs());
            report.fail(
                ChainLink::Login,
                LinkProblem::new(found, "Try again; check the server's load and log."),
            );
            None
        }
        Err(error) => {
            report.fail(ChainLink::Login, refused(error, grant, clocks));
            None
        }
    }
}

fn refused(error: LoginFailure<UpstreamLoginError>, grant: &Grant, clocks: &PeerClocks) -> LinkProblem {
    let found = visible(&error.to_string(), MAX_SHOWN);
    let remedy = match &error {
        LoginFailure::Server(UpstreamLoginError::Refused(error)) => remedy(error, grant),
        _ => None,
    };
    let why = LoginError::from(error);
    let refusal = explain(&why);
    let remedy = remedy
        .unwrap_or_else(|| refusal.hint.as_ref().map_or(SERVERS_WORDS.to_owned(), |_| hint_of(&refusal)));
    let problem = if refusal.words.is_some() {
        LinkProblem::new(found, remedy)
    } else {
        LinkProblem::new(refusal.detail, remedy).because(found)
    };
    problem.by_clock(&why, clocks)
}

/// Remedy for a refusal of the server, if it differs from the hint that a client gets.
fn remedy(error: &ServerError, grant: &Grant) -> Option<String> {
    let user = sql_identifier(grant.db_user().as_str());
    let database = sql_identifier(grant.database().as_str());
    match (error.sqlstate.as_str(), error.class(), error.step) {
        ("3D000", _, _) => Some("Name another database with --database, or create this one.".to_owned()),
        ("42501", _, _) => Some(format!("GRANT CONNECT ON DATABASE {database} TO {user};")),
        (_, "28", LoginStep::Token) => Some(IAM_REFUSED.to_owned()),
        (_, "28", LoginStep::Authenticated) => Some(format!(
            "The server takes the token and not the user. For a role without LOGIN: ALTER ROLE {user} LOGIN;"
        )),
        (_, "53", _) => Some("The server is full: end sessions, or raise max_connections.".to_owned()),
        (_, "57", _) => Some("The server is starting or stopping: try again in a moment.".to_owned()),
        _ => None,
    }
}
