//! The order that the sessions of a cluster end, given and taken back while the clock stands still.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::{Ends, message, plain, read_all, start_with};
use crate::relay::time_limits::FIRST_STATEMENT;
use crate::relay::*;

const GRACE: Duration = Duration::from_mins(5);

/// Lets the client ask and the server answer with this transaction status.
async fn exchange(ends: &mut Ends, status: &[u8; 1]) {
    let (ask, answer) = (message(b'Q', b"q\0"), message(b'Z', status));
    ends.client.write_all(&ask).await.unwrap();
    ends.server.read_exact(&mut vec![0; ask.len()]).await.unwrap();
    ends.server.write_all(&answer).await.unwrap();
    ends.client.read_exact(&mut vec![0; answer.len()]).await.unwrap();
}

/// The last error, the cause, and the moment of the end.
async fn farewell(mut ends: Ends) -> (String, EndCause, Instant) {
    let word = String::from_utf8_lossy(&read_all(&mut ends.client).await).into_owned();
    let at = Instant::now();
    drop((ends.client, ends.server));
    match ends.relay.await.unwrap().end {
        RelayEnd::Ended { cause, told: true } => (word, cause, at),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_ordered_session_ends_when_it_is_idle_and_after_the_grace_at_the_latest() {
    let mut idle = start_with(256, plain());
    exchange(&mut idle, b"I").await;
    sleep(2 * FIRST_STATEMENT).await;
    let ordered = Instant::now();
    idle.seen.order.set(Some(GRACE));
    let (word, cause, at) = farewell(idle).await;
    assert!(word.contains("57P01") && word.contains("an operator drains the cluster"), "{word}");
    assert_eq!((cause, at), (EndCause::ClusterDrained, ordered));

    let mut working = start_with(256, plain());
    exchange(&mut working, b"T").await;
    working.seen.order.set(Some(GRACE));
    sleep(GRACE / 2).await;
    exchange(&mut working, b"T").await;
    exchange(&mut working, b"I").await;
    let (_, cause, at) = farewell(working).await;
    assert_eq!((cause, at), (EndCause::ClusterDrained, Instant::now()));

    let mut endless = start_with(256, plain());
    exchange(&mut endless, b"T").await;
    let ordered = Instant::now();
    endless.seen.order.set(Some(GRACE));
    let (_, cause, at) = farewell(endless).await;
    assert_eq!((cause, at - ordered), (EndCause::ClusterDrained, GRACE));
}

#[tokio::test(start_paused = true)]
async fn an_order_is_taken_back_and_given_again() {
    let mut ends = start_with(256, plain());
    exchange(&mut ends, b"T").await;
    for _ in 0..2 {
        ends.seen.order.set(Some(GRACE));
        sleep(GRACE / 2).await;
        ends.seen.order.set(None);
        sleep(2 * GRACE).await;
        exchange(&mut ends, b"I").await;
        sleep(2 * GRACE).await;
        exchange(&mut ends, b"T").await;
    }
    ends.seen.order.set(Some(GRACE));
    sleep(GRACE / 2).await;
    exchange(&mut ends, b"I").await;
    assert_eq!(farewell(ends).await.1, EndCause::ClusterDrained);
}

/// A session whose login was under way when the order came gets it too; the stop of the service holds as well.
#[tokio::test(start_paused = true)]
async fn an_order_is_there_from_the_start_and_a_stop_outlives_it() {
    let mut ends = start_with(256, plain());
    ends.seen.order.set(Some(GRACE)); // before its task has run
    exchange(&mut ends, b"T").await;
    sleep(2 * FIRST_STATEMENT).await;
    ends.drain.cancel();
    sleep(FIRST_STATEMENT).await;
    ends.seen.order.set(None);
    sleep(2 * GRACE).await;
    exchange(&mut ends, b"I").await;
    assert_eq!(farewell(ends).await.1, EndCause::Drained);
}
