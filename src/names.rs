//! Names of people, databases and AWS resources: parsed once, then passed as types instead of strings.

pub mod aws_claims;
pub mod client_addr;
pub mod direct_hosts;
mod quoting;
mod session_id;
pub mod setting;
pub mod source;

use std::fmt;

use unicode_normalization::is_nfc;

pub use self::quoting::{
    conninfo_value, mysql_grant_database, mysql_text, shell_word, sql_identifier, sql_literal,
};
pub use self::session_id::{SessionId, random_bytes};

/// Longest name. PostgreSQL silently truncates longer names (`NAMEDATALEN` is 64 including the terminator),
/// so two people whose names share 63 bytes would become one role.
pub const MAX_NAME_BYTES: usize = 63;

/// Most characters in a user name of MySQL (MySQL manual, "Account Names").
pub const MAX_MYSQL_USER: usize = 32;

/// Reason why a string is not a valid database user or database name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or only spaces.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`]. Holds the length.
    #[error("it has {0} bytes and PostgreSQL names have at most {MAX_NAME_BYTES}")]
    TooLong(usize),
    /// More than [`MAX_MYSQL_USER`] characters, for a MySQL server. Holds their number.
    #[error("it has {0} characters and MySQL's user names have at most {MAX_MYSQL_USER}")]
    TooLongForMysql(usize),
    /// A NUL, control, bidirectional or zero-width character.
    #[error("it holds a control or invisible character")]
    Invisible,
    /// `*` or `?`, which IAM policies read as wildcards.
    #[error("it holds * or ?, which IAM policies read as wildcards")]
    Wildcard,
    /// Not in Unicode normalization form C, so that it would look like another name.
    #[error("it is not in Unicode normalisation form C")]
    NotNormalised,
}

/// A database user (role) name that is safe to sign, to send, and to put into a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DbUser(String);

impl DbUser {
    /// Checks the rules of [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.trim().is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong(text.len()));
        }
        if text.chars().any(is_invisible) {
            return Err(NameError::Invisible);
        }
        if text.contains(['*', '?']) {
            return Err(NameError::Wildcard);
        }
        if !is_nfc(text) {
            return Err(NameError::NotNormalised);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A database name as requested by the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DbName(String);

impl DbName {
    /// Checks length and characters. PostgreSQL decides whether the database exists.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong(text.len()));
        }
        if text.chars().any(is_invisible) {
            return Err(NameError::Invisible);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// True for invisible characters and for those that change the display of their neighbors.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'           // Mongolian variation selectors
            | '\u{200b}'..='\u{200f}'           // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}'           // line separators, bidirectional embeddings
            | '\u{2060}'..='\u{206f}'           // word joiner, bidirectional isolates
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fe00}'..='\u{fe0f}'           // variation selectors
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}') // tags
}

/// Escapes `text` for a place inside quotes: invisible characters, quotes and backslashes. Cuts at `max`
/// bytes of the original, on a character boundary.
pub fn printable(text: &str, max: usize) -> String {
    escaped(text, max, |c| is_invisible(c) || matches!(c, '"' | '\\'))
}

/// Escapes the invisible characters of `text` for a field of a log line, whose writer escapes quotes. Cuts at
/// `max` bytes of the original.
pub fn visible(text: &str, max: usize) -> String {
    escaped(text, max, is_invisible)
}

