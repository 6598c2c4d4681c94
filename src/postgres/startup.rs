//! Strict parser of the StartupMessage. Input that PostgreSQL or a lenient decoder would repair or choose
//! between is refused, because the upstream might choose differently.

use std::fmt;

use super::version::MinorVersion;
use super::{limits, options};
use crate::names::setting;

/// Reason for refusing a startup packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// A plaintext StartupMessage where TLS is required.
    #[error("a login in clear where TLS is required")]
    TlsRequired,
    /// A protocol other than 3.x.
    #[error("unsupported frontend protocol {major}.{minor}")]
    Protocol {
        /// Requested major version.
        major: u16,
        /// Requested minor version.
        minor: u16,
    },
    /// The packet violates the protocol.
    #[error("invalid startup packet layout: {0}")]
    Layout(&'static str),
    /// The `replication` parameter, which IAM database authentication does not allow.
    #[error("a replication connection was asked for")]
    Replication,
}

/// Startup parameters of the client. All except user and database are passed to the upstream byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub struct StartupParams {
    minor: u16,
    user: String,
    database: Option<String>,
    /// Names of `_pq_.` protocol options, none of which is supported.
    protocol_options: Vec<String>,
    /// All other parameters, in order.
    others: Vec<(Vec<u8>, Vec<u8>)>,
}

impl StartupParams {
    /// Parses everything after the length field of a StartupMessage.
    pub fn parse(packet: &[u8]) -> Result<Self, StartupError> {
        let Some((&[major_high, major_low, minor_high, minor_low], pairs)) = packet.split_first_chunk::<4>()
        else {
            return Err(StartupError::Layout("it is too short"));
        };
        let major = u16::from_be_bytes([major_high, major_low]);
        let minor = u16::from_be_bytes([minor_high, minor_low]);
        if major != 3 {
            return Err(StartupError::Protocol { major, minor });
        }
        let (mut user, mut database) = (None, None);
        let mut params = Self {
            minor,
            user: String::new(),
            database: None,
            protocol_options: Vec::new(),
            others: Vec::new(),
        };
        for (name, value) in split_pairs(pairs)? {
            match name {
                b"user" => user = Some(text(value)?),
                b"database" => database = Some(text(value)?),
                b"replication" if is_false(value) => {}
                b"replication" => return Err(StartupError::Replication),
                name if name.starts_with(b"_pq_.") => params.protocol_options.push(text(name)?),
                name => params.others.push((name.to_vec(), value.to_vec())),
            }
        }
        params.user = user
            .filter(|user| !user.is_empty())
            .ok_or(StartupError::Layout("no PostgreSQL user name specified in startup packet"))?;
        params.database = database.filter(|database| !database.is_empty());
        Ok(params)
    }

    /// Requested user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Requested database, if any.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// All other parameters in the client's order.
    pub fn others(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.others
    }

    /// Value of another parameter as a string, for the audit record only.
    pub fn other(&self, name: &str) -> Option<String> {
        let (_, value) = self.others.iter().find(|(other, _)| other == name.as_bytes())?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Canonical names of all settings that the client sets, in `options` or by name.
    pub fn settings(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, value) in &self.others {
            if name.as_slice() == b"options" {
                names.extend(options::settings(value));
            } else {
                names.push(setting::canonical(&String::from_utf8_lossy(name)));
            }
        }
        names
    }

    /// Protocol version for this client: the newest that both sides support.
    pub fn protocol(&self) -> MinorVersion {
        MinorVersion::up_to(self.minor)
    }

    /// Unsupported protocol options, if the client has to be told about them or about an older version than
    /// it requested; `None` otherwise.
    pub fn unmet(&self) -> Option<Vec<String>> {
        let older = self.protocol().minor() < self.minor;
        (older || !self.protocol_options.is_empty()).then(|| self.protocol_options.clone())
    }
}

impl fmt::Debug for StartupParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `options` can contain settings that must not be printed.
        write!(f, "StartupParams with {} parameters", self.others.len() + 1)
    }
}

