//! The client's `HandshakeResponse` (MySQL Internals, "`Protocol::HandshakeResponse41`"), read strictly.

use std::fmt;

use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::limits;
use super::packet::Fields;

/// Length of an SSLRequest's payload, which is the beginning of a `HandshakeResponse`.
pub const SSL_REQUEST_LENGTH: usize = 32;

/// Connection attributes that the proxy adds have this prefix; the client's with it are dropped.
pub const OUR_ATTRIBUTES: &[u8] = b"_pgpassport_";

/// Attributes that name one process or thread (MySQL manual, "Performance Schema Connection Attribute Tables").
const OF_PROCESS: [&[u8]; 2] = [b"_pid", b"_thread"];

/// Reason for refusing a client's first packets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// A `HandshakeResponse` in clear.
    #[error("a login in clear where TLS is required")]
    TlsRequired,
    /// A client without the flags that a request for a token needs.
    #[error("the client does not support authentication plugins")]
    TooOld,
    /// The packet violates the protocol.
    #[error("invalid handshake response: {0}")]
    Layout(&'static str),
}

/// The client's part of what is said before TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFeatures {
    /// Flags that client and proxy share.
    pub capabilities: Capabilities,
    /// Longest packet that the client accepts.
    pub max_packet: u32,
    /// Number of the client's charset and collation.
    pub charset: u8,
}

impl Default for ClientFeatures {
    /// The features of a connection without a client: flags and charset that MySQL 8 and MariaDB 10 have in common.
    fn default() -> Self {
        Self { capabilities: Capabilities::COMMON, max_packet: 1 << 24, charset: 45 }
    }
}

/// Name and value of a connection attribute.
type ConnectionAttribute = (Vec<u8>, Vec<u8>);

/// A client's login request. All that is not user and database is passed to the server.
#[derive(Clone)]
pub struct ClientStartup {
    pub(super) features: ClientFeatures,
    user: String,
    database: Option<String>,
    /// Connection attributes in the client's order.
    pub(super) attributes: Vec<ConnectionAttribute>,
}

/// A token, or another answer, that the client has sent without a question.
pub struct EarlyAnswer {
    /// Name of the plugin whose answer it is.
    pub(super) plugin: Vec<u8>,
    /// The answer.
    pub(super) data: Zeroizing<Vec<u8>>,
}

impl EarlyAnswer {
    /// The answer, if it is that of this plugin.
    pub fn of_plugin(&self, plugin: &[u8]) -> Option<&[u8]> {
        (self.plugin == plugin).then_some(self.data.as_slice())
    }
}

impl fmt::Debug for EarlyAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EarlyAnswer with {} bytes", self.data.len())
    }
}

impl ClientStartup {
    /// Parses a client's `HandshakeResponse`. `offered` are the flags of the greeting; others of the client do not count.
    pub fn parse(payload: &[u8], offered: Capabilities) -> Result<(Self, Option<EarlyAnswer>), StartupError> {
        let mut fields = Fields::of(payload);
        let short = StartupError::Layout("it is too short");
        let sent = Capabilities::from_bits(fields.u32().ok_or(short.clone())?);
        if !sent.suffice_for_a_client() {
            return Err(StartupError::TooOld);
        }
        let capabilities = sent & offered;
        let max_packet = fields.u32().ok_or(short.clone())?;
        let charset = fields.u8().ok_or(short.clone())?;
        fields.bytes(23).ok_or(short)?;
        let user = fields.until_nul().ok_or(StartupError::Layout("the user name has no end"))?;
        // The form of the data depends on the client's flags alone.
        let data = if sent.contains(Capabilities::PLUGIN_AUTH_LENENC) {
            fields.with_length()
        } else {
            fields.u8().and_then(|length| fields.bytes(usize::from(length)))
        };
        let data = data.ok_or(StartupError::Layout("the authentication data has no end"))?;
        let database =
            if sent.contains(Capabilities::CONNECT_WITH_DB) { fields.until_nul_or_end() } else { b"" };
        let plugin = fields.until_nul_or_end();
        if plugin.len() > limits::MAX_PLUGIN_NAME {
            return Err(StartupError::Layout("the name of the plugin is too long"));
        }
        let attributes = if sent.contains(Capabilities::CONNECT_ATTRS) && !fields.rest().is_empty() {
            attributes(&mut fields)?
        } else {
            Vec::new()
        };
        let startup = Self {
            features: ClientFeatures { capabilities, max_packet, charset },
            user: name(user)?,
            database: Some(name(database)?).filter(|database| !database.is_empty()),
            attributes,
        };
        let early = (!data.is_empty())
            .then(|| EarlyAnswer { plugin: plugin.to_vec(), data: Zeroizing::new(data.to_vec()) });
        Ok((startup, early))
    }

