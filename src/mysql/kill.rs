//! The id in a `KILL`: recognized only as a whole statement, and replaced without a change to anything else.

use std::fmt::Debug;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use super::command::{PROCESS_KILL, QUERY};
use super::connection_ids::KillTarget;
use super::limits::MAX_KILL;
use super::packet::{HEADER, split_header};

/// Beginning of a query's text under `CLIENT_QUERY_ATTRIBUTES`, without attributes.
const NO_ATTRIBUTES: &[u8] = &[0, 1];

/// Longest payload of a packet that may be a `KILL`.
pub(super) const LONGEST: usize = 1 + NO_ATTRIBUTES.len() + MAX_KILL;

/// A `KILL` on its way. True if a server has accepted it.
pub type KillErrand = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Carries out `KILL`s that the server of the client's session cannot carry out.
pub trait RemoteKill: Debug + Send + Sync {
    /// Sends `packet`, a client's `KILL` with an id of the proxy's, to the server of `target`, with the number there.
    fn kill(self: Arc<Self>, packet: Vec<u8>, target: KillTarget) -> KillErrand;
}

/// Payload of `packet`, a client's `KILL`, with this number, for a connection without query attributes.
pub(super) fn statement(packet: &[u8], number: u32) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let length = rewrite(&mut packet, |_| Some(number));
    packet.truncate(length);
    let payload = packet.split_off(HEADER.min(packet.len()));
    match payload.strip_prefix(&[QUERY]).and_then(|text| text.strip_prefix(NO_ATTRIBUTES)) {
        Some(text) => [&[QUERY], text].concat(),
        None => payload,
    }
}

/// Replaces the id in `packet`, one complete packet of a client, if it is a `KILL` of an id that `translate` knows.
/// Returns the packet's length, which does not grow: an id of the proxy has ten digits.
pub(super) fn rewrite(packet: &mut [u8], translate: impl FnOnce(u64) -> Option<u32>) -> usize {
    let whole = packet.len();
    match packet.get(HEADER..) {
        Some([PROCESS_KILL, id @ ..]) => {
            if let Ok(id) = <[u8; 4]>::try_from(id)
                && let Some(number) = translate(u32::from_le_bytes(id).into())
                && let Some(to) = packet.get_mut(HEADER + 1..)
            {
                to.copy_from_slice(&number.to_le_bytes());
            }
            whole
        }
        Some([QUERY, text @ ..]) if text.len() < LONGEST => {
            let attributes = if text.starts_with(NO_ATTRIBUTES) { NO_ATTRIBUTES.len() } else { 0 };
            let begin = HEADER + 1 + attributes;
            let digits = text.get(attributes..).and_then(digits_of_kill);
            let Some(digits) = digits.map(|digits| digits.start + begin..digits.end + begin) else {
                return whole;
            };
            let number = packet.get(digits.clone()).and_then(number).and_then(translate);
            number.and_then(|number| put(packet, digits, number)).unwrap_or(whole)
        }
        _ => whole,
    }
}

