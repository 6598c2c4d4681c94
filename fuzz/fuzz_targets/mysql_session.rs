//! A live MySQL session: the tracker and the filter of the client's commands. Cutting the streams anywhere changes
//! nothing, the filter agrees with a second implementation, and no session is idle in the middle of a message.
#![no_main]

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use pgpassport::mysql::capabilities::Capabilities;
use pgpassport::mysql::client_filter::{CommandFilter, FilteredClient, KillScope};
use pgpassport::mysql::connection_ids::{ConnectionIds, ServerConnection};
use pgpassport::mysql::file_transfer::FileTransfer;
use pgpassport::mysql::limits::{MAX_KILL, MAX_PAYLOAD};
use pgpassport::mysql::tracker::Tracker;
use pgpassport::net::socket::OverTcp;
use pgpassport::protocol::{ClientEnd, SessionState, SessionTracker};
use pgpassport_fuzz::{Scripted, mysql_header, mysql_packet, run};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The id of a client as the seeds have it; the real one is random.
const ID: u32 = 0x4000_0001;
/// The number of its connection at the server.
const NUMBER: u32 = 42;

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(from) {
            out.extend_from_slice(to);
            rest = behind;
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

/// Number in a `KILL`, by words, and the text with another one.
fn killed(text: &[u8], id: u32) -> Option<Vec<u8>> {
    let space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let at = text.iter().position(u8::is_ascii_digit)?;
    let (before, from) = text.split_at(at);
    let end = from.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(from.len());
    let (digits, behind) = from.split_at(end);
    let words: Vec<String> = before
        .split(space)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).to_ascii_uppercase())
        .collect();
    let mut words = words.iter().map(String::as_str).peekable();
    if words.next() != Some("KILL") || !before.last().is_some_and(space) {
        return None;
    }
    words.next_if(|word| ["HARD", "SOFT"].contains(word));
    words.next_if(|word| ["QUERY", "CONNECTION"].contains(word));
    let legal = behind.iter().all(|byte| space(byte) || *byte == b';');
    if words.next().is_some() || !legal || behind.iter().filter(|byte| **byte == b';').count() > 1 {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number == u64::from(id)).then(|| [before, NUMBER.to_string().as_bytes(), behind].concat())
}

/// A command, as the filter has to pass it on.
fn passed(payload: &[u8], id: u32) -> Vec<u8> {
    let changed = match payload.split_first() {
        Some((0x0c, number)) if number == id.to_le_bytes() => {
            Some([&[0x0c][..], &NUMBER.to_le_bytes()].concat())
        }
        Some((0x03, text)) if payload.len() <= 3 + MAX_KILL => {
            let attributes = if text.starts_with(&[0, 1]) { 2 } else { 0 };
            let (attributes, text) = text.split_at(attributes);
            killed(text, id).map(|text| [&[0x03][..], attributes, &text].concat())
        }
        _ => None,
    };
    mysql_packet(0, changed.as_deref().unwrap_or(payload))
}

/// A client's bytes as the filter has to pass them on, and whether it withholds a `COM_QUIT`; without file transfers.
fn expected(client: &[u8], id: u32, keep: bool) -> (Vec<u8>, bool) {
    let (mut out, mut rest) = (Vec::new(), client);
    while let Some((length, number)) = mysql_header(rest) {
        assert!(length < MAX_PAYLOAD || rest.len() < length, "no input is so long");
        let body = &rest[4..rest.len().min(4 + length)];
        match body.first() {
            Some(0x11) if number == 0 => out.extend_from_slice(b"\x01\0\0\0\0"),
            Some(0x01) if number == 0 && length == 1 && keep => return (out, true),
            Some(_) if number == 0 && body.len() == length => out.extend(passed(body, id)),
            _ => out.extend_from_slice(&rest[..4 + body.len()]),
        }
        rest = &rest[4 + body.len()..];
    }
    out.extend_from_slice(rest);
    (out, false)
}

/// A client that has said what was pushed.
#[derive(Default)]
struct Said(Vec<u8>);