    /// The request of a login without a client, by the program of this name. User and database are those of the grant.
    pub(super) fn without_client(program: &str) -> Self {
        Self {
            features: ClientFeatures::default(),
            user: String::new(),
            database: None,
            attributes: vec![(b"program_name".to_vec(), program.as_bytes().to_vec())],
        }
    }

    /// Startup of a connection without a client: no flags that servers may lack, no attributes.
    pub(super) fn of_proxy() -> Self {
        let capabilities = Capabilities::PROTOCOL_41;
        let features = ClientFeatures { capabilities, ..ClientFeatures::default() };
        Self { features, user: String::new(), database: None, attributes: Vec::new() }
    }

    /// Removes the attributes that name one process or thread of the client.
    pub fn forget_process(&mut self) {
        self.attributes.retain(|(name, _)| !OF_PROCESS.contains(&name.as_slice()));
    }

    /// Features of the session.
    pub fn features(&self) -> ClientFeatures {
        self.features
    }

    /// Requested user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Requested database, if any.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Program name among the attributes, for the audit record only.
    pub fn application(&self) -> Option<String> {
        let value = |wanted: &[u8]| self.attributes.iter().find(|(name, _)| name == wanted);
        let (_, value) = value(b"program_name").or_else(|| value(b"_client_name"))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

impl fmt::Debug for ClientStartup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStartup").field("features", &self.features).finish_non_exhaustive()
    }
}

