//! Clients of both protocols, well-behaved and not, against commands that answer numbers.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::postgres::message::{RawMessage, read_message};

const COLUMNS: &[Column] = &[Column::text("word"), Column::number("number")];

/// `rows N` answers N rows, `wide N` N long ones, `act` none, anything else fails.
#[derive(Default)]
struct Numbers {
    in_transaction: bool,
}

fn wanted(command: &str) -> Result<Option<u32>, CommandFailure> {
    match command.strip_prefix("rows ").or_else(|| command.strip_prefix("wide ")) {
        Some(count) => Ok(count.parse().ok()),
        None if command == "act" || command == "begin" => Ok(None),
        None => Err(CommandFailure::new("42601", "no such command").detail("d").hint("h")),
    }
}

impl Commands for Numbers {
    fn split(&self, text: &str) -> Result<Vec<String>, CommandFailure> {
        Ok(text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }
    fn columns(&self, command: &str) -> Result<&'static [Column], CommandFailure> {
        if command.is_empty() {
            return Ok(&[]);
        }
        Ok(if wanted(command)?.is_some() { COLUMNS } else { &[] })
    }
    async fn run(&mut self, command: &str, mut rows: RowEncoder) -> Result<CommandAnswer, CommandFailure> {
        self.in_transaction = command == "begin";
        let Some(count) = wanted(command)? else {
            return Ok(CommandAnswer { tag: "ACT".into(), notice: Some("done".into()), rows: None });
        };
        let wide = command.starts_with("wide "); // rows of a kilobyte
        for number in 0..count {
            let word = if wide { "x".repeat(1_000).into() } else { "é".into() };
            rows.push(&[word, Cell::Number(number.into())]);
        }
        let (rows, left_out) = rows.finish();
        let notice = (left_out > 0).then(|| format!("{left_out} left out"));
        Ok(CommandAnswer { rows: Some(rows), tag: "SHOW".into(), notice })
    }
    fn in_transaction(&self) -> bool {
        self.in_transaction
    }
}

fn serving(buffer: usize) -> (DuplexStream, JoinHandle<CommandEnd>) {
    let (ours, theirs) = duplex(buffer);
    let mut server = CommandServer::new(ClientStream::Plain(ours));
    let serving = tokio::spawn(async move { server.run(&mut Numbers::default()).await });
    (theirs, serving)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    RawMessage { tag, body: body.to_vec() }.encode_into(&mut out);
    out.to_vec()
}

