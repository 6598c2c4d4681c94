//! The relay between two tiny in-memory pipes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::config::OnTokenExpiry;
use crate::net::buffers::{BUFFER_BYTES, ReadAhead};
use crate::net::test_tls::TestTls;
use crate::postgres::Postgres;
use crate::postgres::message::TERMINATE;
use crate::postgres::terminate::{TerminateFilter, TerminatingClient};
use crate::postgres::tracker::Tracker;

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &crate::postgres::message::message_length(body.len())[..], body].concat()
}

pub(super) struct Ends {
    pub(super) client: DuplexStream,
    pub(super) server: DuplexStream,
    pub(super) drain: CancellationToken,
    pub(super) now: CancellationToken,
    pub(super) relay: JoinHandle<RelayReport>,
    pub(super) seen: Arc<Seen>,
}

/// What a test sees of a relay from outside.
#[derive(Default)]
pub(super) struct Seen {
    /// Whether the server has been told to stop its work.
    pub(super) recalled: AtomicBool,
    /// The live view.
    pub(super) activity: Arc<SessionActivity>,
    /// An operator's order that the sessions of the cluster end.
    pub(super) order: DrainOrder,
    /// How often its task was woken.
    pub(super) woken: AtomicUsize,
}

/// The settings of a file without `[session]`.
pub(super) fn plain() -> SessionSettings {
    SessionSettings {
        client_idle_timeout: None,
        idle_transaction_timeout: None,
        max_lifetime: None,
        on_token_expiry: OnTokenExpiry::Keep,
        token_expiry_notice: None,
    }
}

fn start(pipe: usize) -> Ends {
    start_with(pipe, plain())
}

/// With a token that expires in [`TOKEN_LIFE`], by a wall clock that goes as tokio's.
pub(super) fn start_with(pipe: usize, settings: SessionSettings) -> Ends {
    let begun = Instant::now();
    let clock = Clock::from_fn(move || UNIX_EPOCH + NOON + begun.elapsed());
    start_at(pipe, settings, clock)
}

pub(super) const NOON: Duration = Duration::from_hours(12);
pub(super) const TOKEN_LIFE: Duration = Duration::from_mins(10);
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

pub(super) fn start_at(pipe: usize, settings: SessionSettings, clock: Clock) -> Ends {
    let (client, near_client) = duplex(pipe);
    let (server, near_server) = duplex(pipe);
    let (drain, now) = (CancellationToken::new(), CancellationToken::new());
    let seen = Arc::default();
    let stop = (drain.clone(), now.clone());
    let relay = carry(near_client, near_server, settings, clock, stop, Arc::clone(&seen));
    Ends { client, server, drain, now, relay, seen }
}

pub(super) fn carry<C, S>(
    client: C,
    server: S,
    settings: SessionSettings,
    clock: Clock,
    (drain, now): (CancellationToken, CancellationToken),
    seen: Arc<Seen>,
) -> JoinHandle<RelayReport>
where
    C: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    S: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let expires = UNIX_EPOCH + NOON + TOKEN_LIFE;
        let options = RelayOptions {
            activity: Arc::clone(&seen.activity),
            settings,
            token: TokenTimes { expires, accepted_until: expires + LEEWAY },
            clock,
            drain,
            order: seen.order.clone(),
            ended: now.child_token(),
            now,
            session: SessionId::random(),
        };
        let recall = async || !seen.recalled.swap(true, Ordering::Relaxed);
        let mut relaying = pin!(relay::<Postgres, _, _>(
            TerminatingClient { stream: client, filter: TerminateFilter::new(false) },
            server,
            Tracker::new(b'I'),
            &options,
            recall
        ));
        poll_fn(|cx| {
            seen.woken.fetch_add(1, Ordering::Relaxed);
            relaying.as_mut().poll(cx)
        })
        .await
    })
}