/// A name and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Splits the body into pairs: `name NUL value NUL … NUL`, where the last NUL is the packet's last byte.
fn split_pairs(body: &[u8]) -> Result<Vec<Pair<'_>>, StartupError> {
    let Some(body) = body.strip_suffix(b"\0") else {
        return Err(StartupError::Layout("expected terminator as last byte"));
    };
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let Some(body) = body.strip_suffix(b"\0") else {
        return Err(StartupError::Layout("a value without its end"));
    };
    let mut parts = body.split(|byte| *byte == 0);
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    while let Some(name) = parts.next() {
        let value = parts.next().ok_or(StartupError::Layout("a name without a value"))?;
        if name.is_empty() {
            return Err(StartupError::Layout("bytes behind the terminator"));
        }
        if pairs.iter().any(|(earlier, _)| *earlier == name) {
            return Err(StartupError::Layout("a parameter is given twice"));
        }
        if pairs.len() == limits::MAX_STARTUP_PARAMETERS {
            return Err(StartupError::Layout("too many parameters"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn text(bytes: &[u8]) -> Result<String, StartupError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::Layout("a name is not UTF-8"))
}

/// Spellings of false that drivers send.
fn is_false(value: &[u8]) -> bool {
    ["false", "f", "off", "no", "n", "0"].iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0, 3, 0, 0];
        for (name, value) in pairs {
            bytes.extend([name, &b"\0"[..], value, b"\0"].concat());
        }
        bytes.push(0);
        bytes
    }

    fn layout(bytes: &[u8]) -> &'static str {
        match StartupParams::parse(bytes) {
            Err(StartupError::Layout(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn u1_other_parameters_keep_their_order_and_bytes() {
        let bytes = packet(&[
            (b"user", b"alice"),
            (b"options", b"-c geqo=off \xff"),
            (b"database", b"app"),
            (b"application_name", b"psql"),
            (b"replication", b"false"),
        ]);
        let params = StartupParams::parse(&bytes).unwrap();
        assert_eq!((params.user(), params.database()), ("alice", Some("app")));
        let others: Vec<_> = params.others().iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(others, [&b"options"[..], b"application_name"]);
        assert_eq!(params.others()[0].1, b"-c geqo=off \xff");
        assert_eq!((params.protocol(), params.unmet()), (MinorVersion::V3_0, None));
    }

    #[test]
    fn c5_nothing_is_repaired() {
        assert_eq!(layout(b"\0\x03"), "it is too short");
        assert_eq!(layout(&packet(&[(b"user", b"a"), (b"user", b"b")])), "a parameter is given twice");
        assert_eq!(layout(&packet(&[(b"user", b"\xff")])), "a name is not UTF-8");
        assert_eq!(layout(b"\0\x03\0\0user\0alice\0"), "a value without its end");
        assert_eq!(layout(b"\0\x03\0\0user\0alice"), "expected terminator as last byte");
        assert_eq!(layout(b"\0\x03\0\0user\0alice\0\0x\0y\0\0"), "bytes behind the terminator");
        assert_eq!(layout(b"\0\x03\0\0user\0alice\0\0\0"), "a name without a value");
        assert_eq!(layout(b"\0\x03\0\0user\0alice\0\0\0\0"), "bytes behind the terminator");
        assert_eq!(layout(b"\0\x03\0\0user\0alice\0lone\0\0"), "a name without a value");
        for none in [packet(&[]), packet(&[(b"user", b"")]), packet(&[(b"database", b"a")])] {
            assert_eq!(layout(&none), "no PostgreSQL user name specified in startup packet");
        }
    }

    #[test]
    fn c5_versions_and_options() {
        let parse = |version: [u8; 4], pairs| {
            let mut bytes = packet(pairs);
            bytes[..4].copy_from_slice(&version);
            StartupParams::parse(&bytes)
        };
        let user: &[(&[u8], &[u8])] = &[(b"user", b"a")];
        assert_eq!(parse([0, 2, 0, 0], user), Err(StartupError::Protocol { major: 2, minor: 0 }));
        assert_eq!(
            parse([0x04, 0xd2, 0x16, 0x2f], user),
            Err(StartupError::Protocol { major: 1234, minor: 5679 })
        );
        for (minor, spoken, told) in [
            ([0, 0], MinorVersion::V3_0, false),
            ([0, 1], MinorVersion::V3_0, true), // does not exist
            ([0, 2], MinorVersion::V3_2, false),
            ([0, 3], MinorVersion::V3_2, true),
            ([0x27, 0x0f], MinorVersion::V3_2, true), // 3.9999, by which libpq tries whether servers negotiate
        ] {
            let asked = parse([0, 3, minor[0], minor[1]], user).unwrap();
            assert_eq!((asked.protocol(), asked.unmet().is_some()), (spoken, told), "{minor:?}");
        }
        for (minor, spoken) in [(0, MinorVersion::V3_0), (2, MinorVersion::V3_2)] {
            let with_option = parse([0, 3, 0, minor], &[(b"user", b"a"), (b"_pq_.x", b"1")]).unwrap();
            assert_eq!(with_option.protocol(), spoken);
            assert_eq!(with_option.unmet(), Some(vec!["_pq_.x".to_owned()]));
            assert!(with_option.others().is_empty());
        }
    }

    #[test]
    fn c5_the_64th_parameter_passes_and_the_65th_does_not() {
        let names: Vec<Vec<u8>> = (0..64).map(|n| format!("p{n}").into_bytes()).collect();
        let with = |count: usize| {
            let mut pairs: Vec<(&[u8], &[u8])> = vec![(b"user", b"a")];
            pairs.extend(names.iter().take(count - 1).map(|name| (name.as_slice(), &b"v"[..])));
            StartupParams::parse(&packet(&pairs))
        };
        assert!(with(64).is_ok());
        assert_eq!(with(65), Err(StartupError::Layout("too many parameters")));
    }

    #[test]
    fn u2_replication_is_refused_unless_it_is_false() {
        for (value, refused) in
            [("true", true), ("database", true), ("on", true), ("", true), ("false", false), ("OFF", false)]
        {
            let parsed =
                StartupParams::parse(&packet(&[(b"user", b"a"), (b"replication", value.as_bytes())]));
            assert_eq!(parsed == Err(StartupError::Replication), refused, "{value}");
        }
    }

    /// Known names, unknown names, and random bytes.
    fn word() -> impl Strategy<Value = Vec<u8>> {
        let known: [&[u8]; 8] = [b"user", b"database", b"replication", b"_pq_.x", b"off", b"a", b"", b"\xff"];
        prop_oneof![
            4 => prop::sample::select(known.map(<[u8]>::to_vec).to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn c5_what_is_accepted_is_pairs_and_nothing_else(
            words in prop::collection::vec(word(), 0..9),
            end in prop::sample::select(vec![&b"\0\0"[..], b"\0\0", b"\0\0", b"", b"\0", b"\0\0\0", b"\0\0x"]),
        ) {
            let _ = StartupParams::parse(&words.concat());
            let body = [&words.join(&0)[..], end].concat();
            if let Ok(params) = StartupParams::parse(&[&[0, 3, 0, 0][..], &body].concat()) {
                prop_assert!(body.ends_with(b"\0\0"));
                let fields: Vec<_> = body[..body.len() - 2].split(|byte| *byte == 0).collect();
                prop_assert!(fields.len().is_multiple_of(2));
                let pairs: Vec<_> = fields.chunks(2).map(|pair| (pair[0], pair[1])).collect();
                for (at, (name, _)) in pairs.iter().enumerate() {
                    prop_assert!(!name.is_empty() && pairs[..at].iter().all(|(earlier, _)| earlier != name));
                }
                let value = |name: &[u8]| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
                prop_assert_eq!(Some(params.user().as_bytes()), value(b"user"));
                prop_assert!(!params.user().is_empty());
                let database = value(b"database").filter(|database| !database.is_empty());
                prop_assert_eq!(params.database().map(str::as_bytes), database);
                prop_assert!(value(b"replication").is_none_or(is_false));
                let ours = |name: &[u8]| {
                    [&b"user"[..], b"database", b"replication"].contains(&name) || name.starts_with(b"_pq_.")
                };
                let others: Vec<_> = params.others().iter().map(|(n, v)| (&n[..], &v[..])).collect();
                prop_assert_eq!(others, pairs.into_iter().filter(|(name, _)| !ours(name)).collect::<Vec<_>>());
            }
        }
    }
}
