//! What the frame tracker believes, beside what a real PostgreSQL does: it must never call a session idle that
//! is not, and it must see that it is idle when it is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use pgpassport::wire::tracker::{Copying, Standing, Tracker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use crate::world::database;
use crate::world::raw::{message, query, startup};

/// A session as the superuser over the local socket, followed message by message.
struct Followed {
    stream: UnixStream,
    unread: Vec<u8>,
    tracker: Tracker,
    /// All that passed, for the report of a failure: `>` sent, `<` received.
    story: String,
}

impl Followed {
    async fn start() -> Self {
        let postgres = &tokio::task::spawn_blocking(database).await.unwrap().postgres;
        let socket: PathBuf = postgres.data_dir().join(format!(".s.PGSQL.{}", postgres.addr().port()));
        let mut stream = UnixStream::connect(socket).await.unwrap();
        stream.write_all(&startup(&[("user", "postgres"), ("database", "app")])).await.unwrap();
        let mut followed =
            Self { stream, unread: Vec::new(), tracker: Tracker::new(b'?'), story: String::new() };
        while followed.receive().await.unwrap().0 != b'Z' {}
        followed.tracker = Tracker::new(b'I');
        followed.story.clear();
        followed
    }

    async fn send(&mut self, messages: &[u8]) {
        // Noted first: the server must not be able to answer what the tracker has not seen.
        self.tracker.to_server(messages);
        let mut rest = messages;
        while let [tag, a, b, c, d, ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            self.story.extend([' ', '>', char::from(*tag)]);
            rest = &rest[1 + length..];
        }
        let _ = self.stream.write_all(messages).await; // a server that has ended the session reads no more
    }

    /// The next whole message; `None` at the end.
    async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// What the server answers now. Whether it is all of it matters to no check: the wait only makes that
    /// likely, so that the client's next step meets the session in a state of its own.
    async fn receive_what_comes(&mut self) {
        let mut space = [0; 8_192];
        while let Ok(Ok(read @ 1..)) = timeout(Duration::from_millis(3), self.stream.read(&mut space)).await {
            self.unread.extend_from_slice(&space[..read]);
            while self.take().is_some() {}
        }
    }

    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = u32::from_be_bytes(self.unread.get(1..5)?.try_into().unwrap()) as usize;
        self.unread.get(..=length)?;
        let message: Vec<u8> = self.unread.drain(..=length).collect();
        let (tag, body) = (message[0], message[5..].to_vec());
        self.story.extend([' ', '<', char::from(tag)]);
        let answers = !matches!(tag, b'N' | b'A' | b'S') && !body.windows(6).any(|part| part == b"VFATAL");
        assert!(
            !answers || self.tracker.standing() == Standing::Busy,
            "called {:?} before an answer:{}",
            self.tracker.standing(),
            self.story
        );
        self.tracker.to_client(&message);
        assert!(
            !answers || tag == b'Z' || self.tracker.standing() == Standing::Busy,
            "called {:?} behind an answer that is no ReadyForQuery:{}",
            self.tracker.standing(),
            self.story
        );
        if tag == b'Z' && self.tracker.standing() != Standing::Busy {
            let stands = match body[0] {
                b'I' => Standing::Idle,
                b'T' => Standing::InTransaction,
                _ => Standing::InFailedTransaction,
            };
            assert_eq!(self.tracker.standing(), stands, "{}", self.story);
        }
        Some((tag, body))
    }

    /// Until `count` ReadyForQuery messages have come.
    async fn ready(&mut self, count: usize) -> Standing {
        for _ in 0..count {
            while self.receive().await.expect("the session goes on").0 != b'Z' {}
        }
        self.tracker.standing()
    }
}

fn parse(sql: &str) -> Vec<u8> {
    message(b'P', format!("\0{sql}\0\0\0").as_bytes())
}

