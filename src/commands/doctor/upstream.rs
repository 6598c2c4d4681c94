//! Doctor: the database's addresses, connection, and certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::LinkProblem;
use super::certificates::CertificateChain;
use super::report::{ChainLink, DoctorReport};
use crate::config::{ClusterSettings, DatabaseProtocol};
use crate::net::dial::{DialError, Dialed, Dialer};
use crate::net::dial_permission::DialPermission;
use crate::net::resolver::Resolver;
use crate::net::start_tls::StartTls;

const RENEW: &str =
    "Renew the server's certificate (aws rds modify-db-instance --ca-certificate-identifier).";

/// `ER_HOST_IS_BLOCKED` and `ER_HOST_NOT_PRIVILEGED`, which MySQL answers in place of its greeting.
const HOST_REFUSED: [&str; 2] = [" 1129 (", " 1130 ("];

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
            unreachable(&error, cluster.engine, report);
            None
        }
    }
}

/// True if a certificate is unfit by itself, with any set of trusted authorities.
pub(super) fn is_to_be_reissued(problem: &str) -> bool {
    ["X.509", "CA:TRUE", "extension", "not accepted"].iter().any(|word| problem.contains(word))
}

fn unreachable(error: &DialError, engine: DatabaseProtocol, report: &mut DoctorReport<'_>) {
    let found = error.to_string();
    match error {
        DialError::Resolve { .. } | DialError::Connect { .. } | DialError::TimedOut => {
            let remedy = "Let this machine reach the database's port: security group, routes, network ACL. A cluster that \
                          wakes up takes up to 30 seconds (limits.server_connect_timeout).";
            report.fail(ChainLink::Tcp, LinkProblem::new(found, remedy));
            report.skip(ChainLink::Tls, "not tried: there is no connection");
        }
        DialError::Handshake { problem, .. } => {
            report.ok(ChainLink::Tcp, "the port accepts connections");
            let remedy = if HOST_REFUSED.iter().any(|number| problem.contains(number)) {
                "Let the server accept this machine's address: for 1129 TRUNCATE TABLE performance_schema.host_cache (MariaDB: \
                 FLUSH HOSTS), for 1130 an account whose host part allows the address."
            } else if engine == DatabaseProtocol::MySql && problem.contains("no answer") {
                "Check cluster.engine, and host and port of cluster.endpoint and cluster.hostaddr: a server of MySQL speaks \
                 first. If it is one, try again in a moment: it is starting, stopping or overloaded."
            } else {
                "Try again in a moment: the server is starting, stopping or overloaded. If it stays, look at its log, and at \
                 what stands between."
            };
            report.fail(ChainLink::Tls, LinkProblem::new(found, remedy));
        }
        DialError::NoTls(_) | DialError::WrongProtocol { .. } => {
            report.ok(ChainLink::Tcp, "the port accepts connections");
            let remedy = "Check cluster.engine, and host and port of cluster.endpoint and cluster.hostaddr: the server is not an \
                          RDS server of that engine with TLS.";
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
