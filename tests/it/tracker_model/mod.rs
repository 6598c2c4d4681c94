//! The frame tracker compared with a real PostgreSQL and its `pg_stat_activity`:
//! it must never call a session idle that is not, and it must see that it is idle when it is.

mod steps;

use std::path::PathBuf;
use std::time::Duration;

use pgpassport::postgres::tracker::{CopyMode, SessionState, SessionTracker, Tracker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use steps::{STEPS, TABLES, bind, execute, function_call, one, parse};

use crate::world::database;
use crate::world::raw::{message, query, startup};

/// A session as the superuser over the local socket, followed message by message.
struct TrackedSession {
    stream: UnixStream,
    unread: Vec<u8>,
    tracker: Tracker,
    /// All that passed, for the report of a failure: `>` sent, `<` received.
    story: String,
    record: Vec<PassedBytes>,
    pid: i32,
    /// The client has sent messages of the extended protocol and no Sync behind them.
    unsynced: bool,
    watcher: tokio_postgres::Client,
}

/// Bytes that passed to one side, and how the session stood then.
struct PassedBytes {
    to_server: bool,
    bytes: Vec<u8>,
    stands: (SessionState, Option<CopyMode>, u64),
}

impl TrackedSession {
    async fn start() -> Self {
        let postgres = &tokio::task::spawn_blocking(database).await.unwrap().postgres;
        let socket: PathBuf = postgres.data_dir().join(format!(".s.PGSQL.{}", postgres.addr().port()));
        let mut watcher = tokio_postgres::Config::new();
        watcher.host_path(postgres.data_dir()).port(postgres.addr().port()).user("postgres").dbname("app");
        let (watcher, connection) = watcher.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let mut stream = UnixStream::connect(socket).await.unwrap();
        stream.write_all(&startup(&[("user", "postgres"), ("database", "app")])).await.unwrap();
        let (unread, story, record) = (Vec::new(), String::new(), Vec::new());
        let (pid, unsynced, tracker) = (0, false, Tracker::new(b'?'));
        let mut followed = Self { stream, unread, tracker, story, record, pid, unsynced, watcher };
        loop {
            match followed.receive().await.unwrap() {
                (b'K', body) => followed.pid = i32::from_be_bytes(body[..4].try_into().unwrap()),
                (b'Z', _) => break,
                _ => {}
            }
        }
        followed.tracker = Tracker::new(b'I');
        followed.story.clear();
        followed.record.clear();
        followed
    }

    fn passed(&mut self, to_server: bool, bytes: &[u8]) {
        let stands = stands(&self.tracker);
        self.record.push(PassedBytes { to_server, bytes: bytes.to_vec(), stands });
    }

    async fn send(&mut self, messages: &[u8]) {
        // Noted first: the server must not be able to answer what the tracker has not seen.
        self.tracker.to_server(messages);
        self.passed(true, messages);
        let mut rest = messages;
        while let [tag, a, b, c, d, ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            self.story.extend([' ', '>', char::from(*tag)]);
            self.unsynced = matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C') || self.unsynced && *tag != b'S';
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

    /// Reads the server's answers so far. No check needs all of them: the wait only makes that
    /// likely, so that the client's next step meets the session in a state of its own.
    async fn receive_what_comes(&mut self) {
        let mut space = [0; 8_192];
        while let Ok(Ok(read @ 1..)) = timeout(Duration::from_millis(3), self.stream.read(&mut space)).await {
            self.unread.extend_from_slice(&space[..read]);
            while self.take().is_some() {}
        }
    }

    /// Until the tracker says of the session what the server says of it: that has to happen, as soon as the server
    /// has read what was sent. The server does not report a few messages of the extended protocol.
    async fn agree(&mut self) {
        let statement = "select state from pg_stat_activity where pid = $1";
        let mut last = None;
        for attempt in 0..1_000 {
            self.receive_what_comes().await;
            let row = self.watcher.query_opt(statement, &[&self.pid]).await.unwrap();
            let Some(state) = row.and_then(|row| row.get::<_, Option<String>>(0)) else { return };
            let believed = match self.tracker.state() {
                SessionState::Busy if self.unsynced => return,
                SessionState::Busy => "active",
                SessionState::Idle => "idle",
                SessionState::InTransaction => "idle in transaction",
                SessionState::InFailedTransaction => "idle in transaction (aborted)",
            };
            if state == believed {
                return;
            }
            if attempt == 100 && state.starts_with("idle") && believed == "active" {
                self.tell_apart().await;
            }
            last = Some((state, believed));
        }
        panic!("{last:?}:{} {:?}", self.story, self.tracker);
    }

    /// Sends statements to an idle session that rule out every wrong reading. An error in a COPY can leave two readings
    /// of what the client sent ahead: the server skipped it, or has it still before it. In the second one each
    /// answer belongs to an earlier statement. A Sync for each of these and one more leave such a reading only if all
    /// of them are Syncs, and the answer to the Query is not that of a Sync.
    async fn tell_apart(&mut self) {
        for _ in 0..=self.tracker.owed() {
            self.send(&one(b'S')).await;
            self.ready(1).await;
        }
        self.send(&query("select 1")).await;
        self.ready(1).await;
        self.assert_not_busy();
    }

    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = u32::from_be_bytes(self.unread.get(1..5)?.try_into().unwrap()) as usize;
        self.unread.get(..=length)?;
        let message: Vec<u8> = self.unread.drain(..=length).collect();
        let (tag, body) = (message[0], message[5..].to_vec());
        self.story.extend([' ', '<', char::from(tag)]);
        let answers = !matches!(tag, b'N' | b'A' | b'S') && !body.windows(6).any(|part| part == b"VFATAL");
        // A Sync that may have been ignored is answered by ReadyForQuery alone, and changes nothing.
        let foreseen = tag == b'Z' && self.tracker.owed() > 0;
        assert!(
            !answers || foreseen || self.tracker.state() == SessionState::Busy,
            "called {:?} before an answer:{}",
            self.tracker.state(),
            self.story
        );
        self.tracker.to_client(&message);
        self.passed(false, &message);
        assert!(
            !answers || tag == b'Z' || self.tracker.state() == SessionState::Busy,
            "called {:?} behind an answer that is no ReadyForQuery:{}",
            self.tracker.state(),
            self.story
        );
        if tag == b'Z' && self.tracker.state() != SessionState::Busy {
            let stands = match body[0] {
                b'I' => SessionState::Idle,
                b'T' => SessionState::InTransaction,
                _ => SessionState::InFailedTransaction,
            };
            assert_eq!(self.tracker.state(), stands, "{}", self.story);
        }
        Some((tag, body))
    }

    fn assert_not_busy(&self) {
        assert_ne!(self.tracker.state(), SessionState::Busy, "{} {:?}", self.story, self.tracker);
    }

    /// Until `count` ReadyForQuery messages have come.
    async fn ready(&mut self, count: usize) -> SessionState {
        for _ in 0..count {
            while self.receive().await.expect("the session goes on").0 != b'Z' {}
        }
        self.tracker.state()
    }
}

fn stands(tracker: &Tracker) -> (SessionState, Option<CopyMode>, u64) {
    (tracker.state(), tracker.copying(), tracker.owed())
}

async fn converse(steps: &[(usize, bool)]) {
    let mut session = TrackedSession::start().await;
    session.send(&query(TABLES)).await;
    session.ready(1).await;
    session.send(&function_call()).await;
    assert_eq!(session.ready(1).await, SessionState::Idle);
    for (step, look) in steps {
        session.send(&STEPS[*step]()).await;
        if *look {
            session.agree().await;
        }
    }
    session.agree().await;
    // Out of a COPY, if it is in one, out of skipping, and something to recognise.
    session
        .send(&[message(b'f', b"enough\0"), one(b'S'), query("rollback"), query("select 'the end'")].concat())
        .await;
    let mut seen = false;
    while let Some((tag, body)) = session.receive().await {
        seen |= body.ends_with(b"the end");
        if seen && tag == b'Z' {
            session.tell_apart().await;
            // Nothing is owed, and the tracker knows it.
            session.assert_not_busy();
            assert_eq!(session.tracker.owed(), 0);
            session.send(&[one(b'c'), message(b'd', b"1\n"), message(b'f', b"\0"), one(b'H')].concat()).await;
            session.assert_not_busy();
            return;
        }
    }
    // Something that has no place in a COPY: the server has ended the session.
}

#[test]
fn the_tracker_agrees_with_the_server_about_pipelined_messages() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // PROPTEST_CASES asks for more.
    let defaults = Config::default();
    let cases = defaults.cases.max(300);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..defaults });
    let steps = prop::collection::vec((0..STEPS.len(), any::<bool>()), 1..14);
    runner
        .run(&steps, |steps| {
            runtime.block_on(converse(&steps));
            Ok(())
        })
        .unwrap();
}