fn name(bytes: &[u8]) -> Result<String, StartupError> {
    if bytes.len() > limits::MAX_REQUESTED_NAME {
        return Err(StartupError::Layout("a name is too long"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::Layout("a name is not UTF-8"))
}

fn attributes(fields: &mut Fields<'_>) -> Result<Vec<ConnectionAttribute>, StartupError> {
    let malformed = StartupError::Layout("the connection attributes are malformed");
    let bytes = fields.with_length().ok_or(malformed.clone())?;
    if bytes.len() > limits::MAX_ATTRIBUTE_BYTES {
        return Err(StartupError::Layout("the connection attributes are too long"));
    }
    let mut fields = Fields::of(bytes);
    let mut attributes = Vec::new();
    while !fields.rest().is_empty() {
        if attributes.len() == limits::MAX_ATTRIBUTES {
            return Err(StartupError::Layout("too many connection attributes"));
        }
        let name = fields.with_length().ok_or(malformed.clone())?;
        let value = fields.with_length().ok_or(malformed.clone())?;
        if !name.starts_with(OUR_ATTRIBUTES) {
            attributes.push((name.to_vec(), value.to_vec()));
        }
    }
    Ok(attributes)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mysql::packet::put_with_length;

    const ALL: Capabilities = Capabilities::COMMON;

    /// A `HandshakeResponse` with these flags; fields follow as they are.
    pub(in crate::mysql) fn response(capabilities: Capabilities, fields: &[&[u8]]) -> Vec<u8> {
        let mut out = ClientFeatures { capabilities, max_packet: 1 << 24, charset: 45 }.head();
        for field in fields {
            out.extend_from_slice(field);
        }
        out
    }

    pub(in crate::mysql) fn with_attributes(attributes: &[u8]) -> Vec<u8> {
        let mut out = response(ALL, &[b"alice\0", b"\0", b"app\0", b"mysql_native_password\0"]);
        put_with_length(attributes, &mut out);
        out
    }

    fn layout(payload: &[u8]) -> &'static str {
        match ClientStartup::parse(payload, ALL) {
            Err(StartupError::Layout(what)) => what,
            other => panic!("{:?}", other.map(|(startup, _)| startup)),
        }
    }

    #[test]
    fn a_request_is_read_whole() {
        let attributes = b"\x0cprogram_name\x05mysql\x03_os\x05Linux\x13_pgpassport_session\x01x";
        let (startup, early) = ClientStartup::parse(&with_attributes(attributes), ALL).unwrap();
        assert_eq!((startup.user(), startup.database()), ("alice", Some("app")));
        assert_eq!((startup.features.max_packet, startup.features.charset), (1 << 24, 45));
        assert_eq!(startup.application().as_deref(), Some("mysql"));
        assert_eq!(startup.attributes.len(), 2, "ours are not the client's to set");
        assert!(early.is_none());
        assert!(!format!("{startup:?}").contains("alice"));
    }

    #[test]
    fn the_data_has_three_forms_and_a_token_may_be_in_it() {
        let long = vec![b'x'; 20_000];
        let mut with_length = Vec::new();
        put_with_length(&long, &mut with_length);
        let without_db = Capabilities::from_bits(ALL.bits() & !Capabilities::CONNECT_WITH_DB.bits());
        let sent = response(without_db, &[b"alice\0", &with_length, b"mysql_clear_password\0"]);
        let (startup, early) = ClientStartup::parse(&sent, ALL).unwrap();
        let early = early.unwrap();
        assert_eq!((early.plugin.as_slice(), early.data.len()), (&b"mysql_clear_password"[..], 20_000));
        assert_eq!(startup.database(), None);
        let short = Capabilities::from_bits(without_db.bits() & !Capabilities::PLUGIN_AUTH_LENENC.bits());
        let sent = response(short, &[b"alice\0", &[250], &long[..250], b"p"]);
        let (_, early) = ClientStartup::parse(&sent, ALL).unwrap();
        let early = early.unwrap();
        assert_eq!(
            (early.plugin.as_slice(), early.data.len()),
            (&b"p"[..], 250),
            "the last NUL may be missing"
        );
    }

    #[test]
    fn only_flags_that_were_offered_count() {
        let everything = Capabilities::from_bits(u32::MAX);
        let sent = response(everything, &[b"alice\0", b"\0", b"\0", b"p\0", b"\0"]);
        let (startup, _) = ClientStartup::parse(&sent, ALL).unwrap();
        assert_eq!((startup.features.capabilities, startup.database()), (ALL, None));
        for lacking in [Capabilities::PROTOCOL_41, Capabilities::SECURE_CONNECTION, Capabilities::PLUGIN_AUTH]
        {
            let old = Capabilities::from_bits(!lacking.bits());
            assert_eq!(ClientStartup::parse(&response(old, &[]), ALL).err(), Some(StartupError::TooOld));
        }
    }

    #[test]
    fn c5_nothing_is_repaired() {
        for length in 4..SSL_REQUEST_LENGTH {
            assert_eq!(layout(&response(ALL, &[])[..length]), "it is too short", "{length}");
        }
        assert_eq!(layout(&response(ALL, &[b"alice"])), "the user name has no end");
        assert_eq!(layout(&response(ALL, &[b"alice\0"])), "the authentication data has no end");
        assert_eq!(layout(&response(ALL, &[b"alice\0", b"\x05ab"])), "the authentication data has no end");
        assert_eq!(
            layout(&response(ALL, &[b"alice\0", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff"])),
            "the authentication data has no end"
        );
        assert_eq!(layout(&response(ALL, &[b"\xff\0", b"\0"])), "a name is not UTF-8");
        for (length, fits) in [(limits::MAX_REQUESTED_NAME, true), (limits::MAX_REQUESTED_NAME + 1, false)] {
            let user = [&vec![b'u'; length][..], b"\0"].concat();
            let parsed = ClientStartup::parse(&response(ALL, &[&user, b"\0", b"\0", b"p\0"]), ALL);
            assert_eq!(parsed.is_ok(), fits, "{length}");
        }
        for (length, fits) in [(limits::MAX_PLUGIN_NAME, true), (limits::MAX_PLUGIN_NAME + 1, false)] {
            let plugin = [&vec![b'p'; length][..], b"\0"].concat();
            let parsed = ClientStartup::parse(&response(ALL, &[b"a\0", b"\0", b"\0", &plugin]), ALL);
            assert_eq!(parsed.is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn attributes_are_bounded() {
        let malformed = "the connection attributes are malformed";
        for bad in [&b"\x05ab"[..], b"\x01a", b"\xfb", b"\x01a\x09x"] {
            assert_eq!(layout(&with_attributes(bad)), malformed, "{bad:?}");
        }
        let pair = |count: usize| [&b"\x01a\x01b"[..]].repeat(count).concat();
        assert!(ClientStartup::parse(&with_attributes(&pair(limits::MAX_ATTRIBUTES)), ALL).is_ok());
        assert_eq!(
            layout(&with_attributes(&pair(limits::MAX_ATTRIBUTES + 1))),
            "too many connection attributes"
        );
        let of_bytes = |total: usize| {
            let mut attributes = b"\x01a".to_vec();
            put_with_length(&vec![b'v'; total - 2 - 3 - 2], &mut attributes);
            attributes.extend(b"\x01b");
            attributes
        };
        // A value of less than 64 KiB has a length of 3 bytes.
        let mut fits = of_bytes(limits::MAX_ATTRIBUTE_BYTES - 1);
        fits.push(0);
        assert_eq!(fits.len(), limits::MAX_ATTRIBUTE_BYTES);
        assert!(ClientStartup::parse(&with_attributes(&fits), ALL).is_ok());
        fits.push(0);
        assert_eq!(layout(&with_attributes(&fits)), "the connection attributes are too long");
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_stranger_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flags in any::<u32>(),
            at in 0_usize..90,
            flip in any::<u8>(),
        ) {
            let _ = ClientStartup::parse(&bytes, ALL);
            let _ = ClientStartup::parse(&response(Capabilities::from_bits(flags | ALL.bits()), &[&bytes]), ALL);
            let mut near = with_attributes(b"\x0cprogram_name\x05mysql");
            let at = at % near.len();
            near[at] = flip;
            let _ = ClientStartup::parse(&near, ALL);
            near.truncate(at);
            let _ = ClientStartup::parse(&near, ALL);
        }
    }
}
