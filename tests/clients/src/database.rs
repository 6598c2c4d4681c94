//! The database behind the clients, of either protocol: changes when a check needs something else of it.

use std::net::SocketAddr;
use std::time::Duration;

use aws_emulator::proxy::ProxyUpstream;
use aws_emulator::sigv4::{TokenRequest, sign};
use aws_emulator::{
    Ca, Cloud, CloudDatabase, CloudMysql, DatabaseOptions, EmulatorError, MysqlEngine, RoleSession, names,
};

use crate::protocol::MatrixProtocol;
use crate::world::USER;

/// Number of rows of 1,024 characters that are 50 MiB together.
const BIG_ROWS: u32 = 51_200;

/// Interval and number of checks for a sleeping query.
const GLANCE: Duration = Duration::from_millis(10);
const GLANCES: usize = 1_000;

/// Says whether a session sleeps in a query that contains a text; gives up after 20 seconds.
const WAIT_FOR_QUERY: &str =
    "create procedure wait_for_query(text, inout sleeps boolean) language plpgsql as $body$
begin
  for round in 1..2000 loop
    perform pg_stat_clear_snapshot();
    sleeps := exists (select from pg_stat_activity where state = 'active' and wait_event = 'PgSleep'
                     and position($1 in query) > 0 and pid <> pg_backend_pid());
    exit when sleeps;
    perform pg_sleep(0.01);
  end loop;
end $body$";

/// A real server with a gate in front.
pub(crate) enum MatrixDatabase {
    Postgres(CloudDatabase),
    Mysql(CloudMysql),
}

impl MatrixDatabase {
    /// Starts the server and makes what the checks need.
    pub(crate) fn start(protocol: MatrixProtocol) -> Result<Self, EmulatorError> {
        if protocol == MatrixProtocol::Postgresql {
            let database = CloudDatabase::start(DatabaseOptions::default())?;
            database.postgres.sql(&format!("grant create on database {} to {USER}", names::DATABASE));
            database.postgres.sql(WAIT_FOR_QUERY);
            return Ok(Self::Postgres(database));
        }
        let engine = if MysqlEngine::Mysql.at_hand() { MysqlEngine::Mysql } else { MysqlEngine::MariaDb };
        let database = CloudMysql::start(engine, |_| {})?;
        database.server.sql("create table numbers (i int primary key)");
        let digit = "(select 0 n union select 1 union select 2 union select 3 union select 4 union select 5 \
                     union select 6 union select 7 union select 8 union select 9)";
        let number = "a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n";
        let tables = ["a", "b", "c", "d", "e"].map(|name| format!("{digit} {name}")).join(", ");
        database.server.sql(&format!(
            "insert into numbers select i from (select {number} + 1 i from {tables}) x where i <= {BIG_ROWS}"
        ));
        Ok(Self::Mysql(database))
    }

    /// Issuer and STS for its users.
    pub(crate) fn cloud(&self) -> Result<Cloud, EmulatorError> {
        match self {
            Self::Postgres(database) => Cloud::on(database),
            Self::Mysql(database) => Cloud::on_mysql(database),
        }
    }

    /// The authority of its certificate.
    pub(crate) fn ca(&self) -> &Ca {
        match self {
            Self::Postgres(database) => &database.ca,
            Self::Mysql(database) => &database.ca,
        }
    }

    /// The server, for the proxy.
    pub(crate) fn upstream(&self) -> ProxyUpstream<'_> {
        match self {
            Self::Postgres(database) => ProxyUpstream::Postgres(&database.postgres),
            Self::Mysql(database) => ProxyUpstream::Mysql(&database.server),
        }
    }

    /// Listening address.
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Postgres(database) => database.postgres.addr(),
            Self::Mysql(database) => database.server.addr(),
        }
    }

    /// A query for 50 MiB.
    pub(crate) fn big_sql(&self) -> String {
        match self {
            Self::Postgres(_) => format!(
                "select repeat(md5(i::text), 32) as line from generate_series(1, {BIG_ROWS}) i order by i"
            ),
            Self::Mysql(_) => "select repeat(sha2(i, 256), 16) as line from numbers order by i".to_owned(),
        }
    }

    /// The SHA-256 of all its lines, in hexadecimal digits.
    pub(crate) fn big_sha256(&self) -> String {
        let lines = self.big_sql();
        let sum = match self {
            Self::Postgres(database) => database.postgres.sql(&format!(
                "select encode(sha256(string_agg(line, '')::bytea), 'hex') from ({lines}) all_lines"
            )),
            Self::Mysql(database) => database.server.sql(
                "set group_concat_max_len = 100000000; \
                 select sha2(group_concat(repeat(sha2(i, 256), 16) order by i separator ''), 256) from numbers",
            ),
        };
        sum.trim().to_owned()
    }

    /// A query that sleeps for longer than a client may run, so that a program cannot mistake its end for a cancel. `mark` tells it
    /// from others.
    pub(crate) fn sleep_sql(&self, mark: u16) -> String {
        match self {
            Self::Postgres(_) => format!("select pg_sleep(600) /* {mark} */"),
            // No comment: some clients take it out. Never true, so that a cancel is an error on both engines.
            Self::Mysql(_) => format!("select i from numbers where sleep(600) = {mark}"),
        }
    }

    /// Blocks until a session runs `sql`, and says whether one does.
    pub(crate) fn wait_for_query(&self, sql: &str) -> bool {
        match self {
            Self::Postgres(database) => {
                database.postgres.sql(&format!("call wait_for_query('{sql}', null)")).contains('t')
            }
            Self::Mysql(database) => {
                let count = format!(
                    "select count(*) from information_schema.processlist where state = 'User sleep' \
                     and locate('{sql}', info) > 0 and id <> connection_id()"
                );
                (0..GLANCES).any(|_| {
                    std::thread::sleep(GLANCE);
                    database.server.sql(&count) != "0"
                })
            }
        }
    }

    /// Ends all sessions of the user.
    pub(crate) fn end_sessions(&self) {
        match self {
            Self::Postgres(database) => {
                let of_user = format!("from pg_stat_activity where usename = '{USER}'");
                database.postgres.sql(&format!("select pg_terminate_backend(pid) {of_user}"));
            }
            Self::Mysql(database) => {
                let of_user = format!("from information_schema.processlist where user = '{USER}'");
                for id in database.server.sql(&format!("select id {of_user}")).lines() {
                    // One that has just gone is an error.
                    database.server.try_sql(&format!("kill {id}"));
                }
            }
        }
    }

    /// An IAM token for the user, for a client that connects to the server itself.
    pub(crate) fn iam_token(&self, session: &RoleSession, at: i64) -> String {
        let endpoint = match self {
            Self::Postgres(_) => names::ENDPOINT,
            Self::Mysql(_) => names::MYSQL_ENDPOINT,
        };
        sign(&TokenRequest {
            endpoint,
            region: names::REGION,
            user: USER,
            access_key_id: &session.access_key_id,
            secret: &session.secret,
            session_token: Some(&session.session_token),
            at,
        })
    }
}