/// A CopyFail that is sent ahead behind a Sync leaves two readings until the next answer.
#[tokio::test]
async fn a_copy_that_fails_ahead_of_its_sync_is_idle_again_behind_the_next_answer() {
    converse(&[(30, false), (26, false), (0, false), (21, false)]).await;
    converse(&[(4, false), (30, false), (26, false), (0, false), (17, false)]).await; // in a transaction
}

/// Queries that the server skips behind a COPY that failed in a transaction: in the other reading it has them still
/// before it, and the errors of later statements look like theirs.
#[tokio::test]
async fn a_copy_that_fails_ahead_of_queries_is_idle_again_behind_the_answers_that_tell() {
    for look in [false, true] {
        converse(&[(4, false), (30, false), (24, look), (24, false), (0, false), (0, false), (34, false)])
            .await;
        converse(&[(4, false), (30, false), (24, look), (0, false), (17, false), (21, false), (21, false)])
            .await;
    }
}

/// Recordings of real sessions of every kind, cut into pieces at any byte.
#[test]
fn a_recording_gives_the_same_states_in_any_pieces() {
    let run = [bind(), execute(), one(b'S')].concat();
    let conversation: [(&[u8], usize); 11] = [
        (&query("create temp table t (n int); listen here; do $$ begin raise notice 'x'; end $$"), 1),
        (&function_call(), 1),
        (&[parse("select generate_series(1, 9)"), run.clone()].concat(), 1),
        (
            &[parse("select 1"), run.clone(), parse("select 1/0"), run.clone(), query("notify here")]
                .concat(),
            3,
        ),
        (&query("begin"), 1),
        (&query("select 1/0"), 1),
        (&query("rollback"), 1),
        (&[query("copy t from stdin"), message(b'd', b"1\n2\n"), one(b'c')].concat(), 1),
        (&query("copy t to stdout"), 1),
        (&[query("copy t from stdin"), message(b'd', b"x\n"), one(b'c')].concat(), 1),
        (&[parse("copy t to stdout"), run].concat(), 1),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (story, record) = runtime.block_on(async {
        let mut session = TrackedSession::start().await;
        for (asks, answers) in conversation {
            session.send(asks).await;
            assert_ne!(session.ready(answers).await, SessionState::Busy, "{}", session.story);
        }
        (session.story, session.record)
    });
    for kind in [">F <V", "<A", "<N", ">d", "<G", "<H", "<d", "<E <Z", "<D"] {
        assert!(story.contains(kind), "no {kind} in {story}");
    }
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let replay = |cuts: Vec<usize>| {
        let (mut tracker, mut cuts) = (Tracker::new(b'I'), cuts.iter().cycle());
        for passed in &record {
            let mut rest = &passed.bytes[..];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                if passed.to_server {
                    tracker.to_server(piece);
                } else {
                    tracker.to_client(piece);
                }
                rest = more;
                // The last ReadyForQuery may be all but there.
                prop_assert!(rest.is_empty() || passed.to_server || tracker.state() == SessionState::Busy);
            }
            prop_assert_eq!(stands(&tracker), passed.stands);
        }
        Ok(())
    };
    runner.run(&prop::collection::vec(1_usize..12, 1..60), replay).unwrap();
}