/// Sends `bytes` and leaves; gives the types of all answers, and their bytes.
async fn answers(bytes: &[u8]) -> (String, Vec<u8>, CommandEnd) {
    let (mut client, serving) = serving(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.write_all(&message(b'X', b"")).await.unwrap();
    let end = serving.await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    let (mut tags, mut rest) = (String::new(), heard.as_slice());
    while !rest.is_empty() {
        let message = read_message(&mut rest, |_| Some(1 << 20)).await.unwrap();
        tags.push(char::from(message.tag));
    }
    (tags, heard, end)
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

/// Parse, Bind with these result formats, Describe, Execute with a row limit, Sync.
fn extended(text: &str, formats: &[u8], max: u8) -> Vec<u8> {
    let mut bind = b"\0\0\0\0\0\0\0".to_vec();
    bind.push(u8::try_from(formats.len()).unwrap());
    for format in formats {
        bind.extend([0, *format]);
    }
    [
        message(b'P', format!("\0{text}\0\0\0").as_bytes()),
        message(b'B', &bind),
        message(b'D', b"P\0"),
        message(b'E', &[0, 0, 0, 0, max]),
        message(b'S', b""),
    ]
    .concat()
}

#[tokio::test]
async fn a_simple_query_is_answered_command_by_command() {
    for (text, wanted) in [
        ("rows 2", "TDDCZ"),
        ("rows 0", "TCZ"),
        ("act", "NCZ"),
        ("act; rows 1;", "NCTDCZ"),
        ("", "IZ"),
        (" ; ", "IZ"),
        ("nonsense", "EZ"),
        ("act; nonsense; act", "NCEZ"),
    ] {
        let (tags, _, end) = answers(&query(text)).await;
        assert_eq!(tags, wanted, "{text}");
        assert!(matches!(end, CommandEnd::Left));
    }
    let (_, heard, _) = answers(&query("nonsense")).await;
    let text = String::from_utf8_lossy(&heard).into_owned();
    assert!(text.contains("SERROR\0") && text.contains("C42601\0") && text.contains("Dd\0Hh\0"), "{text}");
    assert!(heard.ends_with(b"Z\0\0\0\x05I"));
    let (_, heard, _) = answers(&query("begin")).await;
    assert!(heard.ends_with(b"Z\0\0\0\x05T"));
}

#[tokio::test]
async fn the_extended_protocol_gives_text_and_binary() {
    let (tags, text, _) = answers(&extended("rows 1", &[], 0)).await;
    assert_eq!(tags, "12TDCZ");
    let row = [b"\0\x02\0\0\0\x02".as_slice(), "é".as_bytes(), b"\0\0\0\x010"].concat();
    assert!(text.windows(row.len()).any(|part| part == row), "{text:?}");
    for formats in [&[1][..], &[0, 1]] {
        let (_, binary, _) = answers(&extended("rows 1", formats, 0)).await;
        let row = [b"\0\x02\0\0\0\x02".as_slice(), "é".as_bytes(), b"\0\0\0\x08\0\0\0\0\0\0\0\0"].concat();
        assert!(binary.windows(row.len()).any(|part| part == row), "{binary:?}");
    }
    assert_eq!(answers(&extended("act", &[], 0)).await.0, "12nNCZ");
    assert_eq!(answers(&extended("", &[], 0)).await.0, "12nIZ");
    let described = [message(b'P', b"a\0rows 1\0\0\0"), message(b'D', b"Sa\0"), message(b'H', b"")].concat();
    assert_eq!(answers(&described).await.0, "1tT");
    let closed = [message(b'P', b"a\0act\0\0\0"), message(b'C', b"Sa\0"), message(b'D', b"Sa\0")].concat();
    assert_eq!(answers(&[closed, message(b'S', b"")].concat()).await.0, "13EZ");
}

#[tokio::test]
async fn rows_come_in_parts_when_the_client_asks_for_parts() {
    let more = |max: u8| message(b'E', &[0, 0, 0, 0, max]);
    let begin = extended("rows 5", &[], 2);
    let parts = [&begin[..begin.len() - 5], &more(2), &more(2), &more(0), &message(b'S', b"")].concat();
    assert_eq!(answers(&parts).await.0, "12TDDsDDsDCCZ");
}

#[tokio::test]
async fn after_an_error_messages_are_skipped_until_sync() {
    let bytes = [extended("nonsense", &[], 0), extended("rows 1", &[], 0)].concat();
    assert_eq!(answers(&bytes).await.0, "EZ12TDCZ");
    for (bytes, code) in [
        (message(b'P', b"\0act; act\0\0\0"), "42601"),
        (message(b'E', b"\0\0\0\0\0"), "34000"),
        (message(b'B', b"\0x\0\0\0\0\0\0\0"), "26000"),
        (extended("rows 1", &[0, 0, 0], 0), "08P01"),
        ([message(b'P', b"\0act\0\0\0"), message(b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0")].concat(), "08P01"),
        ([message(b'P', b"a\0act\0\0\0"), message(b'P', b"a\0act\0\0\0")].concat(), "42P05"),
    ] {
        let (_, heard, _) = answers(&[bytes, message(b'S', b"")].concat()).await;
        let text = String::from_utf8_lossy(&heard).into_owned();
        assert!(text.contains(&format!("C{code}\0")), "{code}: {text}");
    }
}

#[tokio::test]
async fn c4_what_a_client_can_make_the_console_keep_is_limited() {
    let many: Vec<u8> =
        (0..65).flat_map(|at| message(b'P', format!("s{at}\0act\0\0\0").as_bytes())).collect();
    let (tags, heard, _) = answers(&[many, message(b'S', b"")].concat()).await;
    assert_eq!((tags.matches('1').count(), tags.matches('E').count()), (64, 1));
    assert!(String::from_utf8_lossy(&heard).contains("C53400\0"));
    let (tags, ..) = answers(&query("rows 10001")).await;
    assert_eq!((tags.matches('D').count(), tags.matches('N').count()), (rows::MAX_ROWS, 1));
    let longest = query(&" ".repeat(16 * 1024 - 1));
    assert_eq!(answers(&longest).await.0, "IZ");
}

/// Portals that hold their rows share a limit, and give it back when they are read or closed.
#[tokio::test]
async fn c4_answers_that_are_fetched_in_parts_are_limited_together() {
    let portal = |name: &str| {
        let bind = [name.as_bytes(), b"\0s\0\0\0\0\0\0\0"].concat();
        [message(b'B', &bind), message(b'E', &[name.as_bytes(), b"\0\0\0\0\x01"].concat())].concat()
    };
    let begin = [query("begin"), message(b'P', b"s\0wide 8000\0\0\0")].concat();
    let (tags, heard, _) =
        answers(&[begin.clone(), portal("a"), portal("b"), portal("c"), message(b'S', b"")].concat()).await;
    assert_eq!(tags, "NCZ12Ds2Ds2EZ");
    assert!(String::from_utf8_lossy(&heard).contains("C53400\0"));
    let closed = message(b'C', b"Pa\0");
    let (tags, ..) =
        answers(&[begin, portal("a"), portal("b"), closed, portal("c"), message(b'S', b"")].concat()).await;
    assert_eq!(tags, "NCZ12Ds2Ds32DsZ");
}

/// Messages without a Sync: their answers are sent before it, so that they do not collect.
#[tokio::test]
async fn c4_a_series_without_an_end_is_answered_in_parts() {
    let (mut client, serving) = serving(64 * 1024);
    client.write_all(&message(b'P', b"s\0rows 1\0\0\0")).await.unwrap();
    let mut heard = 0;
    while heard < 1 << 20 {
        client.write_all(&message(b'D', b"Ss\0").repeat(100)).await.unwrap();
        let mut part = vec![0; 64 * 1024];
        while let Some(Ok(length)) = futures_util::FutureExt::now_or_never(client.read(&mut part)) {
            heard += length;
        }
        yield_now().await;
    }
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection() {
    for bytes in [
        query(&" ".repeat(16 * 1024)),
        message(b'Q', b"no end"),
        message(b'Q', b"\xff\0"),
        message(b'Q', b"two\0ends\0"),
        message(b'F', b""),
        message(b'p', b"password\0"),
        message(b'D', b"Z\0"),
        message(b'B', b"\0\0\0\0\xff\xff\0\0"),
        message(b'B', b"\0\0\0\0\0\x01\0\0\0\x05x\0\0"),
        message(b'P', b"\0act\0\0\x02\0\0\0\x19"),
        message(b'S', b"x"),
    ] {
        let (mut client, serving) = serving(1 << 20);
        client.write_all(&bytes).await.unwrap();
        let end = serving.await.unwrap();
        assert!(matches!(end, CommandEnd::Violation(_)), "{bytes:?}: {end:?}");
    }
    let (tags, ..) = answers(&[message(b'd', b"copy"), message(b'c', b""), query("act")].concat()).await;
    assert_eq!(tags, "NCZ", "PostgreSQL ignores what is left of a COPY");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_let_go() {
    let (mut client, serving) = serving(1_024);
    client.write_all(&query("rows 1000")).await.unwrap();
    assert!(matches!(serving.await.unwrap(), CommandEnd::Slow));
    drop(client);
}

#[tokio::test]
async fn no_last_word_in_the_middle_of_an_answer() {
    for (rows, said) in [(0, true), (1_000, false)] {
        let (ours, mut theirs) = duplex(1_024);
        let mut server = CommandServer::new(ClientStream::Plain(ours));
        theirs.write_all(&query(&format!("rows {rows}"))).await.unwrap();
        let mut commands = Numbers::default();
        {
            let mut run = std::pin::pin!(server.run(&mut commands));
            for _ in 0..100 {
                assert!(futures_util::poll!(&mut run).is_pending());
            }
        }
        let finishing = tokio::spawn(async move {
            server.finish(Some(&Refusal::terminating("x", "y")), SessionId::random()).await;
        });
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        finishing.await.unwrap();
        assert_eq!(String::from_utf8_lossy(&heard).contains("terminating"), said, "{rows}");
    }
}
