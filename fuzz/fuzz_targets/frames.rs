//! The frames and the tracker of sessions: cutting the streams anywhere changes nothing, frames agree with a
//! second reading, and nothing that a peer sends makes a session idle in the middle of a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::postgres::frames::Frames;
use pgpassport::postgres::tracker::{SessionState, SessionTracker, Tracker};

/// True if `stream`, read as a whole, ends between two messages.
fn ends_at_boundary(mut stream: &[u8]) -> bool {
    while let Some((head, body)) = stream.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(rest) = length.checked_sub(4).and_then(|length| body.get(length..)) else { return false };
        stream = rest;
    }
    stream.is_empty()
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else { return };
    let pieces = || stream.chunks(1 + usize::from(cut % 32));
    let (mut whole, mut ended) = (Frames::default(), Vec::new());
    whole.feed(stream, |tag, first| ended.push((tag, first)));
    let (mut cut_up, mut ended_cut_up) = (Frames::default(), Vec::new());
    pieces().for_each(|piece| cut_up.feed(piece, |tag, first| ended_cut_up.push((tag, first))));
    assert_eq!((whole.at_boundary(), ended), (cut_up.at_boundary(), ended_cut_up));
    assert_eq!(whole.at_boundary(), ends_at_boundary(stream));

    // Half of it is the client's, half the server's.
    let (client, server) = stream.split_at(stream.len() / 2);
    let mut session = Tracker::new(b'I');
    session.to_server(client);
    session.to_client(server);
    let mut bytewise = Tracker::new(b'I');
    client.chunks(1).for_each(|byte| bytewise.to_server(byte));
    server.chunks(1).for_each(|byte| bytewise.to_client(byte));
    assert_eq!((session.state(), session.owed()), (bytewise.state(), bytewise.owed()));
    let between = session.client_between_messages() && session.server_between_messages();
    assert!(between || session.state() == SessionState::Busy);
});
