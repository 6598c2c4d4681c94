//! Sessions whose server is kept: when it is, and that it hears nothing of its client's end.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::{message, plain, read_all};
use crate::config::SessionSettings;
use crate::postgres::Postgres;
use crate::postgres::message::TERMINATE;
use crate::postgres::terminate::{TerminateFilter, TerminatingClient};
use crate::postgres::tracker::Tracker;
use crate::relay::*;

struct Ends {
    client: DuplexStream,
    server: DuplexStream,
    relay: JoinHandle<RelayReport>,
}

fn start(settings: SessionSettings) -> Ends {
    let (client, near_client) = duplex(1_024);
    let (server, mut near_server) = duplex(1_024);
    let expires = std::time::UNIX_EPOCH;
    let options = RelayOptions {
        activity: Arc::default(),
        settings,
        token: TokenTimes { expires, accepted_until: expires },
        clock: Clock::from_fn(|| std::time::UNIX_EPOCH),
        drain: CancellationToken::new(),
        order: DrainOrder::default(),
        now: CancellationToken::new(),
        ended: CancellationToken::new(),
        session: SessionId::random(),
    };
    let relay = tokio::spawn(async move {
        relay::<Postgres, _, _>(
            TerminatingClient { stream: near_client, filter: TerminateFilter::new(true) },
            &mut near_server,
            Tracker::new(b'I'),
            &options,
            async || true,
        )
        .await
    });
    Ends { client, server, relay }
}

impl Ends {
    async fn client_says(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
        let mut heard = vec![0; bytes.len()];
        self.server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, bytes);
    }

    async fn server_says(&mut self, bytes: &[u8]) {
        self.server.write_all(bytes).await.unwrap();
        let mut heard = vec![0; bytes.len()];
        self.client.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, bytes);
    }

    /// The end of the session, and what the server heard of it.
    async fn end(mut self) -> (RelayReport, Vec<u8>) {
        self.client.shutdown().await.unwrap();
        let heard = read_all(&mut self.server).await;
        drop(self.server);
        (self.relay.await.unwrap(), heard)
    }
}

#[tokio::test]
async fn u4_terminate_between_statements_is_withheld_and_the_server_stays_also_after_a_plain_close() {
    for goodbye in [TERMINATE, b""] {
        let mut ends = start(plain());
        ends.client_says(&message(b'Q', b"select 1\0")).await;
        ends.server_says(&message(b'Z', b"I")).await;
        ends.client.write_all(goodbye).await.unwrap();
        let (carried, heard) = ends.end().await;
        assert!(matches!(carried.end, RelayEnd::ClientLeft), "{carried:?}");
        assert_eq!(carried.reusable, Some(ReusableServer { told_parameter: false }));
        assert_eq!((heard, carried.to_server), (vec![], 14));
    }
}

/// When it leaves: what it asked, what it was answered, what it says last.
type Case<'a> = (&'a str, &'a [u8], &'a [u8], &'a [u8]);

#[tokio::test]
async fn u4_a_client_that_leaves_in_mid_statement_ends_the_server_connection() {
    let query = message(b'Q', b"select 1\0");
    let begun = message(b'Z', b"T");
    let failed = message(b'Z', b"E");
    let copying = message(b'G', b"\0\0\0");
    let parsed = message(b'1', b"");
    let row = [message(b'D', b"a row"), message(b'T', b"half")[..6].to_vec()].concat();
    let answered = message(b'Z', b"I");
    let parse = message(b'P', b"\0select 1\0\0\0");
    let half = message(b'Q', b"select")[..7].to_vec();
    let unknown = message(b'!', b"");
    let cases: [Case<'_>; 9] = [
        ("in a transaction", &query, &begun, b""),
        ("in a failed one", &query, &failed, b""),
        ("in a COPY", &query, &copying, b""),
        ("without a Sync", &parse, &parsed, b""),
        ("without the answer", &query, b"", b""),
        ("in the middle of the answer", &query, &row, b""),
        ("in the middle of a request", &query, &answered, &half),
        ("with one more request", &query, &answered, &query),
        ("after what nobody understands", &unknown, b"", b""),
    ];
    for (when, asked, said, last) in cases {
        for goodbye in [TERMINATE, b""] {
            let mut ends = start(plain());
            ends.client_says(asked).await;
            ends.server_says(said).await;
            // In one piece, as drivers write it.
            ends.client.write_all(&[last, goodbye].concat()).await.unwrap();
            let (carried, heard) = ends.end().await;
            assert_eq!(carried.reusable, None, "{when}");
            assert_eq!(heard, [last, goodbye].concat(), "{when}: it is all the server's");
        }
    }
}

#[tokio::test]
async fn u4_terminate_is_recognized_only_at_a_message_boundary() {
    // Inside a message it is text.
    let mut ends = start(plain());
    ends.client_says(&message(b'Q', TERMINATE)).await;
    ends.server_says(&message(b'Z', b"I")).await;
    assert!(ends.end().await.0.reusable.is_some());
    // With something behind it, or in pieces, it is the server's.
    let more = [TERMINATE, b"Q"].concat();
    for pieces in [&[&more[..]][..], &[&TERMINATE[..2], &TERMINATE[2..]]] {
        let mut ends = start(plain());
        for piece in pieces {
            ends.client_says(piece).await;
        }
        assert_eq!(ends.end().await.0.reusable, None, "{pieces:?}");
    }
}

#[tokio::test]
async fn u4_parameter_changes_of_the_server_are_recorded() {
    let mut ends = start(plain());
    ends.server_says(&message(b'S', b"TimeZone\0UTC\0")).await;
    ends.client.write_all(TERMINATE).await.unwrap();
    assert_eq!(ends.end().await.0.reusable, Some(ReusableServer { told_parameter: true }));
}

#[tokio::test(start_paused = true)]
async fn u4_a_session_that_a_limit_ends_also_ends_the_server_connection() {
    let settings = SessionSettings { client_idle_timeout: Some(Duration::from_secs(9)), ..plain() };
    let mut ends = start(settings);
    let farewell = read_all(&mut ends.client).await;
    assert!(!farewell.is_empty());
    let (carried, heard) = ends.end().await;
    assert_eq!((carried.reusable, &heard[..]), (None, TERMINATE));
}

#[tokio::test(start_paused = true)]
async fn c3_a_client_that_stays_after_terminate_is_closed_after_two_seconds() {
    let mut ends = start(plain());
    ends.client.write_all(TERMINATE).await.unwrap();
    let begun = tokio::time::Instant::now();
    let carried = ends.relay.await.unwrap();
    assert!(carried.reusable.is_some());
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    drop(ends.server);
}