pub(super) async fn read_all(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// As [`read_all`], at most `step` bytes at a time, so that a pipe is rarely empty when it is written to.
async fn read_in_steps(stream: &mut DuplexStream, step: usize) -> Vec<u8> {
    let (mut bytes, mut some) = (Vec::new(), vec![0; step]);
    loop {
        tokio::task::yield_now().await;
        match stream.read(&mut some).await.unwrap() {
            0 => return bytes,
            read => bytes.extend_from_slice(&some[..read]),
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_still_gets_the_answer() {
    let mut ends = start(4);
    let client = tokio::spawn(async move {
        ends.client.write_all(&message(b'Q', b"select\0")).await.unwrap();
        ends.client.shutdown().await.unwrap();
        read_all(&mut ends.client).await
    });
    assert_eq!(read_all(&mut ends.server).await, message(b'Q', b"select\0"));
    ends.server.write_all(&message(b'Z', b"I")).await.unwrap();
    drop(ends.server);
    assert_eq!(client.await.unwrap(), message(b'Z', b"I"));
    let carried = ends.relay.await.unwrap();
    assert!(matches!(carried.end, RelayEnd::ClientLeft), "{carried:?}");
    assert_eq!((carried.to_server, carried.to_client), (12, 6));
}

#[tokio::test(start_paused = true)]
async fn r4_the_error_about_a_lost_server_is_sent_only_at_a_message_boundary() {
    let messages = [message(b'T', b"ab"), message(b'D', b"a row"), message(b'D', b""), message(b'Z', b"I")];
    let stream = messages.concat();
    let mut ends_of_messages = vec![0];
    for message in &messages {
        ends_of_messages.push(ends_of_messages[ends_of_messages.len() - 1] + message.len());
    }
    for cut in 0..=stream.len() {
        let mut ends = start(64);
        ends.server.write_all(&stream[..cut]).await.unwrap();
        drop(ends.server);
        let read = read_all(&mut ends.client).await;
        assert_eq!(read[..cut], stream[..cut]);
        let text = String::from_utf8_lossy(&read[cut..]);
        if ends_of_messages.contains(&cut) {
            assert!(
                text.starts_with('E') && text.contains("C08006\0Mserver connection lost\0"),
                "{cut}: {text}"
            );
        } else {
            assert!(text.is_empty(), "{cut}: {text}");
        }
        assert!(matches!(ends.relay.await.unwrap().end, RelayEnd::ServerLost(None)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_last_words_are_the_last() {
    let mut ends = start(16);
    let error = message(b'E', b"SFATAL\0C57P01\0\0");
    let server = tokio::spawn(async move {
        ends.server.write_all(&message(b'E', b"SFATAL\0C57P01\0\0")).await.unwrap();
        drop(ends.server);
    });
    assert_eq!(read_all(&mut ends.client).await, error);
    server.await.unwrap();
    assert!(matches!(ends.relay.await.unwrap().end, RelayEnd::ServerEnded));
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_a_boundary_sends_57p01_and_terminates_at_the_server() {
    let mut ends = start(1024);
    ends.server.write_all(&message(b'Z', b"T")).await.unwrap();
    let mut ready = [0; 6];
    ends.client.read_exact(&mut ready).await.unwrap();
    ends.now.cancel();
    let text = String::from_utf8_lossy(&read_all(&mut ends.client).await).into_owned();
    assert!(text.contains("C57P01\0Mterminating connection due to administrator command\0"), "{text}");
    assert_eq!(read_all(&mut ends.server).await, TERMINATE);
    assert!(matches!(
        ends.relay.await.unwrap().end,
        RelayEnd::Ended { cause: EndCause::Stopped, told: true }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_stop_inside_a_message_waits_for_its_end_but_not_for_ever() {
    for finishes in [true, false] {
        let mut ends = start(1024);
        let row = message(b'D', b"a row");
        ends.server.write_all(&row[..6]).await.unwrap();
        let mut begun = [0; 6];
        ends.client.read_exact(&mut begun).await.unwrap();
        ends.now.cancel();
        tokio::task::yield_now().await;
        if finishes {
            ends.server.write_all(&row[6..]).await.unwrap();
        }
        let read = read_all(&mut ends.client).await;
        if finishes {
            assert_eq!(read[..4], row[6..]);
            assert!(read.windows(6).any(|window| window == b"C57P01"));
        } else {
            assert!(read.is_empty(), "{read:?}");
        }
    }
}

/// Sends `there` to a reader that does not read it, and meanwhile the same amount the other way; only then
/// is the first one read.
async fn pass_a_reader_that_sleeps(
    stuck: (&mut (impl AsyncWrite + Unpin), &mut (impl AsyncRead + Unpin)),
    free: (&mut (impl AsyncWrite + Unpin), &mut (impl AsyncRead + Unpin)),
) {
    let (there, back) = (vec![b'u'; 100_000], vec![b'd'; 100_000]);
    let (mut got_there, mut got_back) = (vec![0; 100_000], vec![0; 100_000]);
    let mut stuck_write = pin!(stuck.0.write_all(&there));
    let passing = async { tokio::join!(free.0.write_all(&back), free.1.read_exact(&mut got_back)) };
    tokio::select! {
        biased;
        _ = &mut stuck_write => panic!("100,000 bytes are kept somewhere"),
        passed = timeout(Duration::from_mins(1), passing) => {
            let (written, read) = passed.expect("one direction waits for the other");
            written.unwrap();
            read.unwrap();
        }
    }
    let (written, read) = tokio::join!(stuck_write, stuck.1.read_exact(&mut got_there));
    written.unwrap();
    read.unwrap();
    assert!(got_there == there && got_back == back);
}

#[tokio::test(start_paused = true)]
async fn each_direction_moves_while_the_others_reader_sleeps() {
    let ends = start(7);
    let (mut client_read, mut client_write) = tokio::io::split(ends.client);
    let (mut server_read, mut server_write) = tokio::io::split(ends.server);
    let (up, down) = ((&mut client_write, &mut server_read), (&mut server_write, &mut client_read));
    pass_a_reader_that_sleeps(up, down).await;
    let (up, down) = ((&mut client_write, &mut server_read), (&mut server_write, &mut client_read));
    pass_a_reader_that_sleeps(down, up).await;
}

/// Nobody wakes the relay again for what has come before it looks: it has to go on until there is no more.
#[tokio::test(start_paused = true)]
async fn what_waits_already_is_carried_to_its_last_byte() {
    for size in [1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES, 20 * BUFFER_BYTES + 7]
    {
        for down in [true, false] {
            let ends = start(size);
            let (mut from, mut to) =
                if down { (ends.server, ends.client) } else { (ends.client, ends.server) };
            from.write_all(&vec![b'd'; size]).await.unwrap();
            let mut got = vec![0; size];
            let all = timeout(Duration::from_mins(1), to.read_exact(&mut got)).await;
            assert!(all.is_ok(), "{size} bytes, down: {down}: some are kept");
        }
    }
}

/// Both legs in TLS, as in life. With the clock standing still, a writer that has to wait for a minute is one
/// that waits for ever: what the server could send until then is what the relay holds.
#[tokio::test(start_paused = true)]
async fn r9_a_client_that_does_not_read_costs_a_few_buffers_and_no_more() {
    const PIPE: usize = 4 * 1024;
    /// What waits for the client, encrypted; and the test's own server takes up to 64 KiB before it waits.
    const MOST: usize = 2 * PIPE + BUFFER_BYTES + 64 * 1024;
    let tls = TestTls::new("localhost");
    let (acceptor, connector) = (tls.acceptor(), tls.connector());
    let localhost = || ServerName::try_from("localhost").unwrap();
    let (client, near_client) = duplex(PIPE);
    let (server, near_server) = duplex(PIPE);
    let near_client = acceptor.accept(ReadAhead::new(near_client));
    let near_server = connector.connect(localhost(), ReadAhead::new(near_server));
    let (client, near_client, server, near_server) = tokio::try_join!(
        connector.connect(localhost(), client),
        near_client,
        acceptor.accept(server),
        near_server
    )
    .unwrap();
    let relay = carry(near_client, near_server, plain(), Clock::system(), Default::default(), Arc::default());
    let (mut client, mut server) = (client, server);
    let row = message(b'D', &[b'x'; 1_000]);
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_mins(1), server.write(&row[sent % row.len()..])).await {
        sent += written.unwrap();
        assert!(sent <= MOST, "{sent} bytes taken and nobody reads");
    }
    assert!(sent > PIPE, "nothing got through");
    // And it goes on where it stopped, both ways.
    let rest = row.len() - sent % row.len();
    let total = sent + rest + 1_000 * row.len();
    let writing = tokio::spawn(async move {
        server.write_all(&row[row.len() - rest..]).await.unwrap();
        for _ in 0..1_000 {
            server.write_all(&row).await.unwrap();
        }
        server.flush().await.unwrap();
        (server, row)
    });
    let mut got = vec![0; total];
    client.read_exact(&mut got).await.unwrap();
    let (server, row) = writing.await.unwrap();
    assert!(got.chunks(row.len()).all(|chunk| chunk == row));
    drop((client, server));
    relay.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_byte_arrives_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..20),
        pipe in 1_usize..40,
        step in 1_usize..8,
        down in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let ends = start(pipe);
            let sent = chunks.concat();
            let (mut from, mut to) = if down { (ends.server, ends.client) } else { (ends.client, ends.server) };
            let writer = tokio::spawn(async move {
                for chunk in chunks {
                    from.write_all(&chunk).await.unwrap();
                }
                from.shutdown().await.unwrap();
                from
            });
            let got = read_in_steps(&mut to, step).await;
            // A server that leaves without a word is explained to the client.
            prop_assert!(got.starts_with(&sent) && (down || got.len() == sent.len()));
            drop(to);
            drop(writer.await.unwrap());
            ends.relay.await.unwrap();
            Ok(())
        })?;
    }
}

mod activity;
mod drain_order;
mod low_water;
mod terminate;
mod time_limits;
