//! Packet boundaries in one direction of a session, found from the headers. Of each message at most its first bytes are
//! kept. A message is a payload that one or several packets carry: a packet of the greatest length continues in the
//! next one.

use super::limits::MAX_PAYLOAD;
use super::packet::{HEADER, split_header};

/// Bytes kept of each message: an OK packet with two length-encoded integers and its status has 21 at most.
pub(super) const HEAD: usize = 24;

/// A complete message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// The first bytes, up to [`HEAD`].
    pub(super) head: &'a [u8],
    /// Length of the whole payload.
    pub(super) length: u64,
    /// Sequence number of the first packet.
    pub(super) sequence: u8,
}

/// Packet framing of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Header bytes of a packet whose header is incomplete.
    header: [u8; HEADER],
    filled: usize,
    /// Remaining bytes of the current packet.
    remaining: usize,
    /// True from the header of a message's first packet to the end of its last packet.
    open: bool,
    /// True if the message continues in another packet.
    continues: bool,
    /// First bytes of the current message.
    head: [u8; HEAD],
    kept: usize,
    length: u64,
    /// Sequence number of the current message's first packet.
    first: u8,
    /// Sequence number of the last header.
    sequence: u8,
}

impl Frames {
    /// Processes the next bytes of the stream, split in any way. `ended` is called for each message that ends in them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut ended: impl FnMut(Message<'_>)) {
        while !bytes.is_empty() {
            if self.remaining == 0 {
                if self.filled == 0 && !self.open {
                    bytes = self.skip_whole(bytes, &mut ended);
                    if bytes.is_empty() {
                        return;
                    }
                }
                bytes = self.take_header(bytes);
                if self.filled > 0 {
                    return; // the header goes on behind the cut
                }
            }
            let (body, rest) = bytes.split_at(self.remaining.min(bytes.len()));
            for (slot, byte) in self.head.iter_mut().skip(self.kept).zip(body) {
                *slot = *byte;
            }
            self.kept = HEAD.min(self.kept + body.len());
            self.remaining -= body.len();
            bytes = rest;
            if self.remaining == 0 && !self.continues {
                self.open = false;
                let head = self.head.get(..self.kept).unwrap_or_default();
                ended(Message { head, length: self.length, sequence: self.first });
            }
        }
    }

    /// Reports the complete messages in `bytes` and returns the remaining bytes. No byte is copied, so that bulk rows are
    /// cheap.
    fn skip_whole<'a>(&mut self, mut bytes: &'a [u8], ended: &mut impl FnMut(Message<'_>)) -> &'a [u8] {
        while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
            let (length, sequence) = split_header(*header);
            if length == MAX_PAYLOAD {
                break;
            }
            let Some((body, next)) = rest.split_at_checked(length) else { break };
            self.sequence = sequence;
            ended(Message {
                head: body.get(..HEAD).unwrap_or(body),
                length: u64::try_from(length).unwrap_or(u64::MAX),
                sequence,
            });
            bytes = next;
        }
        bytes
    }

    /// Consumes the available part of a header and returns the remaining bytes.
    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at((HEADER - self.filled).min(bytes.len()));
        for (slot, byte) in self.header.iter_mut().skip(self.filled).zip(part) {
            *slot = *byte;
        }
        self.filled += part.len();
        if self.filled == HEADER {
            self.begin();
        }
        rest
    }

    fn begin(&mut self) {
        let (length, sequence) = split_header(self.header);
        if !self.open {
            (self.open, self.kept, self.length, self.first) = (true, 0, 0, sequence);
        }
        (self.filled, self.remaining, self.sequence) = (0, length, sequence);
        self.continues = length == MAX_PAYLOAD;
        self.length = self.length.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// True between two messages.
    pub(super) fn at_boundary(&self) -> bool {
        self.filled == 0 && !self.open
    }

    /// Sequence number of the last packet that began.
    pub(super) fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Number of the next bytes that belong to the current message; zero between two messages.
    pub(super) fn rest_of_message(&self, next: &[u8]) -> usize {
        if self.at_boundary() {
            return 0;
        }
        let mut ahead = Self { header: self.header, head: self.head, ..*self };
        let mut rest = next;
        while !rest.is_empty() && !ahead.at_boundary() {
            if ahead.remaining == 0 {
                rest = ahead.take_header(rest);
            }
            if ahead.filled == 0 {
                let body = ahead.remaining.min(rest.len());
                ahead.remaining -= body;
                rest = rest.get(body..).unwrap_or_default();
                ahead.open = ahead.remaining > 0 || ahead.continues;
            }
        }
        next.len() - rest.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mysql::packet::packet;

    fn feed(frames: &mut Frames, bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let mut ended = Vec::new();
        frames.feed(bytes, |message| ended.push((message.head.to_vec(), message.length)));
        ended
    }

    #[test]
    fn a_stream_is_followed_to_its_last_message() {
        let mut frames = Frames::default();
        assert!(frames.at_boundary());
        assert_eq!(feed(&mut frames, &packet(1, b"row")), [(b"row".to_vec(), 3)]);
        assert_eq!(feed(&mut frames, &packet(2, b"")), [(vec![], 0)], "an empty packet is a message");
        assert_eq!(
            feed(&mut frames, &[packet(3, b"a"), packet(4, &[7; 30])].concat()),
            [(b"a".to_vec(), 1), (vec![7; HEAD], 30)]
        );
        assert_eq!(feed(&mut frames, b"\x02\0"), []);
        assert!(!frames.at_boundary());
        assert_eq!(feed(&mut frames, b"\0\x05x"), []);
        assert_eq!((feed(&mut frames, b"y"), frames.sequence()), (vec![(b"xy".to_vec(), 2)], 5));
        assert!(frames.at_boundary());
        assert_eq!(feed(&mut frames, b"\0\0\0"), []);
        assert_eq!(feed(&mut frames, b"\x06"), [(vec![], 0)]);
    }

    /// Header and body of a packet of the greatest length.
    fn full(sequence: u8, first: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xff, 0xff, sequence, first];
        bytes.resize(HEADER + MAX_PAYLOAD, first);
        bytes
    }

    #[test]
    fn a_payload_of_16_mib_goes_on_in_the_next_packet() {
        for (last, length) in [(&b""[..], 0xff_ffff_u64), (b"tail", 0xff_ffff + 4)] {
            let stream = [full(1, b'r'), packet(2, last), packet(3, b"next")].concat();
            for cuts in [vec![stream.len()], vec![65_536], vec![16_777_215, 3, 1, 1, 1, 1, 1]] {
                let (mut frames, mut ended, mut at) = (Frames::default(), Vec::new(), 0);
                for cut in cuts.iter().cycle() {
                    let next = (at + cut).min(stream.len());
                    let end = HEADER + MAX_PAYLOAD + HEADER + last.len();
                    if at > 0 && at < end {
                        assert!(!frames.at_boundary(), "{at}");
                        assert_eq!(frames.rest_of_message(&stream[at..]), end - at);
                    }
                    ended.extend(feed(&mut frames, &stream[at..next]));
                    at = next;
                    if at == stream.len() {
                        break;
                    }
                }
                assert_eq!(ended, [(vec![b'r'; HEAD], length), (b"next".to_vec(), 4)]);
            }
        }
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12),
            cuts in prop::collection::vec(1_usize..9, 1..200),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| packet(9, body)).collect();
            let expected: Vec<_> = bodies
                .iter()
                .map(|body| (body[..body.len().min(HEAD)].to_vec(), u64::try_from(body.len()).unwrap()))
                .collect();
            let ends: Vec<usize> = bodies
                .iter()
                .scan(0, |end, body| { *end += HEADER + body.len(); Some(*end) })
                .collect();
            let (mut frames, mut told, mut at) = (Frames::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let rest = frames.rest_of_message(&stream[at..]);
                let end = if frames.at_boundary() { at } else { *ends.iter().find(|end| **end > at).unwrap() };
                prop_assert_eq!(at + rest, end);
                let next = (at + cut).min(stream.len());
                told.extend(feed(&mut frames, &stream[at..next]));
                at = next;
                prop_assert_eq!(frames.at_boundary(), ends.contains(&at));
                if at == stream.len() { break; }
            }
            prop_assert_eq!(told, expected);
        }
    }
}
