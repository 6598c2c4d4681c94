//! Where messages begin and end in one direction of a stream, told from the headers as bytes pass; payloads
//! are neither decoded nor kept. It says when a word of our own may be said and how the stream stands.

/// Follows the messages of one direction.
#[derive(Debug, Default)]
pub struct FrameTracker {
    /// Header bytes seen of the message that has begun.
    header: [u8; 5],
    filled: usize,
    /// Body bytes still to come.
    remaining: u64,
    last_tag: Option<u8>,
    /// The first byte of the body of the last ReadyForQuery.
    status: Option<u8>,
    /// The stream broke the protocol; boundaries can no longer be told.
    lost: bool,
}

impl FrameTracker {
    /// Takes note of the next bytes of the stream, however they are cut.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            if self.remaining > 0 {
                let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
                let (body, rest) = bytes.split_at(take);
                if self.last_tag == Some(b'Z') {
                    self.status = self.status.or(body.first().copied());
                }
                self.remaining -= body.len() as u64;
                bytes = rest;
                continue;
            }
            let Some((slot, byte)) = self.header.get_mut(self.filled).zip(bytes.first()) else { return };
            *slot = *byte;
            self.filled += 1;
            bytes = bytes.get(1..).unwrap_or_default();
            if self.filled == self.header.len() {
                self.begin_body();
            }
        }
    }

    fn begin_body(&mut self) {
        let [tag, length @ ..] = self.header;
        self.filled = 0;
        self.last_tag = Some(tag);
        if tag == b'Z' {
            self.status = None;
        }
        match u32::from_be_bytes(length).checked_sub(4) {
            Some(body) => self.remaining = u64::from(body),
            None => self.lost = true,
        }
    }

    /// Whether the stream stands between two messages.
    pub fn at_boundary(&self) -> bool {
        !self.lost && self.filled == 0 && self.remaining == 0
    }

    /// The type of the last message that began.
    pub fn last_tag(&self) -> Option<u8> {
        self.last_tag
    }

    /// The transaction status of the last ReadyForQuery: `I`, `T` or `E`.
    pub fn transaction_status(&self) -> Option<u8> {
        self.status
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(super::super::message_length(body.len()));
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_stream_is_followed_to_its_last_message() {
        let mut tracker = FrameTracker::default();
        assert!(tracker.at_boundary());
        tracker.feed(&message(b'D', b"row"));
        tracker.feed(&message(b'Z', b"T"));
        assert!(tracker.at_boundary());
        assert_eq!((tracker.last_tag(), tracker.transaction_status()), (Some(b'Z'), Some(b'T')));
        tracker.feed(b"D\0\0");
        assert!(!tracker.at_boundary());
    }

    #[test]
    fn a_broken_length_is_never_a_boundary_again() {
        let mut tracker = FrameTracker::default();
        tracker.feed(b"D\0\0\0\x03");
        tracker.feed(&message(b'Z', b"I"));
        assert!(!tracker.at_boundary());
    }

    #[test]
    fn a_status_is_the_first_byte_of_a_body_that_is_too_long() {
        let stream = message(b'Z', b"Ixy");
        for cut in 1..stream.len() {
            let mut tracker = FrameTracker::default();
            stream.chunks(cut).for_each(|piece| tracker.feed(piece));
            assert_eq!(tracker.transaction_status(), Some(b'I'), "in pieces of {cut}");
        }
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..12),
            cuts in prop::collection::vec(1_usize..9, 1..200),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            let ends: Vec<usize> = bodies
                .iter()
                .scan(0, |end, (_, body)| { *end += 5 + body.len(); Some(*end) })
                .collect();
            let mut tracker = FrameTracker::default();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let next = (at + cut).min(stream.len());
                tracker.feed(&stream[at..next]);
                at = next;
                prop_assert_eq!(tracker.at_boundary(), ends.contains(&at));
                if at == stream.len() { break; }
            }
            prop_assert_eq!(tracker.last_tag(), bodies.last().map(|(tag, _)| *tag));
        }
    }
}