/// A COPY that fails at its second line, with a Sync before that line and one behind it: the server ignores the
/// first and answers the second, and nobody can know where it failed before the answers are there.
#[tokio::test(flavor = "multi_thread")]
async fn syncs_around_the_line_at_which_a_copy_fails() {
    let mut session = TrackedSession::start().await;
    session.send(&query("create temp table t (n int)")).await;
    session.ready(1).await;
    let (good, bad, sync) = (message(b'd', b"1\n"), message(b'd', b"not a number\n"), one(b'S'));
    let extended = [parse("copy t from stdin"), bind(), execute()].concat();
    for (begin, answers) in [(query("copy t from stdin"), 2), (extended, 1)] {
        session.send(&begin).await;
        while session.receive().await.unwrap().0 != b'G' {}
        assert_eq!(session.tracker.copying(), Some(CopyMode::In));
        session.send(&[&good[..], &sync, &bad, &sync].concat()).await;
        assert_eq!(
            (session.ready(answers).await, session.tracker.owed()),
            (SessionState::Idle, 1),
            "{}",
            session.story
        );
        session.send(&query("select 1")).await;
        assert_eq!(
            (session.ready(1).await, session.tracker.owed()),
            (SessionState::Idle, 0),
            "{}",
            session.story
        );
    }
}