fn bind() -> Vec<u8> {
    message(b'B', b"\0\0\0\0\0\0\0\0")
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

/// A FunctionCall of `pg_backend_pid()`.
fn function_call() -> Vec<u8> {
    message(b'F', &[&2026_u32.to_be_bytes()[..], &[0, 0, 0, 0, 0, 1]].concat())
}

fn one(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

/// Steps of a random client. Names in them exist in every session of [`Followed`].
const STEPS: [fn() -> Vec<u8>; 27] = [
    || query("select 1"),
    || query("select 1/0"),
    || query(""),
    || query("select 1; select 2 from generate_series(1, 3)"),
    || query("begin"),
    || query("commit"),
    || query("rollback"),
    || query("copy t from stdin"),
    || query("copy t from stdin; select 1; copy t from stdin"),
    || query("copy nowhere from stdin"),
    || query("copy (select generate_series(1, 3)) to stdout"),
    || query("insert into deferred values (1)"),
    || parse("select 1"),
    || parse("select from nowhere"),
    || [parse("copy t from stdin"), bind(), execute()].concat(),
    || [parse("copy (select 1) to stdout"), bind(), execute()].concat(),
    || [parse("insert into deferred values (1)"), bind(), execute()].concat(),
    || [parse("select 1"), bind(), message(b'D', b"P\0"), execute(), one(b'S')].concat(),
    || [bind(), execute()].concat(),
    || message(b'D', b"S\0"),
    || message(b'C', b"S\0"),
    || one(b'S'),
    || one(b'H'),
    || message(b'd', b"1\n"),
    || message(b'd', b"not a number\n"),
    || one(b'c'),
    || message(b'f', b"no more\0"),
];

async fn converse(steps: &[(usize, bool)]) {
    let mut session = Followed::start().await;
    let tables = "create temp table t (n int); create temp table deferred (n int primary key deferrable initially deferred)";
    session.send(&query(tables)).await;
    session.ready(1).await;
    session.send(&function_call()).await;
    assert_eq!(session.ready(1).await, Standing::Idle);
    for (step, look) in steps {
        session.send(&STEPS[*step]()).await;
        if *look {
            session.receive_what_comes().await;
        }
    }
    // Out of a COPY, if it is in one, out of skipping, and something to recognise.
    session
        .send(&[message(b'f', b"enough\0"), one(b'S'), query("rollback"), query("select 'the end'")].concat())
        .await;
    let mut seen = false;
    while let Some((tag, body)) = session.receive().await {
        seen |= body.ends_with(b"the end");
        if seen && tag == b'Z' {
            // Nothing is owed, and the tracker knows it.
            assert_ne!(session.tracker.standing(), Standing::Busy, "{} {:?}", session.story, session.tracker);
            assert_eq!(session.tracker.owed(), 0);
            return;
        }
    }
    // Something that has no place in a COPY: the server has ended the session.
}

#[test]
fn whatever_a_client_sends_ahead_the_tracker_agrees_with_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec((0..STEPS.len(), any::<bool>()), 1..14);
    runner
        .run(&steps, |steps| {
            runtime.block_on(converse(&steps));
            Ok(())
        })
        .unwrap();
}

/// A COPY that fails at its second line, with a Sync before that line and one behind it: the server ignores the
/// first and answers the second, and nobody can know where it failed before the answers are there.
#[tokio::test(flavor = "multi_thread")]
async fn syncs_around_the_line_at_which_a_copy_fails() {
    let mut session = Followed::start().await;
    session.send(&query("create temp table t (n int)")).await;
    session.ready(1).await;
    let (good, bad, sync) = (message(b'd', b"1\n"), message(b'd', b"not a number\n"), one(b'S'));
    let extended = [parse("copy t from stdin"), bind(), execute()].concat();
    for (begin, answers) in [(query("copy t from stdin"), 2), (extended, 1)] {
        session.send(&begin).await;
        while session.receive().await.unwrap().0 != b'G' {}
        assert_eq!(session.tracker.copying(), Some(Copying::In));
        session.send(&[&good[..], &sync, &bad, &sync].concat()).await;
        assert_eq!(session.ready(answers).await, Standing::Busy, "one Sync is in doubt: {}", session.story);
        session.send(&query("select 1")).await;
        assert_eq!(session.ready(1).await, Standing::Idle, "{}", session.story);
    }
}

/// A recording pass-through between a real client and the server.
struct Wire {
    port: u16,
    tracker: Arc<Mutex<Option<Tracker>>>,
}

impl Wire {
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(database).await.unwrap().postgres.addr();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tracker = Arc::new(Mutex::new(None::<Tracker>));
        let shared = Arc::clone(&tracker);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(server).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut bytes = [0; 1_000];
                while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                    if let Some(tracker) = up.lock().unwrap().as_mut() {
                        tracker.to_server(&bytes[..read]);
                    }
                    to_server.write_all(&bytes[..read]).await.unwrap();
                }
            });
            let mut bytes = [0; 1_000];
            while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                {
                    let mut tracker = shared.lock().unwrap();
                    match tracker.as_mut() {
                        Some(tracker) => tracker.to_client(&bytes[..read]),
                        // The login ends with its first ReadyForQuery, and the client waits for it.
                        None if bytes[..read].ends_with(b"Z\0\0\0\x05I") => {
                            *tracker = Some(Tracker::new(b'I'));
                        }
                        None => {}
                    }
                }
                to_client.write_all(&bytes[..read]).await.unwrap();
            }
        });
        Self { port, tracker }
    }

    fn standing(&self) -> Standing {
        self.tracker.lock().unwrap().as_ref().unwrap().standing()
    }

    /// Until the session stands like this: an error is told before the ReadyForQuery behind it. The limit is
    /// for a broken build.
    async fn until(&self, standing: Standing) {
        for _ in 0..3_000 {
            if self.standing() == standing {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {standing:?}: {:?}", self.tracker.lock().unwrap());
    }

    fn copying(&self) -> Option<Copying> {
        self.tracker.lock().unwrap().as_ref().unwrap().copying()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_client_is_followed_through_all_it_does() {
    let wire = Wire::start().await;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(wire.port).user("carol").password("carol-password").dbname("app");
    let (mut client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(wire.standing(), Standing::Idle);
    client.batch_execute("create temp table t (n int); listen tracker").await.unwrap();
    assert_eq!(wire.standing(), Standing::Idle);
    let statement = client.prepare("select n from t where n = $1").await.unwrap();
    assert_eq!(wire.standing(), Standing::Idle);
    // Pipelined, with a failure among them.
    let (a, b, c, d) = tokio::join!(
        client.query(&statement, &[&1_i32]),
        client.query("select 1/0", &[]),
        client.simple_query("notify tracker, 'x'"),
        client.query(&statement, &[&2_i32]),
    );
    assert!(a.is_ok() && b.is_err() && c.is_ok() && d.is_ok());
    // Statements that are dropped are closed in the background; the next answer comes behind that.
    client.simple_query("select 1").await.unwrap();
    assert_eq!(wire.standing(), Standing::Idle);
    let transaction = client.transaction().await.unwrap();
    assert_eq!(wire.standing(), Standing::InTransaction);
    transaction.simple_query("select 1/0").await.unwrap_err();
    wire.until(Standing::InFailedTransaction).await;
    transaction.rollback().await.unwrap();
    assert_eq!(wire.standing(), Standing::Idle);

    let mut sink = Box::pin(client.copy_in::<_, Bytes>("copy t from stdin").await.unwrap());
    sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
    assert_eq!((wire.standing(), wire.copying()), (Standing::Busy, Some(Copying::In)));
    assert_eq!(sink.as_mut().finish().await.unwrap(), 2);
    client.simple_query("select 1").await.unwrap();
    assert_eq!((wire.standing(), wire.copying()), (Standing::Idle, None));
    let rows = client.copy_out("copy t to stdout").await.unwrap();
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().concat(), b"1\n2\n");
    client.batch_execute("select 1").await.unwrap();
    assert_eq!((wire.standing(), wire.copying()), (Standing::Idle, None));

    // A COPY that fails leaves a Sync in doubt; the next answer settles it.
    let mut sink = Box::pin(client.copy_in::<_, Bytes>("copy t from stdin").await.unwrap());
    sink.send(Bytes::from_static(b"x\n")).await.unwrap();
    sink.as_mut().finish().await.unwrap_err();
    client.simple_query("select 7").await.unwrap();
    assert_eq!(wire.standing(), Standing::Idle);
}
