//! The warm pool: what it is for, and what the tests of it have in common.

mod checkout;
mod ends;
mod isolation;
mod keys;
mod limits;
mod names;
mod room;
mod scripted_server;
mod server_surprises;
mod visible;

use aws_emulator::{Postgres, PostgresOptions};

use crate::world::raw::{ErrorFields, message, query, startup};
use crate::world::sessions::until_gone;
use crate::world::{RawClient, World, database};

const TERMINATE: &[u8] = b"X\0\0\0\x04";
const KEPT: &str = "pgpassport_pool_kept_total";
const HITS: &str = "pgpassport_pool_hits_total";
const IDLE: &str = "pgpassport_pool_idle";

fn closed(reason: &str) -> String {
    format!("pgpassport_pool_closed_total{{reason=\"{reason}\"}}")
}

/// A server of the test's own, with the shared one's users and gate.
async fn own_server(change: impl FnOnce(&mut PostgresOptions) + Send + 'static) -> Postgres {
    let start = move || {
        let shared = database();
        let cert = shared.ca.server(&[aws_emulator::names::ENDPOINT_HOST]).unwrap();
        let mut options = PostgresOptions::new(shared.gate.addr(), Some(cert));
        change(&mut options);
        Postgres::start(&options).unwrap()
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// As the superuser of that server, one statement after the other.
async fn sql_at(server: &Postgres, statements: &[&str]) {
    for statement in statements {
        let (server, statement) = (server.clone(), (*statement).to_owned());
        tokio::task::spawn_blocking(move || server.sql(&statement)).await.unwrap();
    }
}

/// A session, and what it was greeted with.
struct PoolGuest {
    client: RawClient,
    greeting: Vec<(u8, Vec<u8>)>,
}

impl PoolGuest {
    /// alice, who asks for nothing.
    async fn alice(world: &World) -> Self {
        Self::come(world, &world.token("alice"), &[("user", "alice"), ("database", "app")]).await
    }

    async fn come(world: &World, token: &str, pairs: &[(&str, &str)]) -> Self {
        Self::come_by(world.raw().await, token, &startup(pairs)).await
    }

    async fn come_by(mut client: RawClient, token: &str, packet: &[u8]) -> Self {
        client.send(packet).await;
        let (client, greeting) = client.finish_login(token).await.unwrap_or_else(|error| panic!("{error:?}"));
        Self { client, greeting }
    }

    /// The parameters that it was told, in order.
    fn parameters(&self) -> Vec<String> {
        let told = self.greeting.iter().filter(|(tag, _)| *tag == b'S');
        told.map(|(_, body)| String::from_utf8(body.clone()).unwrap().replacen('\0', "=", 1)).collect()
    }

    /// Its process id and secret.
    fn key(&self) -> Vec<u8> {
        self.greeting.iter().find(|(tag, _)| *tag == b'K').expect("a key").1.clone()
    }

    /// The messages up to ReadyForQuery.
    async fn answers(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut answers = Vec::new();
        loop {
            match self.client.message().await.expect("the session goes on") {
                (b'Z', _) => return answers,
                message => answers.push(message),
            }
        }
    }

    /// The only column of all rows, one a line.
    async fn ask(&mut self, sql: &str) -> String {
        match self.try_ask(sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    async fn try_ask(&mut self, sql: &str) -> Result<String, ErrorFields> {
        self.client.send(&query(sql)).await;
        let mut rows = Vec::new();
        let mut error = None;
        for (tag, body) in self.answers().await {
            match tag {
                b'E' => error = Some(ErrorFields::parse(&body)),
                b'D' => rows.push(String::from_utf8_lossy(&body[6..]).into_owned()),
                _ => {}
            }
        }
        error.map_or(Ok(rows.join("\n")), Err)
    }

    /// The SQLSTATE of what these messages and a Sync lead to.
    async fn error_of(&mut self, messages: &[Vec<u8>]) -> String {
        self.client.send(&[messages.concat(), message(b'S', b"")].concat()).await;
        let error = self.answers().await.into_iter().find(|(tag, _)| *tag == b'E');
        error.map_or_else(String::new, |(_, body)| ErrorFields::parse(&body).sqlstate().to_owned())
    }

    async fn pid(&mut self) -> String {
        self.ask("select pg_backend_pid()").await
    }

    /// Says goodbye and goes.
    async fn leave(mut self) {
        self.client.send(TERMINATE).await;
    }

    /// Says goodbye and waits until its connection is kept, as one more than before.
    async fn leave_kept(self, world: &World) {
        let before = world.metric(KEPT).await;
        self.leave().await;
        world.metric_is(KEPT, before + 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_login_reuses_the_connection_and_the_record_says_so() {
    let world = World::builder().pool("").limits("max_user_client_connections = 1").start().await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    first.leave_kept(&world).await;
    for again in 1..=3_u8 {
        let mut next = PoolGuest::alice(&world).await; // its place is free at once
        assert_eq!(next.pid().await, pid, "visit {again}");
        next.leave_kept(&world).await;
        world.metric_is(HITS, again.into()).await;
    }
    world.metric_is("pgpassport_pool_misses_total", 1.0).await;
    world.metric_is(IDLE, 1.0).await;
    assert_eq!(world.cloud.sts.count(), 1);
    let (new, reused) =
        (world.audit_json("upstream_reused", false).await, world.audit_json("upstream_reused", true).await);
    for field in ["role_session_name", "upstream", "upstream_pid", "db_user", "cluster"] {
        assert!(!new[field].is_null() && new[field] == reused[field], "{field}: {new} {reused}");
    }
    assert_eq!(new["upstream_pid"].to_string(), pid);
}

/// The acceptor hands sessions to the core with the fewest: the next one is not where the last one was.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_moves_between_session_threads() {
    let world = World::builder().pool("").start().await;
    let bob =
        async || PoolGuest::come(&world, &world.token("bob"), &[("user", "bob"), ("database", "app")]).await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    first.leave_kept(&world).await;
    let mut others = Vec::new();
    for visit in 0..6 {
        let mut next = PoolGuest::alice(&world).await;
        assert_eq!(next.pid().await, pid, "visit {visit}");
        let long = next.ask("select repeat('x', 3000000)").await;
        assert_eq!(long.len(), 3_000_000);
        next.leave_kept(&world).await;
        others.push(bob().await);
    }
}

/// Without `[pool]` a goodbye goes to the server, and nothing is said of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_off_keeps_nothing() {
    let world = World::start().await;
    let mut guest = PoolGuest::alice(&world).await;
    let pid = guest.pid().await;
    guest.leave().await;
    let record = world.audit("end", "client_left").await;
    assert!(record.get("upstream_reused").is_none(), "{record}");
    assert_eq!(record["bytes_to_server"], 5 + 23 + 1 + 5, "the query and the goodbye: {record}");
    until_gone(&pid).await;
    for series in [KEPT, HITS, IDLE, "pgpassport_pool_misses_total"] {
        assert!(world.metric(series).await < 0.5, "{series}");
    }
}
