//! The frame tracker: cutting the stream anywhere changes nothing, and it agrees with a second reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::wire::frames::FrameTracker;

/// Whether `stream` ends between two messages, read as a whole.
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
    let mut whole = FrameTracker::default();
    whole.feed(stream);
    let mut pieces = FrameTracker::default();
    for piece in stream.chunks(1 + usize::from(cut % 32)) {
        pieces.feed(piece);
    }
    let state =
        |tracker: &FrameTracker| (tracker.at_boundary(), tracker.last_tag(), tracker.transaction_status());
    assert_eq!(state(&whole), state(&pieces));
    assert_eq!(whole.at_boundary(), ends_at_boundary(stream));
});
