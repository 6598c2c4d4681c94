//! The greeting with which a server opens a connection (MySQL Internals, "`Protocol::HandshakeV10")`: the proxy's own to
//! a client, and the one of a cluster's server, which arrives in clear and is trusted with nothing.

use super::capabilities::Capabilities;
use super::limits;
use super::packet::{Fields, WireError};
use crate::names::random_bytes;

/// The plugin that the proxy's greeting names. Never `mysql_clear_password`: a client without TLS would send its token
/// without a question.
pub const GREETING_PLUGIN: &str = "caching_sha2_password";

/// `SERVER_STATUS_AUTOCOMMIT`.
const AUTOCOMMIT: u16 = 2;

/// Lengths of the two parts of a greeting's salt; the second one has a NUL after it.
const SALT: (usize, usize) = (8, 12);

/// Length of a salt.
pub const SALT_LENGTH: usize = SALT.0 + SALT.1;

/// A random salt. Its bytes are printable, because clients take a NUL for the end.
pub fn salt() -> [u8; SALT_LENGTH] {
    random_bytes::<SALT_LENGTH>().map(|byte| 0x30 + byte % 64)
}

/// Facts about a server that its greeting tells and that clients adapt to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Version text, for example `8.0.39` or `5.5.5-10.11.19-MariaDB`.
    pub version: String,
    /// Default character set and collation, by number.
    pub charset: u8,
    /// Capability flags.
    pub capabilities: Capabilities,
}

impl Default for ServerIdentity {
    /// A server that is not known yet: flags and charset that MySQL 8 and MariaDB 10 have in common.
    fn default() -> Self {
        Self { version: "8.0.39".to_owned(), charset: 45, capabilities: Capabilities::COMMON }
    }
}

impl ServerIdentity {
    /// Payload of the proxy's greeting for a client.
    pub fn greeting(&self, connection_id: u32) -> Vec<u8> {
        self.greeting_with(connection_id, &salt(), self.capabilities.offered())
    }

    /// Payload of a greeting with this salt that offers these flags.
    pub fn greeting_with(
        &self,
        connection_id: u32,
        salt: &[u8; SALT_LENGTH],
        offered: Capabilities,
    ) -> Vec<u8> {
        let (first, second) = salt.split_at(SALT.0);
        let [low, low_2, high, high_2] = offered.bits().to_le_bytes();
        let mut out = vec![10];
        out.extend_from_slice(self.version.as_bytes());
        out.push(0);
        out.extend_from_slice(&connection_id.to_le_bytes());
        out.extend_from_slice(first);
        out.push(0);
        out.extend_from_slice(&[low, low_2, self.charset]);
        out.extend_from_slice(&AUTOCOMMIT.to_le_bytes());
        out.extend_from_slice(&[high, high_2, 21]); // both salts and the NUL
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(second);
        out.push(0);
        out.extend_from_slice(GREETING_PLUGIN.as_bytes());
        out.push(0);
        out
    }
}

/// The greeting of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGreeting {
    /// Number of the connection at the server.
    pub connection_id: u32,
    /// The server's facts.
    pub identity: ServerIdentity,
}

impl ServerGreeting {
    /// Parses the payload of a server's first packet. Salt and plugin are not kept: the proxy answers no challenge.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let malformed = WireError::Malformed("greeting");
        match payload.first() {
            Some(10) => Self::fields(payload).ok_or(malformed),
            Some(kind) => Err(WireError::Unexpected(*kind)),
            None => Err(malformed),
        }
    }

    fn fields(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(payload);
        fields.u8()?;
        let version = fields.until_nul()?;
        let legal = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        if version.is_empty() || version.len() > limits::MAX_VERSION || !version.iter().all(legal) {
            return None;
        }
        let connection_id = fields.u32()?;
        fields.bytes(SALT.0 + 1)?;
        let low = fields.u16()?;
        let charset = fields.u8()?;
        let _status = fields.u16()?;
        let high = fields.u16()?;
        let capabilities = Capabilities::from_bits(u32::from(low) | u32::from(high) << 16);
        let version = String::from_utf8_lossy(version).into_owned();
        Some(Self { connection_id, identity: ServerIdentity { version, charset, capabilities } })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The greeting of MySQL 9.7.4 in the form of the manual.
    fn mysql_9() -> Vec<u8> {
        let mut bytes = b"\x0a9.7.4\0\x2a\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15".to_vec();
        bytes.extend([0; 10]);
        bytes.extend(b"ijklmnopqrst\0caching_sha2_password\0");
        bytes
    }

    #[test]
    fn a_servers_greeting_is_read() {
        let greeting = ServerGreeting::parse(&mysql_9()).unwrap();
        assert_eq!(greeting.connection_id, 42);
        assert_eq!((greeting.identity.version.as_str(), greeting.identity.charset), ("9.7.4", 255));
        assert_eq!(greeting.identity.capabilities.bits(), 0xdfff_ffff);
    }

    #[test]
    fn what_is_no_greeting_is_refused() {
        let whole = mysql_9();
        for cut in 0..27 {
            assert!(ServerGreeting::parse(&whole[..cut]).is_err(), "{cut}");
        }
        let too_many = ServerGreeting::parse(b"\xff\x10\x04Too many connections");
        assert!(matches!(too_many, Err(WireError::Unexpected(0xff))), "{too_many:?}");
        assert!(matches!(ServerGreeting::parse(b"\x09x\0"), Err(WireError::Unexpected(9))));
        let with_version = |version: &[u8]| {
            let mut bytes = whole.clone();
            bytes.splice(1..6, version.iter().copied());
            ServerGreeting::parse(&bytes).is_ok()
        };
        assert!(
            with_version(&[b'8'; limits::MAX_VERSION]) && !with_version(&[b'8'; limits::MAX_VERSION + 1])
        );
        assert!(!with_version(b"") && !with_version(b"8\n") && !with_version(b"\xff"));
    }

    #[test]
    fn ours_is_read_as_a_servers() {
        let identity = ServerIdentity { version: "8.4.3".into(), charset: 255, ..ServerIdentity::default() };
        let bytes = identity.greeting(0x4000_0001);
        let read = ServerGreeting::parse(&bytes).unwrap();
        assert_eq!(read.connection_id, 0x4000_0001);
        assert_eq!(read.identity.capabilities, identity.capabilities.offered());
        assert_eq!((read.identity.version, read.identity.charset), (identity.version.clone(), 255));
        assert!(bytes.ends_with(b"\0caching_sha2_password\0"));
        // Version 6 bytes, id 4, salt 8.
        assert!(
            bytes[11..19].iter().all(u8::is_ascii_graphic) && bytes[38..50].iter().all(u8::is_ascii_graphic)
        );
        assert_ne!(bytes, identity.greeting(0x4000_0001), "each has its own salt");
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_stranger_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), cut in 0_usize..80, flip in any::<u8>()) {
            let _ = ServerGreeting::parse(&bytes);
            let mut near = mysql_9();
            let at = cut % near.len();
            near[at] = flip;
            let _ = ServerGreeting::parse(&near);
            near.truncate(cut);
            let _ = ServerGreeting::parse(&near);
        }
    }
}
