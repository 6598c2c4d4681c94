//! The rules of `[session]`, on sessions between in-memory pipes, with tokio's clock standing still until all
//! wait for it.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::{Ends, LEEWAY, NOON, TOKEN_LIFE, message, plain, read_all, start_at, start_with};
use crate::config::OnTokenExpiry;
use crate::postgres::message::TERMINATE;
use crate::relay::time_limits::FIRST_STATEMENT;
use crate::relay::*;

const MINUTE: Duration = Duration::from_mins(1);

fn ready(status: &str) -> Vec<u8> {
    message(b'Z', status.as_bytes())
}

/// Lets the client ask and the server answer.
async fn exchange(ends: &mut Ends, answer: &[u8]) {
    let ask = message(b'Q', b"q\0");
    ends.client.write_all(&ask).await.unwrap();
    let mut asked = vec![0; ask.len()];
    ends.server.read_exact(&mut asked).await.unwrap();
    ends.server.write_all(answer).await.unwrap();
    let mut answered = vec![0; answer.len()];
    ends.client.read_exact(&mut answered).await.unwrap();
    assert_eq!(answered, answer);
}

/// All that the client still gets, which is one FATAL error; and when it came.
async fn farewell(ends: &mut Ends) -> (String, Instant) {
    let read = read_all(&mut ends.client).await;
    let at = Instant::now();
    let length = u32::from_be_bytes(read[1..5].try_into().unwrap()) as usize;
    assert!(read[0] == b'E' && read.len() == length + 1, "{read:?}");
    let text = String::from_utf8(read[5..].to_vec()).unwrap();
    let field = |code| text.split('\0').find_map(|field| field.strip_prefix(code)).unwrap();
    (format!("{} {}: {}", field("V"), field("C"), field("M")), at)
}

