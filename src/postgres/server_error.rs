//! An ErrorResponse of a database during a login, sanitized before it reaches a client or a log.

use std::fmt;

use super::message::WireError;
use crate::names::visible;

/// Longest text of a field, in bytes; longer ones are cut.
const MAX_WORDS: usize = 1_000;

/// Longest field that names one object, in bytes: a file, a routine, a table.
const MAX_NAME: usize = 128;

/// Fields that are passed on besides the four texts, in the server's order (PostgreSQL manual, "Error and
/// Notice Message Fields"): position and query, context, names of database objects, and the place in the
/// server's source.
const OTHER_FIELDS: &[u8] = b"PpqWstcdnFLR";

/// Severities of an error (PostgreSQL manual, "Error and Notice Message Fields").
const SEVERITIES: [&str; 3] = ["ERROR", "FATAL", "PANIC"];

/// Classes of SQLSTATE that are not errors: success, warning, no data.
const NO_ERRORS: [&str; 3] = ["00", "01", "02"];

/// Step of the login at which the server refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginStep {
    /// Before the request for the token.
    Startup,
    /// After the token was sent.
    Token,
    /// After AuthenticationOk.
    Authenticated,
}

/// A server's refusal. Its strings have no control characters and a limited length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE: five digits and capital letters. Empty if the server sent none, or one that is not an error.
    pub sqlstate: String,
    /// MESSAGE.
    pub message: String,
    /// DETAIL, empty when there is none.
    pub detail: String,
    /// HINT.
    pub hint: Option<String>,
    /// Other fields that clients show, each with its code, each once.
    pub other: Vec<(u8, String)>,
    /// Step of the login.
    pub step: LoginStep,
}

impl ServerError {
    /// Parses the body of an ErrorResponse. Fails if it is malformed, or if its severity is not that of an
    /// error.
    pub(super) fn parse(body: &[u8], step: LoginStep) -> Result<Self, WireError> {
        let malformed = || WireError::Malformed("ErrorResponse");
        let fields = body.strip_suffix(b"\0").ok_or_else(malformed)?;
        let mut error = Self {
            sqlstate: String::new(),
            message: String::new(),
            detail: String::new(),
            hint: None,
            other: Vec::new(),
            step,
        };
        if fields.is_empty() {
            return Ok(error);
        }
        for field in fields.strip_suffix(b"\0").ok_or_else(malformed)?.split(|byte| *byte == 0) {
            let (code, text) = field.split_first().ok_or_else(malformed)?;
            match code {
                b'V' if !SEVERITIES.iter().any(|known| known.as_bytes() == text) => return Err(malformed()),
                b'C' => sqlstate(text).unwrap_or_default().clone_into(&mut error.sqlstate),
                b'M' => error.message = words(text),
                b'D' => error.detail = words(text),
                b'H' => error.hint = Some(words(text)),
                code if OTHER_FIELDS.contains(code) && error.other.iter().all(|(known, _)| known != code) => {
                    error.other.push((*code, other(*code, text)));
                }
                _ => {}
            }
        }
        Ok(error)
    }

    /// The first two characters of SQLSTATE; empty without one.
    pub fn class(&self) -> &str {
        self.sqlstate.get(..2).unwrap_or_default()
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sqlstate = if self.sqlstate.is_empty() { "no SQLSTATE" } else { &self.sqlstate };
        write!(f, "{sqlstate}: {}", self.message)
    }
}

fn sqlstate(text: &[u8]) -> Option<&str> {
    let legal = text.len() == 5 && text.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let text = std::str::from_utf8(text).ok().filter(|_| legal)?;
    (!NO_ERRORS.iter().any(|class| text.starts_with(class))).then_some(text)
}

fn words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace(['\n', '\r', '\t'], " ");
    visible(text.trim(), MAX_WORDS)
}

