//! Doctor: the login at the database, with the IAM token.

use std::time::Duration;

use tokio::time::Instant;

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport, hint_of};
use crate::identity::Grant;
use crate::mysql;
use crate::mysql::server_login::ServerLoginError as MysqlLoginError;
use crate::names::{mysql_grant_database, mysql_text, printable, sql_identifier, visible};
use crate::net::dial::Dialed;
use crate::net::peer_clocks::PeerClocks;
use crate::postgres::server_login::{LoginStep, UpstreamLoginError};
use crate::postgres::startup::StartupParams;
use crate::protocol::{LoginFailure, Protocol, ServerLoginError};
use crate::secret::IamToken;
use crate::session::explain::explain;
use crate::session::open;
use crate::session::outcome::LoginError;

/// Longest string of the server that is shown, in bytes.
const MAX_SHOWN: usize = 512;

const SERVERS_WORDS: &str = "The server refused with this message.";

const OUR_FAULT: &str = "This is a fault of pgpassport: report it.";

const STARTING: &str = "The server is starting or stopping: try again in a moment.";

/// Remedy for a refused IAM token. The server sends the same message for every reason.
const IAM_REFUSED: &str = "One of these, in the order of likelihood: the role's permission policy has to allow rds-db:connect \
    as this user on the database's resource id (`pgpassport policy` prints it); cluster.resource_id has to be that id, as \
    the session policy is made of it; cluster.endpoint has to be host and port as AWS shows them; this machine's clock \
    has to be right. The database's log export iam-db-auth-error names the reason.";

/// Startup parameters of a login at PostgreSQL. The name is visible in `pg_stat_activity`.
pub(super) fn postgres_startup(report: &mut DoctorReport<'_>) -> Option<StartupParams> {
    let startup = StartupParams::parse(b"\0\x03\0\0user\0doctor\0application_name\0pgpassport doctor\0\0");
    let failed = |error| report.fail(ChainLink::Login, LinkProblem::new(format!("{error}"), OUR_FAULT));
    startup.map_err(failed).ok()
}

/// Logs in as the granted user, until the session is ready for its first statement. `remedy` is the one for a refusal of the
/// server, if it differs from the hint that a client gets.
pub(super) async fn log_in<P: Protocol>(
    grant: &Grant,
    (dialed, startup, token): (Option<Dialed<P>>, &P::Startup, Option<IamToken>),
    (patience, clocks): (Duration, &PeerClocks),
    remedy: impl Fn(&P::LoginError) -> Option<String>,
    report: &mut DoctorReport<'_>,
) -> Option<(Dialed<P>, P::LoginReply)> {
    let (Some(mut dialed), Some(token)) = (dialed, token) else {
        report.skip(ChainLink::Login, "not tried: it takes a verified connection and an IAM token");
        return None;
    };
    let deadline = Instant::now() + patience;
    let problem = match open::log_in(&mut dialed, (grant, startup), token, deadline).await {
        Ok(reply) => {
            let user = printable(grant.db_user().as_str(), 63);
            let database = grant.requested_database().map_or("no database".to_owned(), |database| {
                format!("database \"{}\"", printable(database, 63))
            });
            let found = format!("the server takes the token of \"{user}\" for {database}");
            report.ok(ChainLink::Login, found);
            return Some((dialed, reply));
        }
        Err(LoginFailure::Silent(_)) => {
            let found = format!("the server did not finish the login within {} s", patience.as_secs());
            LinkProblem::new(found, "Try again; check the server's load and log.")
        }
        Err(error) => refused(error, remedy, clocks),
    };
    report.fail(ChainLink::Login, problem);
    None
}

fn refused<E: ServerLoginError>(
    error: LoginFailure<E>,
    remedy: impl Fn(&E) -> Option<String>,
    clocks: &PeerClocks,
) -> LinkProblem {
    let found = visible(&error.to_string(), MAX_SHOWN);
    let remedy = match &error {
        LoginFailure::Server(error) => remedy(error),
        LoginFailure::Silent(_) | LoginFailure::Dial(_) => None,
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

/// Remedy for a refusal of PostgreSQL.
pub(super) fn postgres_remedy(error: &UpstreamLoginError, grant: &Grant) -> Option<String> {
    let UpstreamLoginError::Refused(error) = error else { return None };
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
        (_, "57", _) => Some(STARTING.to_owned()),
        _ => None,
    }
}

/// Remedy for a refusal of MySQL or MariaDB, by their error numbers.
pub(super) fn mysql_remedy(error: &MysqlLoginError, grant: &Grant) -> Option<String> {
    use mysql::server_error::LoginStep;
    let user = format!("{}@'%'", mysql_text(grant.db_user().as_str()));
    let error = match error {
        MysqlLoginError::NotIam { .. } => {
            return Some(format!(
                "CREATE USER {user} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL; or ALTER USER for one that \
                 has a password. It needs this exact name, upper and lower case included, and a host part that allows this machine."
            ));
        }
        MysqlLoginError::Refused(error) => error,
        MysqlLoginError::Changed | MysqlLoginError::Wire(_) => return None,
    };
    let database = mysql_grant_database(grant.database().as_str());
    match (error.errno, error.step) {
        // ER_BAD_DB_ERROR.
        (1049, _) => Some("Name another database with --database, or create this one.".to_owned()),
        // ER_DBACCESS_DENIED_ERROR, also for a database that does not exist.
        (1044, _) => Some(format!(
            "GRANT SELECT ON {database}.* TO {user}; or name another database with --database: without privileges in it, a \
             database that does not exist gives the same error."
        )),
        // ER_ACCESS_DENIED_ERROR.
        (1045 | 1698, LoginStep::Token) => Some(format!(
            "{IAM_REFUSED} MySQL answers the same for some users that do not exist: {user} needs this exact name and a host \
             part that allows this machine."
        )),
        // ER_PLUGIN_IS_NOT_LOADED.
        (1524, _) => Some(
            "Enable IAM database authentication: aws rds modify-db-cluster --enable-iam-database-authentication \
             (modify-db-instance for RDS)."
                .to_owned(),
        ),
        // ER_ACCOUNT_HAS_BEEN_LOCKED, in MySQL and in MariaDB.
        (3118 | 4151, _) => Some(format!("ALTER USER {user} ACCOUNT UNLOCK;")),
        // ER_CON_COUNT_ERROR.
        (1040, _) => Some("The server is full: end sessions, or raise max_connections.".to_owned()),
        // ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED.
        (1203 | 1226, _) => Some(format!("End sessions of the user, or raise its limits: ALTER USER {user} WITH …;")),
        // ER_SERVER_SHUTDOWN, ER_SERVER_ISNT_AVAILABLE.
        (1053 | 3168, _) => Some(STARTING.to_owned()),
        _ => None,
    }
}
