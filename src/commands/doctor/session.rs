//! Doctor: checks inside the session that was logged in.

use std::time::{Duration, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, Row};

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport};
use crate::clock::Clock;
use crate::identity::Grant;
use crate::names::{DbUser, printable, sql_identifier};
use crate::postgres::message::LoginGreeting;
use crate::postgres::server_login::UpstreamSession;

pub(super) const LINKS: [ChainLink; 6] = [
    ChainLink::CurrentUser,
    ChainLink::RdsIam,
    ChainLink::Privileges,
    ChainLink::ServerVersion,
    ChainLink::Clock,
    ChainLink::Writer,
];

/// Difference in clocks above which `doctor` warns. SigV4 rejects signatures from five minutes.
const MAX_SKEW_SECONDS: f64 = 60.0;

/// Longest string of the server that is shown, in bytes.
const MAX_SHOWN: usize = 512;

/// Size of the pipe between driver and server, in bytes.
const BUFFER: usize = 64 * 1024;

/// Query that protects against the user's own `search_path`, whose objects could return anything. `pg_temp`
/// is searched last if it is listed, otherwise first (PostgreSQL manual, "Schemas", `pg_temp`).
const TRUST_THE_CATALOG: &str = "set search_path to pg_catalog, pg_temp";

/// Query for user, roles, version, clock and role of the server. `pg_has_role` fails for a role that does not
/// exist, and is true for superusers and every role that does.
const LOOK: &str = "select current_user::text, session_user::text, r.rolsuper, \
    array(select g.rolname::text from pg_roles g where g.rolname in ('rds_iam', 'rds_superuser', 'rds_replication') \
          and pg_has_role(current_user, g.oid, 'member')), \
    array_remove(array[case when r.rolcreaterole then 'CREATEROLE' end, case when r.rolcreatedb then 'CREATEDB' end, \
          case when r.rolbypassrls then 'BYPASSRLS' end, case when r.rolreplication then 'REPLICATION' end], null), \
    current_setting('server_version'), extract(epoch from clock_timestamp())::float8, pg_is_in_recovery(), \
    current_setting('transaction_read_only') = 'on', to_regrole('rds_iam') is not null \
    from pg_roles r where r.rolname = current_user";