impl AsyncRead for Said {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let now = self.0.len().min(space.remaining());
        let behind = self.0.split_off(now);
        space.put_slice(&mem::replace(&mut self.0, behind));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl OverTcp for Said {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// Reads what the client has said, as far as the filter passes it on.
fn read(client: &mut FilteredClient<Said>) -> Vec<u8> {
    let (mut out, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        let mut space = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut *client).poll_read(&mut Context::from_waker(Waker::noop()), &mut space);
        if polled.is_pending() || space.filled().is_empty() {
            return out;
        }
        out.extend_from_slice(space.filled());
    }
}

/// Changes that a record has made.
#[derive(Debug, PartialEq)]
struct Stand {
    to_server: Vec<u8>,
    state: SessionState,
    next_sequence: u8,
    owes_nothing: bool,
    transferring: bool,
    ended: bool,
}

fn answer(tracker: &mut Tracker, bytes: &[u8]) {
    let between = tracker.server_between_messages();
    let (current, next) = bytes.split_at(tracker.rest_of_server_message(bytes));
    assert!(!between || current.is_empty());
    tracker.to_client(current);
    assert!(next.is_empty() || tracker.server_between_messages());
    tracker.to_client(next);
}

/// A conversation: each record is a byte with side and length, and so many bytes.
fn follow(mut records: &[u8], form: u8, scope: &KillScope, piece: usize) -> Vec<Stand> {
    let transfer = FileTransfer::default();
    let flags = if form & 1 == 0 { Capabilities::COMMON } else { Capabilities::default() };
    let mut tracker = Tracker::new(flags, 2, transfer.clone());
    let filter = CommandFilter::new(scope.clone(), transfer, form & 2 != 0);
    let mut client = FilteredClient { stream: Said::default(), filter };
    let mut stands = Vec::new();
    while let Some((head, rest)) = records.split_first() {
        let (record, rest) = rest.split_at(rest.len().min(usize::from(head % 0x80)));
        records = rest;
        let mut to_server = Vec::new();
        for bytes in record.chunks(piece) {
            if *head < 0x80 {
                client.get_mut().0.extend_from_slice(bytes);
                let passed = read(&mut client);
                tracker.to_server(&passed);
                to_server.extend(passed);
            } else {
                answer(&mut tracker, bytes);
            }
        }
        let between = tracker.client_between_messages() && tracker.server_between_messages();
        let quiet = between && tracker.owes_nothing() && !tracker.terminated();
        assert!(quiet || tracker.state() == SessionState::Busy);
        assert!(!tracker.is_transferring() || !tracker.owes_nothing());
        assert!(!tracker.owes_nothing() || tracker.next_sequence() == 0);
        stands.push(Stand {
            to_server,
            state: tracker.state(),
            next_sequence: tracker.next_sequence(),
            owes_nothing: tracker.owes_nothing(),
            transferring: tracker.is_transferring(),
            ended: tracker.server_ended_with_error(),
        });
    }
    stands
}

fuzz_target!(|data: &[u8]| {
    let Some((&[cuts, form], bytes)) = data.split_first_chunk() else { return };
    let (ids, server) = (Arc::new(ConnectionIds::default()), "10.0.0.1:3306".parse().expect("an address"));
    let id = ids.assign();
    id.serve(ServerConnection { server, number: NUMBER });
    let scope = KillScope { ids, server, remote: None, replicas: true };
    let bytes = replaced(bytes, ID.to_string().as_bytes(), id.number().to_string().as_bytes());
    let bytes = replaced(&bytes, &ID.to_le_bytes(), &id.number().to_le_bytes());

    let keep = form & 2 != 0;
    let filter = CommandFilter::new(scope.clone(), FileTransfer::default(), keep);
    let mut client = FilteredClient { stream: Scripted::new(&bytes, cuts), filter };
    let mut out = Vec::new();
    run(async {
        let mut buffer = [0; 1024];
        while let count @ 1.. = client.read(&mut buffer).await.expect("no errors") {
            out.extend_from_slice(&buffer[..count]);
        }
    });
    assert_eq!((out, client.saw_terminate()), expected(&bytes, id.number(), keep));

    let whole = follow(&bytes, form, &scope, bytes.len().max(1));
    assert_eq!(whole, follow(&bytes, form, &scope, 1));
    assert_eq!(whole, follow(&bytes, form, &scope, 1 + usize::from(cuts % 16)));
});