fn other(code: u8, text: &[u8]) -> String {
    match code {
        b'W' | b'q' => words(text),
        _ => visible(&String::from_utf8_lossy(text), MAX_NAME),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(body: &[u8]) -> Result<ServerError, WireError> {
        ServerError::parse(body, LoginStep::Token)
    }

    #[test]
    fn fields_are_read_and_words_made_harmless() {
        let body = b"SFATAL\0VFATAL\0C3D000\0Mno\x1b[31m \xff\nway \0Dd\0Hh\0Fpostinit.c\0\0";
        let error = parse(body).unwrap();
        assert_eq!(error.to_string(), "3D000: no\\u{1b}[31m \u{fffd} way");
        assert_eq!((&*error.detail, error.hint.as_deref(), error.class()), ("d", Some("h"), "3D"));
        assert_eq!(error.other, [(b'F', "postinit.c".to_owned())]);
        let empty = parse(b"\0").unwrap();
        assert_eq!((empty.to_string(), empty.class()), ("no SQLSTATE: ".to_owned(), ""));
    }

    #[test]
    fn the_fields_that_clients_show_are_kept_and_others_are_not() {
        let long = "x".repeat(2_000);
        let body =
            format!("Mm\0P7\0WPL/pgSQL function f()\nline 3\0sapp\0F{long}\0L7\x1b\0L8\0Rr\0Zz\0q{long}\0\0");
        let other = parse(body.as_bytes()).unwrap().other;
        let shown: Vec<_> = other.iter().map(|(code, text)| (char::from(*code), text.as_str())).collect();
        let cut = |bytes| visible(&long, bytes);
        let (file, query) = (cut(MAX_NAME), cut(MAX_WORDS));
        assert_eq!(
            shown,
            [
                ('P', "7"),
                ('W', "PL/pgSQL function f() line 3"),
                ('s', "app"),
                ('F', &*file),
                ('L', "7\\u{1b}"),
                ('R', "r"),
                ('q', &*query),
            ]
        );
    }

    #[test]
    fn only_an_error_in_the_form_of_the_protocol_is_one() {
        for body in [
            &b""[..],
            b"M",
            b"Mx",
            b"Mx\0",
            b"\0\0",
            b"Mx\0\0\0",
            b"VWARNING\0Mx\0\0",
            b"V\0\0",
            b"Vfatal\0\0",
        ] {
            assert!(parse(body).is_err(), "{body:?}");
        }
        for severity in SEVERITIES {
            assert!(parse(format!("V{severity}\0\0").as_bytes()).is_ok());
        }
        // Before 9.6 the only severity is in the server's language.
        assert!(parse(b"SFATALERROR\0Mx\0\0").is_ok());
    }

    #[test]
    fn a_sqlstate_is_five_digits_and_capitals_of_an_error() {
        for (text, taken) in [
            ("57P03", true),
            ("XX000", true),
            ("ZZZZZ", true),
            ("57p03", false),
            ("57P0", false),
            ("57P033", false),
            ("57 03", false),
            ("5\n\"03", false),
            ("5é03", false),
            ("", false),
            ("00000", false),
            ("01000", false),
            ("02000", false),
        ] {
            let error = parse(format!("C{text}\0\0").as_bytes()).unwrap();
            assert_eq!(error.sqlstate, if taken { text } else { "" }, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_short_and_printable(body in prop::collection::vec(any::<u8>(), 0..3_000), text in ".{0,2000}") {
            let fields = format!("M{text}\0D{text}\0H{text}\0C{text}\0\0");
            for body in [&body[..], fields.as_bytes(), &[b"M", &body[..], b"\0\0"].concat()] {
                let Ok(error) = parse(body) else { continue };
                for text in [&error.message, &error.detail, error.hint.as_ref().unwrap_or(&error.detail)] {
                    prop_assert!(!text.chars().any(char::is_control), "{text:?}");
                    // An escaped character is up to ten times as long.
                    prop_assert!(text.len() <= 10 * MAX_WORDS, "{} bytes", text.len());
                }
                prop_assert!(error.sqlstate.is_empty() || error.sqlstate.len() == 5);
            }
        }
    }
}