pub(super) async fn examine(
    upstream: UpstreamSession,
    grant: &Grant,
    clock: &Clock,
    patience: Duration,
    report: &mut DoctorReport<'_>,
) {
    let seen = timeout(patience, look(upstream)).await;
    let problem = match seen {
        Ok(Ok(row)) => match tell(&row, grant, clock, report) {
            Ok(()) => return,
            Err(error) => error.to_string(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    let remedy = "The login works, but a simple query does not; check the server's log.";
    report.fail(ChainLink::CurrentUser, LinkProblem::new(printable(&problem, 512), remedy));
    report.skip_all(&LINKS[1..], "not tried: the session did not answer");
}

/// Sends one query and terminates the session properly.
async fn look(upstream: UpstreamSession) -> Result<Row, tokio_postgres::Error> {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let bridge = tokio::spawn(bridge(theirs, upstream));
    let mut config = Config::new();
    config.user("doctor");
    let (client, connection) = config.connect_raw(ours, NoTls).await?;
    let driver = tokio::spawn(connection);
    let row = ask(&client).await;
    drop(client); // sends Terminate
    let _ = driver.await;
    let _ = bridge.await;
    row
}

async fn ask(client: &Client) -> Result<Row, tokio_postgres::Error> {
    client.batch_execute(TRUST_THE_CATALOG).await?;
    client.query_one(LOOK, &[]).await
}

/// Connects the driver with the session. The driver begins with its own login and gets the server's messages
/// of ours. So there is one login and one session, and the driver never sees the token.
async fn bridge(mut driver: DuplexStream, mut upstream: UpstreamSession) -> std::io::Result<()> {
    let length = driver.read_u32().await?;
    let rest = u64::from(length.saturating_sub(4));
    tokio::io::copy(&mut (&mut driver).take(rest), &mut tokio::io::sink()).await?;
    let LoginGreeting { messages, status } = upstream.greeting;
    driver.write_all(b"R\0\0\0\x08\0\0\0\0").await?; // AuthenticationOk
    driver.write_all(&messages).await?;
    driver.write_all(&[b'Z', 0, 0, 0, 5, status as u8]).await?; // ReadyForQuery
    copy_bidirectional(&mut driver, &mut upstream.stream).await.map(drop)
}

fn tell(
    row: &Row,
    grant: &Grant,
    clock: &Clock,
    report: &mut DoctorReport<'_>,
) -> Result<(), tokio_postgres::Error> {
    let (current, session): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let superuser: bool = row.try_get(2)?;
    let roles: Vec<String> = row.try_get(3)?;
    let powers: Vec<String> = row.try_get(4)?;
    let version: String = row.try_get(5)?;
    let theirs: f64 = row.try_get(6)?;
    let (recovering, read_only, has_iam): (bool, bool, bool) =
        (row.try_get(7)?, row.try_get(8)?, row.try_get(9)?);

    let shown = printable(&current, 63);
    if current == grant.db_user().as_str() && session == current {
        report.ok(ChainLink::CurrentUser, format!("\"{shown}\""));
    } else {
        let found = format!("current_user is \"{shown}\", session_user \"{}\"", printable(&session, 63));
        let remedy =
            "Check for ALTER ROLE … SET role: the session's user is not the user in the audit record.";
        report.fail(ChainLink::CurrentUser, LinkProblem::new(found, remedy));
    }
    rds_iam(&roles, has_iam, grant.db_user(), report);
    privileges(superuser, &roles, &powers, report);
    report.ok(ChainLink::ServerVersion, printable(&version, 128));
    compare_clock(theirs, clock, report);
    role_of_server(recovering, read_only, report);
    Ok(())
}

/// Compares the server's clock, in seconds of Unix time, with this machine's.
pub(super) fn compare_clock(theirs: f64, clock: &Clock, report: &mut DoctorReport<'_>) {
    let ours = clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let skew = theirs - ours;
    if skew.abs() <= MAX_SKEW_SECONDS {
        return report.ok(ChainLink::Clock, format!("{skew:+.1} s from this machine's"));
    }
    let found = format!("the server's clock is {skew:+.0} s from this machine's");
    let remedy = "Synchronize this machine's clock (NTP): tokens and signatures contain times.";
    report.warn(ChainLink::Clock, LinkProblem::new(found, remedy));
}

/// Tells a writer from a reader.
pub(super) fn role_of_server(reader: bool, read_only: bool, report: &mut DoctorReport<'_>) {
    report.ok(
        ChainLink::Writer,
        match (reader, read_only) {
            (true, _) => "a reader: writes are refused",
            (false, true) => "a writer, in a session that begins read-only",
            (false, false) => "a writer",
        },
    );
}

/// Warns of privileges beyond those of an ordinary user, which has none of them.
pub(super) fn tell_privileges(more: &[String], report: &mut DoctorReport<'_>) {
    if more.is_empty() {
        return report.ok(ChainLink::Privileges, "an ordinary user");
    }
    let found = printable(&format!("the user is {}", more.join(", ")), MAX_SHOWN);
    let remedy = "Give people ordinary users: anyone with the token has all of these privileges.";
    report.warn(ChainLink::Privileges, LinkProblem::new(found, remedy));
}

fn rds_iam(roles: &[String], exists: bool, user: &DbUser, report: &mut DoctorReport<'_>) {
    if roles.iter().any(|role| role == "rds_iam") {
        return report.ok(ChainLink::RdsIam, "a member");
    }
    let found = if exists { "not a member" } else { "the role rds_iam does not exist" };
    let user = sql_identifier(user.as_str());
    let remedy = format!("GRANT rds_iam TO {user}; and enable IAM authentication on the cluster.");
    report.warn(ChainLink::RdsIam, LinkProblem::new(found, remedy));
}

fn privileges(superuser: bool, roles: &[String], powers: &[String], report: &mut DoctorReport<'_>) {
    let mut more: Vec<String> = if superuser { vec!["superuser".to_owned()] } else { Vec::new() };
    if !superuser {
        more.extend(roles.iter().filter(|role| *role != "rds_iam").cloned());
    }
    more.extend(powers.iter().cloned());
    tell_privileges(&more, report);
}