/// Writes `number` in the place of `digits`, and the new length into the header. `None` if it does not fit.
fn put(packet: &mut [u8], digits: Range<usize>, number: u32) -> Option<usize> {
    let text = number.to_string();
    let shorter = digits.len().checked_sub(text.len())?;
    packet.get_mut(digits.start..)?.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    let whole = packet.len();
    packet.copy_within(digits.end..whole, digits.start + text.len());
    let header = packet.first_chunk_mut::<HEADER>()?;
    let (length, _) = split_header(*header);
    let [low, middle, high, _] = u32::try_from(length.checked_sub(shorter)?).ok()?.to_le_bytes();
    let [to_low, to_middle, to_high, _] = header;
    (*to_low, *to_middle, *to_high) = (low, middle, high);
    Some(whole - shorter)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The digits in `KILL [HARD | SOFT] [QUERY | CONNECTION] digits [;]`, if that is all of the statement.
fn digits_of_kill(statement: &[u8]) -> Option<Range<usize>> {
    let mut words = Words { rest: statement, at: 0 };
    words.space();
    if !words.word(b"KILL") || words.space() == 0 {
        return None;
    }
    for choices in [[&b"HARD"[..], b"SOFT"], [b"QUERY", b"CONNECTION"]] {
        if choices.into_iter().any(|choice| words.word(choice)) && words.space() == 0 {
            return None;
        }
    }
    let begin = words.at;
    words.skip(u8::is_ascii_digit);
    let digits = begin..words.at;
    words.space();
    let semicolon = words.rest.iter().take_while(|byte| **byte == b';').count().min(1);
    words.advance(semicolon);
    words.space();
    (!digits.is_empty() && words.rest.is_empty()).then_some(digits)
}

struct Words<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn advance(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
        self.at += count;
    }

    fn skip(&mut self, legal: impl Fn(&u8) -> bool) -> usize {
        let count = self.rest.iter().take_while(|byte| legal(byte)).count();
        self.advance(count);
        count
    }

    fn space(&mut self) -> usize {
        self.skip(|byte| byte.is_ascii_whitespace() || *byte == 0x0b)
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self.rest.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word));
        if found {
            self.advance(word.len());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mysql::packet::packet;

    const OURS: u64 = 0x4000_0001;

    fn rewritten(payload: &[u8]) -> Vec<u8> {
        let mut bytes = packet(0, payload);
        let length = rewrite(&mut bytes, |id| (id == OURS).then_some(42));
        bytes.truncate(length);
        let (length, sequence) = split_header(*bytes.first_chunk().unwrap());
        assert_eq!((length, sequence), (bytes.len() - HEADER, 0));
        bytes.split_off(HEADER)
    }

    #[test]
    fn the_id_of_a_whole_statement_is_replaced() {
        for (text, becomes) in [
            ("KILL QUERY 1073741825", "KILL QUERY 42"),
            ("kill 1073741825", "kill 42"),
            (" \n KiLl\tconnection  1073741825 ; \r\n", " \n KiLl\tconnection  42 ; \r\n"),
            ("KILL HARD QUERY 1073741825;", "KILL HARD QUERY 42;"),
            ("KILL SOFT 1073741825", "KILL SOFT 42"),
            ("KILL 0001073741825", "KILL 42"),
        ] {
            assert_eq!(rewritten(format!("\x03{text}").as_bytes()), format!("\x03{becomes}").as_bytes());
            assert_eq!(
                rewritten(format!("\x03\0\x01{text}").as_bytes()),
                format!("\x03\0\x01{becomes}").as_bytes()
            );
        }
        assert_eq!(rewritten(b"\x0c\x01\0\0\x40"), b"\x0c\x2a\0\0\0");
    }

    #[test]
    fn another_server_gets_the_statement_in_its_own_form() {
        for (payload, becomes) in [
            (&b"\x03KILL QUERY 1073741825"[..], &b"\x03KILL QUERY 42"[..]),
            (b"\x03\0\x01kill connection 1073741825;", b"\x03kill connection 42;"),
            (b"\x0c\x01\0\0\x40", b"\x0c\x2a\0\0\0"),
        ] {
            assert_eq!(statement(&packet(0, payload), 42), becomes);
        }
    }

    #[test]
    fn anything_else_passes_as_it_is() {
        for text in [
            "KILL QUERY 1073741826", // another id
            "KILL QUERY 12",
            "KILL QUERY",
            "KILL",
            "KILL1073741825",
            "KILL QUERY1073741825",
            "KILL QUERY 1073741825;;",
            "KILL QUERY 1073741825 x",
            "KILL QUERY (1073741825)",
            "KILL QUERY 10737418250000000000000",
            "KILL USER 1073741825",
            "KILL QUERY ID 1073741825",
            "/* x */ KILL QUERY 1073741825",
            "select 'KILL QUERY 1073741825'",
            "",
        ] {
            let payload = format!("\x03{text}");
            assert_eq!(rewritten(payload.as_bytes()), payload.as_bytes());
        }
        for payload in
            [&b"\x0c\x01\0\0"[..], b"\x0c\x01\0\0\x40\0", b"\x0c\x02\0\0\x40", b"\x16KILL 1073741825", b""]
        {
            assert_eq!(rewritten(payload), payload);
        }
        let long = format!("\x03{}KILL 1073741825", " ".repeat(LONGEST - 1 - 15));
        assert_eq!(rewritten(long.as_bytes()).len(), long.len() - 8, "the longest one");
        let longer = long.replace("KILL", " KILL");
        assert_eq!(rewritten(longer.as_bytes()), longer.as_bytes());
    }

    proptest! {
        #[test]
        fn only_digits_change(text in "[ ;]{0,2}(KILL|kill|X)[ ]{0,2}(QUERY|SOFT|)[ ]{0,2}[0-9]{0,12}[ ;]{0,3}.{0,2}", number in any::<u32>()) {
            let mut bytes = packet(0, &[&b"\x03"[..], text.as_bytes()].concat());
            let before = bytes.clone();
            let length = rewrite(&mut bytes, |_| Some(number));
            bytes.truncate(length);
            let other = |bytes: &[u8]| -> Vec<u8> { bytes[HEADER..].iter().copied().filter(|b| !b.is_ascii_digit()).collect() };
            if bytes != before {
                prop_assert_eq!(other(&bytes), other(&before));
                let digits: Vec<u8> = bytes[HEADER..].iter().copied().filter(u8::is_ascii_digit).collect();
                prop_assert_eq!(digits, number.to_string().into_bytes());
            }
        }
    }
}
