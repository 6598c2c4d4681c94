//! Message boundaries in one direction of a stream, found from the headers. Bodies are neither decoded nor
//! kept, except for the first byte, which in ReadyForQuery is the transaction status.

/// Longest length field: PostgreSQL's is a signed 32-bit integer (PostgreSQL manual, "Message Data Types").
const MAX_LENGTH: u32 = i32::MAX.unsigned_abs();

/// Message framing of one direction.
#[derive(Debug, Default)]
pub struct Frames {
    /// Header bytes of a message whose header is incomplete.
    header: [u8; 5],
    filled: usize,
    /// Type of the current message.
    tag: u8,
    /// First byte of the current message's body; `None` before it has arrived.
    first: Option<u8>,
    /// Remaining bytes of the current body.
    remaining: usize,
    /// True if the stream violated the protocol, so that boundaries are unknown.
    lost: bool,
}

impl Frames {
    /// Processes the next bytes of the stream, split in any way. `ended` is called for each message that ends
    /// in them, with its type and the first byte of its body (zero for an empty body).
    pub fn feed(&mut self, mut bytes: &[u8], mut ended: impl FnMut(u8, u8)) {
        while !bytes.is_empty() && !self.lost {
            if self.remaining == 0 {
                if self.filled == 0 {
                    bytes = skip_whole(bytes, &mut ended);
                    if bytes.is_empty() {
                        return;
                    }
                }
                bytes = self.take_header(bytes);
                if self.filled > 0 || self.lost {
                    continue; // the header goes on behind the cut
                }
            }
            let (body, rest) = bytes.split_at(self.remaining.min(bytes.len()));
            if self.first.is_none() {
                self.first = body.first().copied();
            }
            self.remaining -= body.len();
            bytes = rest;
            if self.remaining == 0 {
                ended(self.tag, self.first.unwrap_or(0));
            }
        }
    }

    /// Consumes the available part of a header and returns the remaining bytes.
    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.filled == 0
            && let Some((header, rest)) = bytes.split_first_chunk::<5>()
        {
            self.begin(*header);
            return rest;
        }
        let missing = self.header.len() - self.filled;
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        for (slot, byte) in self.header.iter_mut().skip(self.filled).zip(part) {
            *slot = *byte;
        }
        self.filled += part.len();
        if self.filled == self.header.len() {
            self.begin(self.header);
        }
        rest
    }

    fn begin(&mut self, header: [u8; 5]) {
        let [tag, length @ ..] = header;
        (self.filled, self.tag, self.first) = (0, tag, None);
        match body_length(length) {
            Some(body) => self.remaining = body,
            None => self.lost = true,
        }
    }

    /// True between two messages.
    pub fn at_boundary(&self) -> bool {
        !self.lost && self.filled == 0 && self.remaining == 0
    }

    /// Number of the next bytes that belong to the current message; zero between two messages.
    pub fn rest_of_message(&self, next: &[u8]) -> usize {
        if self.lost || self.filled == 0 {
            return if self.lost { next.len() } else { self.remaining.min(next.len()) };
        }
        let mut ahead = Self { header: self.header, filled: self.filled, ..Self::default() };
        let body = ahead.take_header(next);
        next.len() - body.len() + ahead.remaining.min(body.len())
    }
}

/// Reports the complete messages in `bytes` and returns the remaining bytes. Nothing is stored, so that bulk
/// rows are cheap.
fn skip_whole<'a>(mut bytes: &'a [u8], ended: &mut impl FnMut(u8, u8)) -> &'a [u8] {
    while let Some(([tag, length @ ..], rest)) = bytes.split_first_chunk::<5>() {
        let Some(body) = body_length(*length) else { break };
        let Some((body, next)) = rest.split_at_checked(body) else { break };
        ended(*tag, body.first().copied().unwrap_or(0));
        bytes = next;
    }
    bytes
}

/// Length of the body from the length field; `None` if invalid.
fn body_length(field: [u8; 4]) -> Option<usize> {
    let body = u32::from_be_bytes(field).checked_sub(4).filter(|body| *body <= MAX_LENGTH - 4)?;
    usize::try_from(body).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(crate::postgres::message::message_length(body.len()));
        bytes.extend(body);
        bytes
    }

    fn feed(frames: &mut Frames, bytes: &[u8]) -> Vec<(u8, u8)> {
        let mut ended = Vec::new();
        frames.feed(bytes, |tag, first| ended.push((tag, first)));
        ended
    }

    #[test]
    fn a_stream_is_followed_to_its_last_message() {
        let mut frames = Frames::default();
        assert!(frames.at_boundary());
        assert_eq!(feed(&mut frames, &message(b'D', b"row")), [(b'D', b'r')]);
        assert_eq!(feed(&mut frames, &message(b'Z', b"T")), [(b'Z', b'T')]);
        assert_eq!(feed(&mut frames, &message(b'S', b"")), [(b'S', 0)]);
        assert!(frames.at_boundary());
        assert_eq!(feed(&mut frames, b"D\0\0"), []);
        assert!(!frames.at_boundary());
    }

    #[test]
    fn an_impossible_length_is_never_a_boundary_again() {
        for length in [0_u32, 3, 0x8000_0000, 0xffff_ffff] {
            let mut frames = Frames::default();
            assert_eq!(feed(&mut frames, &[&b"D"[..], &length.to_be_bytes()].concat()), []);
            assert_eq!(feed(&mut frames, &message(b'Z', b"I")), []);
            assert!(!frames.at_boundary(), "{length}");
        }
        let mut longest = Frames::default();
        feed(&mut longest, b"D\x7f\xff\xff\xff");
        assert_eq!(longest.remaining, 0x7fff_fffb);
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..12),
            cuts in prop::collection::vec(1_usize..9, 1..200),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            let expected: Vec<(u8, u8)> =
                bodies.iter().map(|(tag, body)| (*tag, body.first().copied().unwrap_or(0))).collect();
            let ends: Vec<usize> = bodies
                .iter()
                .scan(0, |end, (_, body)| { *end += 5 + body.len(); Some(*end) })
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
