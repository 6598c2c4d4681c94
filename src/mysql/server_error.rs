//! An ERR packet of a server, sanitized before it reaches a client or a log.

use std::fmt;

use super::packet::{Fields, WireError};
use crate::names::visible;

/// Longest text, in bytes; longer ones are cut.
const MAX_WORDS: usize = 400;

/// Marks an ERR packet.
pub const ERR: u8 = 0xff;

/// SQLSTATE of an error that has none of its own.
const GENERAL: &str = "HY000";

/// Step of the login at which the server refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginStep {
    /// Before the request for the token.
    Startup,
    /// After the token was sent.
    Token,
}

/// A server's refusal. Its strings have no control characters and a limited length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Error number.
    pub errno: u16,
    /// SQLSTATE: five digits and capital letters.
    pub sqlstate: String,
    /// Text.
    pub message: String,
    /// Step of the login.
    pub step: LoginStep,
}

impl ServerError {
    /// Parses the payload of an ERR packet.
    pub(super) fn parse(payload: &[u8], step: LoginStep) -> Result<Self, WireError> {
        let malformed = || WireError::Malformed("ERR packet");
        let mut fields = Fields::of(payload);
        if fields.u8() != Some(ERR) {
            return Err(malformed());
        }
        let errno = fields.u16().ok_or_else(malformed)?;
        // An error in place of the greeting has no SQLSTATE.
        let sqlstate = match fields.rest().split_first_chunk::<6>() {
            Some(([b'#', state @ ..], words)) => {
                fields = Fields::of(words);
                sqlstate(state)
            }
            _ => GENERAL,
        };
        let message = String::from_utf8_lossy(fields.rest()).replace(['\n', '\r', '\t'], " ");
        let message = visible(message.trim(), MAX_WORDS);
        Ok(Self { errno, sqlstate: sqlstate.to_owned(), message, step })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.errno, self.sqlstate, self.message)
    }
}

fn sqlstate(state: &[u8; 5]) -> &str {
    let legal = state.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    std::str::from_utf8(state).ok().filter(|state| legal && !state.starts_with("00")).unwrap_or(GENERAL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(payload: &[u8]) -> Result<ServerError, WireError> {
        ServerError::parse(payload, LoginStep::Token)
    }

    #[test]
    fn an_error_is_read_with_and_without_a_sqlstate() {
        let error =
            parse(b"\xff\x15\x04#28000Access denied for user 'alice'@'10.0.0.7' (using password: YES)")
                .unwrap();
        assert_eq!((error.errno, error.sqlstate.as_str()), (1045, "28000"));
        assert_eq!(error.message, "Access denied for user 'alice'@'10.0.0.7' (using password: YES)");
        let error = parse(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!(error.to_string(), "1040 (HY000): Too many connections");
        for odd in [
            &b"\xff\x15\x04#00000x"[..],
            b"\xff\x15\x04#28 00x",
            b"\xff\x15\x04#28a00x",
            b"\xff\x15\x04#\xff\xff\xff\xff\xffx",
        ] {
            let error = parse(odd).unwrap();
            assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("HY000", "x"), "{odd:?}");
        }
        for bad in [&b""[..], b"\xff", b"\xff\x15", b"\0\x15\x04"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse(b"\xff\x15\x04#2800").unwrap().message, "#2800");
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_short_and_printable(payload in prop::collection::vec(any::<u8>(), 0..900)) {
            if let Ok(error) = parse(&[&b"\xff\x15\x04"[..], &payload].concat()) {
                prop_assert!(!error.message.chars().any(char::is_control));
                // An escaped character is up to ten times as long.
                prop_assert!(error.message.len() <= 10 * MAX_WORDS + 3);
                prop_assert_eq!(error.sqlstate.len(), 5);
            }
        }
    }
}