fn escaped(text: &str, max: usize, escape: impl Fn(char) -> bool) -> String {
    let end = text.floor_char_boundary(max);
    let mut out = String::with_capacity(end);
    for c in text.get(..end).unwrap_or_default().chars() {
        if escape(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if end < text.len() {
        out.push('…');
    }
    out
}

/// The `iss` of an OIDC provider, compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issuer(String);

impl Issuer {
    /// Takes the configured issuer URL unchanged: a trailing slash is part of the name.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The verified `sub` of a token. The issuer chooses its text: escape it before showing it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    /// Takes a verified claim.
    pub fn new(sub: impl Into<String>) -> Self {
        Self(sub.into())
    }

    /// The subject, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The ARN of an IAM role: `arn:<partition>:iam::<account>:role/<path and name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleArn {
    text: String,
    partition: String,
    account: String,
}

impl RoleArn {
    /// Parses the ARN; `None` if it is not the ARN of an IAM role.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let name = resource.strip_prefix("role/")?;
        let well_formed = arn == "arn"
            && matches!(partition, "aws" | "aws-cn" | "aws-us-gov" | "aws-eusc" | "aws-iso" | "aws-iso-b")
            && service == "iam"
            && region.is_empty()
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && !name.is_empty()
            && text.len() <= 2048
            && name.bytes().all(|b| b.is_ascii_graphic());
        well_formed.then(|| Self {
            text: text.to_owned(),
            partition: partition.to_owned(),
            account: account.to_owned(),
        })
    }

    /// The complete ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The account id, twelve digits.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The role's path, `/` or `/a/b/`, and its name.
    pub fn path_and_name(&self) -> (&str, &str) {
        let resource = self.text.split_once(":role").map_or("/", |(_, resource)| resource);
        let name = resource.rfind('/').map_or(0, |slash| slash + 1);
        resource.split_at(name)
    }
}

/// An AWS Region such as `eu-central-1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region(String);

impl Region {
    /// Parses a Region name: lower-case letters, digits, and at least two hyphens. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let hyphens = text.bytes().filter(|b| *b == b'-').count();
        (plain && hyphens >= 2 && !text.starts_with('-') && !text.ends_with('-') && text.len() <= 32)
            .then(|| Self(text.to_owned()))
    }

    /// The Region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Host and port of an upstream server, as in its certificate and in the IAM token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Parses `host` or `host:port` (default 5432). Lower-cases the host and drops a trailing dot, because
    /// the server signs for that form. `None` if it is not a DNS name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_with_port(text, 5432)
    }

    /// As [`Endpoint::parse`], with another default port.
    pub fn parse_with_port(text: &str, default: u16) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (text, default),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        (host.len() <= 253 && host.split('.').all(label)).then_some(Self { host, port })
    }

    /// The host, lower-case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn j8_names_that_would_merge_or_hide_are_refused() {
        let long = "x".repeat(64);
        for (text, error) in [
            ("", NameError::Empty),
            ("   ", NameError::Empty),
            (long.as_str(), NameError::TooLong(64)),
            ("al\0ice", NameError::Invisible),
            ("al\nice", NameError::Invisible),
            ("al\u{202e}ice", NameError::Invisible),
            ("al\u{200b}ice", NameError::Invisible),
            ("al\u{feff}ice", NameError::Invisible),
            ("a*", NameError::Wildcard),
            ("a?", NameError::Wildcard),
            ("u\u{308}", NameError::NotNormalised),
        ] {
            assert_eq!(DbUser::parse(text), Err(error), "{text:?}");
        }
        for good in ["a", "alice", "Alice.O'Neil@example.com", "jörg", "日本語", &"x".repeat(63), "a b"] {
            assert_eq!(DbUser::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn database_names_of_63_bytes_pass_and_of_64_do_not() {
        assert_eq!(DbName::parse(&"d".repeat(63)).unwrap().as_str(), "d".repeat(63));
        assert_eq!(DbName::parse(&"d".repeat(64)), Err(NameError::TooLong(64)));
        assert_eq!(DbName::parse(""), Err(NameError::Empty));
        assert_eq!(DbName::parse("a\nb"), Err(NameError::Invisible));
        assert_eq!(DbName::parse("a*").unwrap().as_str(), "a*", "IAM does not look at it");
    }

    proptest! {
        #[test]
        fn l3_any_text_becomes_one_plain_short_line(text in any::<String>(), max in 0_usize..40) {
            for shown in [visible(&text, max), printable(&text, max)] {
                prop_assert!(!shown.contains(is_invisible), "{:?}", shown);
                // The longest escape, `\\u{10ffff}`, has ten bytes for a character of at least one byte.
                prop_assert!(shown.len() <= 10 * max + '…'.len_utf8());
                prop_assert!(text.len() <= max || shown.ends_with('…'));
            }
        }
    }

    #[test]
    fn l3_printable_escapes_what_a_terminal_or_a_log_would_obey() {
        assert_eq!(printable("a\x1b]0;x\x07\r\n\"\u{202e}", 63), r#"a\u{1b}]0;x\u{7}\r\n\"\u{202e}"#);
        assert_eq!(visible("a\x1b\"\\\u{202e}", 63), r#"a\u{1b}"\\u{202e}"#);
        assert_eq!(printable("äöü", 3), "ä…");
        assert_eq!(printable("abc", 3), "abc");
    }

    #[test]
    fn role_arns_are_parsed_whole() {
        let arn = RoleArn::parse("arn:aws-cn:iam::123456789012:role/a/b").unwrap();
        assert_eq!((arn.partition(), arn.account()), ("aws-cn", "123456789012"));
        assert_eq!(arn.path_and_name(), ("/a/", "b"));
        let plain = RoleArn::parse("arn:aws:iam::123456789012:role/x").unwrap();
        assert_eq!(plain.path_and_name(), ("/", "x"));
        for bad in [
            "",
            "arn:aws:iam::123:role/x",
            "arn:aws:iam::123456789012:user/x",
            "arn:aws:iam::123456789012:role/",
            "arn:other:iam::123456789012:role/x",
        ] {
            assert_eq!(RoleArn::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn endpoints_are_lower_cased_and_get_a_port() {
        let endpoint = Endpoint::parse("C1.Cluster-X.eu-west-1.RDS.amazonaws.com.:6432").unwrap();
        assert_eq!(endpoint.to_string(), "c1.cluster-x.eu-west-1.rds.amazonaws.com:6432");
        assert_eq!(Endpoint::parse("db").unwrap().port(), 5432);
        assert_eq!(Endpoint::parse_with_port("db", 3306).unwrap().port(), 3306);
        assert_eq!(Endpoint::parse_with_port("db:1", 3306).unwrap().port(), 1);
        for bad in ["", ":5432", "a..b", "a:0", "a:70000", "a b", "https://a"] {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
    }
}