async fn cause(ends: Ends) -> EndCause {
    drop((ends.client, ends.server));
    match ends.relay.await.unwrap().end {
        RelayEnd::Ended { cause, told: true } => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_ended_as_postgresql_does_it() {
    let settings = SessionSettings { client_idle_timeout: Some(MINUTE), ..plain() };
    let mut ends = start_with(256, settings);
    // Neither a long query nor an open transaction is idle, and each answer begins the time anew.
    sleep(MINUTE / 2).await;
    ends.client.write_all(&message(b'Q', b"q\0")).await.unwrap();
    sleep(10 * MINUTE).await;
    ends.server.write_all(&ready("T")).await.unwrap();
    sleep(10 * MINUTE).await;
    ends.client.read_exact(&mut [0; 6]).await.unwrap();
    ends.server.read_exact(&mut [0; 7]).await.unwrap();
    exchange(&mut ends, &ready("I")).await;
    let idle_since = Instant::now();
    sleep(MINUTE / 2).await;
    // A notification is not the client's doing.
    ends.server.write_all(&message(b'A', b"note")).await.unwrap();
    ends.client.read_exact(&mut [0; 9]).await.unwrap();
    let (word, at) = farewell(&mut ends).await;
    assert_eq!(word, "FATAL 57P05: terminating connection due to idle-session timeout");
    assert_eq!(at - idle_since, MINUTE);
    assert_eq!(read_all(&mut ends.server).await, TERMINATE);
    assert_eq!(cause(ends).await, EndCause::ClientIdle);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_left_open_is_ended_as_postgresql_does_it() {
    for status in ["T", "E"] {
        let settings = SessionSettings { idle_transaction_timeout: Some(MINUTE), ..plain() };
        let mut ends = start_with(256, settings);
        sleep(10 * MINUTE).await;
        exchange(&mut ends, &ready(status)).await;
        sleep(MINUTE / 2).await;
        exchange(&mut ends, &ready(status)).await;
        let open_since = Instant::now();
        let (word, at) = farewell(&mut ends).await;
        assert_eq!(word, "FATAL 25P03: terminating connection due to idle-in-transaction timeout");
        assert_eq!(at - open_since, MINUTE);
        assert_eq!(cause(ends).await, EndCause::IdleInTransaction);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_session_ends_out_of_its_transaction_or_a_minute_later() {
    let old = SessionSettings { max_lifetime: Some(MINUTE), ..plain() };
    let born = Instant::now();
    let mut idle = start_with(256, old.clone());
    let (word, at) = farewell(&mut idle).await;
    assert_eq!(word, "FATAL 57P01: terminating connection due to session lifetime limit");
    assert_eq!((at - born, cause(idle).await), (MINUTE, EndCause::Lifetime));

    let born = Instant::now();
    let mut patient = start_with(256, old.clone());
    exchange(&mut patient, &ready("T")).await;
    sleep(MINUTE + MINUTE / 2).await;
    exchange(&mut patient, &ready("I")).await;
    assert_eq!(farewell(&mut patient).await.1 - born, MINUTE + MINUTE / 2);

    let born = Instant::now();
    let mut endless = start_with(256, old);
    exchange(&mut endless, &ready("T")).await;
    assert_eq!(farewell(&mut endless).await.1 - born, 2 * MINUTE);
}

#[tokio::test(start_paused = true)]
async fn j14_a_session_ends_with_its_token_as_configured() {
    let with = |on_token_expiry| SessionSettings { on_token_expiry, ..plain() };
    let expired = "FATAL 57P01: terminating connection due to token expiry";
    for (rule, status, after) in [
        (OnTokenExpiry::Close, "I", Duration::ZERO),
        (OnTokenExpiry::Close, "T", Duration::from_secs(2)),
        (OnTokenExpiry::CloseWhenIdle, "I", Duration::ZERO),
    ] {
        let born = Instant::now();
        let mut ends = start_with(256, with(rule));
        exchange(&mut ends, &ready(status)).await;
        let (word, at) = farewell(&mut ends).await;
        assert_eq!((word.as_str(), at - born), (expired, TOKEN_LIFE + LEEWAY + after), "{rule:?} {status}");
        assert_eq!(cause(ends).await, EndCause::TokenExpired);
    }
    for (rule, status) in [(OnTokenExpiry::CloseWhenIdle, "T"), (OnTokenExpiry::Keep, "I")] {
        let mut ends = start_with(256, with(rule));
        exchange(&mut ends, &ready(status)).await;
        sleep(10 * TOKEN_LIFE).await;
        exchange(&mut ends, &ready(status)).await;
        if rule == OnTokenExpiry::CloseWhenIdle {
            exchange(&mut ends, &ready("I")).await;
            assert_eq!(farewell(&mut ends).await.0, expired);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn j14_inside_a_message_the_end_waits_five_seconds_for_its_boundary() {
    for finishes in [true, false] {
        let settings = SessionSettings { on_token_expiry: OnTokenExpiry::Close, ..plain() };
        let born = Instant::now();
        let mut ends = start_with(256, settings);
        ends.client.write_all(&message(b'Q', b"q\0")).await.unwrap();
        let row = message(b'D', &[7; 50]);
        ends.server.write_all(&row[..20]).await.unwrap();
        sleep(TOKEN_LIFE + LEEWAY + Duration::from_secs(3)).await;
        if finishes {
            ends.server.write_all(&[&row[20..], &row].concat()).await.unwrap();
        }
        let read = read_all(&mut ends.client).await;
        assert!(born.elapsed() <= TOKEN_LIFE + LEEWAY + Duration::from_secs(5));
        if finishes {
            // The row is whole, and the next one is not begun.
            assert_eq!(read[..row.len()], row);
            assert!(read[row.len()] == b'E' && read.windows(6).any(|part| part == b"C57P01"));
        } else {
            assert_eq!(read, row[..20]);
            let end = ends.relay.await.unwrap().end;
            assert!(matches!(end, RelayEnd::Ended { cause: EndCause::TokenExpired, told: false }), "{end:?}");
        }
    }
}

/// A wall clock that was an hour ahead when the session began, and is put right.
#[tokio::test(start_paused = true)]
async fn r17_a_clock_put_back_gives_the_session_its_time() {
    let begun = Instant::now();
    let clock = Clock::from_fn(move || {
        let ahead = if begun.elapsed() < MINUTE { 5 * MINUTE } else { Duration::ZERO };
        std::time::UNIX_EPOCH + NOON + begun.elapsed() + ahead
    });
    let settings = SessionSettings { on_token_expiry: OnTokenExpiry::CloseWhenIdle, ..plain() };
    let mut ends = start_at(256, settings.clone(), clock);
    assert_eq!(farewell(&mut ends).await.1 - begun, TOKEN_LIFE + LEEWAY);
    // And one that jumps ahead ends nothing early.
    let begun = Instant::now();
    let clock = Clock::from_fn(move || {
        let ahead = if begun.elapsed() < MINUTE { Duration::ZERO } else { 60 * MINUTE };
        std::time::UNIX_EPOCH + NOON + begun.elapsed() + ahead
    });
    let mut ends = start_at(256, settings, clock);
    assert_eq!(farewell(&mut ends).await.1 - begun, TOKEN_LIFE + LEEWAY);
}

#[tokio::test(start_paused = true)]
async fn u8_the_notice_comes_between_messages_and_not_into_a_copy() {
    let settings = SessionSettings { token_expiry_notice: Some(MINUTE), ..plain() };
    let noticed = async |ends: &mut Ends| {
        let mut header = [0; 5];
        ends.client.read_exact(&mut header).await.unwrap();
        assert_eq!(header[0], b'N');
        let mut body = vec![0; u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4];
        ends.client.read_exact(&mut body).await.unwrap();
        String::from_utf8(body).unwrap()
    };
    let born = Instant::now();
    let mut idle = start_with(256, settings.clone());
    let text = noticed(&mut idle).await;
    assert_eq!(born.elapsed() + MINUTE, TOKEN_LIFE);
    assert!(
        text.starts_with("SNOTICE\0VNOTICE\0C01000\0Mthe token of this session expires in 1m\0DSession "),
        "{text}"
    );
    sleep(10 * TOKEN_LIFE).await;
    exchange(&mut idle, &ready("I")).await; // said once, and nothing has ended

    let mut busy = start_with(256, settings.clone());
    busy.client.write_all(&message(b'Q', b"q\0")).await.unwrap();
    let row = message(b'D', b"a row");
    busy.server.write_all(&row[..7]).await.unwrap();
    sleep(TOKEN_LIFE).await;
    busy.server.write_all(&row[7..]).await.unwrap();
    let mut got = vec![0; row.len()];
    busy.client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, row);
    assert!(noticed(&mut busy).await.contains("Mthe token of this session has expired\0"));

    let mut copying = start_with(256, settings);
    copying.client.write_all(&message(b'Q', b"q\0")).await.unwrap();
    let (begin, line) = (message(b'H', b"\0\0\0"), message(b'd', b"a line"));
    copying.server.write_all(&[&begin[..], &line].concat()).await.unwrap();
    sleep(TOKEN_LIFE).await;
    let end = [&line[..], &message(b'c', b""), &message(b'C', b"COPY 2\0")].concat();
    copying.server.write_all(&end).await.unwrap();
    let expected = [&begin[..], &line, &end].concat();
    let mut got = vec![0; expected.len()];
    copying.client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, expected);
    noticed(&mut copying).await;
}

#[tokio::test(start_paused = true)]
async fn r18_a_drain_waits_for_what_is_under_way_and_for_nothing_else() {
    // One that was welcomed a moment ago has a second for its first statement, also when the drain began before.
    for age in [Duration::ZERO, FIRST_STATEMENT / 2, MINUTE] {
        let welcomed = Instant::now();
        let mut idle = start_with(256, plain());
        sleep(age).await;
        idle.drain.cancel();
        let (word, at) = farewell(&mut idle).await;
        assert_eq!(word, "FATAL 57P01: terminating connection due to administrator command");
        assert_eq!(at - welcomed, age.max(FIRST_STATEMENT));
        assert_eq!(cause(idle).await, EndCause::Drained);
    }

    // A transaction, and a pipeline behind it: all of it is answered.
    let mut busy = start_with(1_024, plain());
    exchange(&mut busy, &ready("T")).await;
    busy.drain.cancel();
    sleep(10 * MINUTE).await;
    let asks = [message(b'Q', b"commit\0"), message(b'P', b"\0\0\0\0"), message(b'S', b"")].concat();
    busy.client.write_all(&asks).await.unwrap();
    let mut asked = vec![0; asks.len()];
    busy.server.read_exact(&mut asked).await.unwrap();
    for answer in [ready("I"), message(b'1', b""), ready("I")] {
        sleep(10 * MINUTE).await;
        busy.server.write_all(&answer).await.unwrap();
        let mut answered = vec![0; answer.len()];
        busy.client.read_exact(&mut answered).await.unwrap();
        assert_eq!(answered, answer);
    }
    farewell(&mut busy).await;
    assert_eq!(cause(busy).await, EndCause::Drained);

    // One that never ends is ended by the deadline, which is not the relay's.
    let mut endless = start_with(256, plain());
    exchange(&mut endless, &ready("T")).await;
    endless.drain.cancel();
    sleep(10 * MINUTE).await;
    endless.now.cancel();
    farewell(&mut endless).await;
    assert_eq!(cause(endless).await, EndCause::Stopped);
}

/// A server at work is told to stop, when a rule ends the session and only then.
#[tokio::test(start_paused = true)]
async fn r18_a_statement_without_a_client_is_cancelled() {
    for (asks, answer, stops, recalled) in [
        (true, vec![], true, true),
        (true, message(b'D', b"a row"), true, true),
        (true, ready("T"), true, false),
        (false, vec![], true, false),
        (true, vec![], false, false),
    ] {
        let mut ends = start_with(256, plain());
        if asks {
            ends.client.write_all(&message(b'Q', b"q\0")).await.unwrap();
            ends.server.read_exact(&mut [0; 7]).await.unwrap();
        }
        ends.server.write_all(&answer).await.unwrap();
        ends.client.read_exact(&mut vec![0; answer.len()]).await.unwrap();
        if stops {
            ends.now.cancel();
            farewell(&mut ends).await;
        }
        drop(ends.client); // a direct connection would not cancel for a client that has gone
        drop(ends.server);
        let report = ends.relay.await.unwrap();
        assert_eq!(report.statement_cancelled, recalled.then_some(true));
        assert_eq!(ends.seen.recalled.load(Ordering::Relaxed), recalled, "{asks} {answer:?} {stops}");
    }
}

/// Between its messages a session sleeps until one of its times is over: nothing beats meanwhile.
#[tokio::test(start_paused = true)]
async fn r23_an_idle_session_is_not_woken() {
    let limited = SessionSettings {
        client_idle_timeout: Some(90 * MINUTE),
        idle_transaction_timeout: Some(90 * MINUTE),
        max_lifetime: Some(90 * MINUTE),
        ..plain()
    };
    for (settings, status) in [(plain(), "I"), (plain(), "T"), (limited.clone(), "I"), (limited, "T")] {
        let mut ends = start_with(256, settings.clone());
        exchange(&mut ends, &ready(status)).await;
        sleep(Duration::from_millis(1)).await; // the clock goes on when everybody sleeps
        let before = ends.seen.woken.load(Ordering::Relaxed);
        assert!(before > 0);
        sleep(60 * MINUTE).await;
        let woken = ends.seen.woken.load(Ordering::Relaxed) - before;
        assert_eq!(woken, 0, "times in an hour of {settings:?} {status}");
        exchange(&mut ends, &ready(status)).await;
        assert!(ends.seen.woken.load(Ordering::Relaxed) > before, "it can be woken");
    }
}
