//! Capability flags: those that the proxy offers, and those that both of its connections must share (MySQL Internals,
//! "Capabilities Flags").

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// A set of capability flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u32);

impl Capabilities {
    /// `CLIENT_LONG_PASSWORD`. MariaDB calls it `CLIENT_MYSQL`: with it, the peer uses none of MariaDB's extensions.
    pub const LONG_PASSWORD: Self = Self(1);
    /// `CLIENT_FOUND_ROWS`.
    pub const FOUND_ROWS: Self = Self(1 << 1);
    /// `CLIENT_LONG_FLAG`.
    pub const LONG_FLAG: Self = Self(1 << 2);
    /// `CLIENT_CONNECT_WITH_DB`.
    pub const CONNECT_WITH_DB: Self = Self(1 << 3);
    /// `CLIENT_LOCAL_FILES`.
    pub const LOCAL_FILES: Self = Self(1 << 7);
    /// `CLIENT_IGNORE_SPACE`.
    pub const IGNORE_SPACE: Self = Self(1 << 8);
    /// `CLIENT_PROTOCOL_41`.
    pub const PROTOCOL_41: Self = Self(1 << 9);
    /// `CLIENT_INTERACTIVE`.
    pub const INTERACTIVE: Self = Self(1 << 10);
    /// `CLIENT_SSL`.
    pub const SSL: Self = Self(1 << 11);
    /// `CLIENT_TRANSACTIONS`.
    pub const TRANSACTIONS: Self = Self(1 << 13);
    /// `CLIENT_SECURE_CONNECTION`.
    pub const SECURE_CONNECTION: Self = Self(1 << 15);
    /// `CLIENT_MULTI_STATEMENTS`.
    pub const MULTI_STATEMENTS: Self = Self(1 << 16);
    /// `CLIENT_MULTI_RESULTS`.
    pub const MULTI_RESULTS: Self = Self(1 << 17);
    /// `CLIENT_PS_MULTI_RESULTS`.
    pub const PS_MULTI_RESULTS: Self = Self(1 << 18);
    /// `CLIENT_PLUGIN_AUTH`.
    pub const PLUGIN_AUTH: Self = Self(1 << 19);
    /// `CLIENT_CONNECT_ATTRS`.
    pub const CONNECT_ATTRS: Self = Self(1 << 20);
    /// `CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA`.
    pub const PLUGIN_AUTH_LENENC: Self = Self(1 << 21);
    /// `CLIENT_SESSION_TRACK`.
    pub const SESSION_TRACK: Self = Self(1 << 23);
    /// `CLIENT_DEPRECATE_EOF`.
    pub const DEPRECATE_EOF: Self = Self(1 << 24);
    /// `CLIENT_QUERY_ATTRIBUTES`.
    pub const QUERY_ATTRIBUTES: Self = Self(1 << 27);

    /// Flags that change the packets of a session, so that client and server must agree on them.
    const OF_PACKETS: Self = Self(
        Self::PROTOCOL_41.0
            | Self::TRANSACTIONS.0
            | Self::SESSION_TRACK.0
            | Self::DEPRECATE_EOF.0
            | Self::QUERY_ATTRIBUTES.0,
    );

    /// Flags that change what the server does.
    const OF_BEHAVIOR: Self = Self(
        Self::FOUND_ROWS.0
            | Self::LONG_FLAG.0
            | Self::LOCAL_FILES.0
            | Self::IGNORE_SPACE.0
            | Self::INTERACTIVE.0
            | Self::MULTI_STATEMENTS.0
            | Self::MULTI_RESULTS.0
            | Self::PS_MULTI_RESULTS.0,
    );

    /// Flags of the login, which each connection has for itself.
    const OF_LOGIN: Self = Self(
        Self::LONG_PASSWORD.0
            | Self::CONNECT_WITH_DB.0
            | Self::PROTOCOL_41.0
            | Self::SSL.0
            | Self::SECURE_CONNECTION.0
            | Self::PLUGIN_AUTH.0
            | Self::CONNECT_ATTRS.0
            | Self::PLUGIN_AUTH_LENENC.0,
    );

    /// Flags without which a client cannot be asked for its token.
    const OF_EVERY_CLIENT: Self = Self(Self::PROTOCOL_41.0 | Self::SECURE_CONNECTION.0 | Self::PLUGIN_AUTH.0);

    /// Flags without which a server cannot be asked for a login.
    const OF_EVERY_SERVER: Self =
        Self(Self::PROTOCOL_41.0 | Self::SSL.0 | Self::SECURE_CONNECTION.0 | Self::PLUGIN_AUTH.0);

    /// Flags that MySQL 8 and MariaDB 10 have in common, for a server that is not known yet.
    pub const COMMON: Self = Self(
        Self::PROTOCOL_41.0
            | Self::TRANSACTIONS.0
            | Self::SESSION_TRACK.0
            | Self::DEPRECATE_EOF.0
            | Self::OF_BEHAVIOR.0
            | Self::OF_LOGIN.0,
    );

    /// Flags from their 32 bits.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The 32 bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// True if all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Flags to offer a client whose server has these. Compression, optional metadata, and flags that are not known
    /// here are never offered.
    #[must_use]
    pub fn offered(self) -> Self {
        (self & (Self::OF_PACKETS | Self::OF_BEHAVIOR)) | Self::OF_LOGIN
    }

    /// Flags to offer a client of this machine, whose connection has no TLS.
    #[must_use]
    pub fn offered_in_clear(self) -> Self {
        Self(self.offered().0 & !Self::SSL.0)
    }

    /// True if a client with these can be asked for its token.
    pub fn suffice_for_a_client(self) -> bool {
        self.contains(Self::OF_EVERY_CLIENT)
    }

    /// True if a server with these can be asked for a login over TLS.
    pub fn suffice_for_a_server(self) -> bool {
        self.contains(Self::OF_EVERY_SERVER)
    }

    /// True if a session negotiated with these flags works on a server with the flags `of_server`.
    pub fn fit(self, of_server: Self) -> bool {
        of_server.contains(self & Self::OF_PACKETS)
    }

    /// Flags of a login at a server with the flags `of_server`, for a session negotiated with these. MySQL takes them from
    /// the SSLRequest, when the database is not known yet, and reads a name of no bytes as none.
    #[must_use]
    pub fn for_login(self, of_server: Self) -> Self {
        let session = self & (Self::OF_PACKETS | Self::OF_BEHAVIOR) & of_server;
        let login = Self::PROTOCOL_41
            | Self::SSL
            | Self::SECURE_CONNECTION
            | Self::PLUGIN_AUTH
            | Self::CONNECT_WITH_DB;
        let optional = Self::PLUGIN_AUTH_LENENC | Self::CONNECT_ATTRS;
        // LONG_PASSWORD keeps MariaDB from reading the reserved bytes of the response.
        session | login | (optional & of_server) | Self::LONG_PASSWORD
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities(0x{:08x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What MySQL 9.7.4 and MariaDB 10.11.19 greet with.
    const MYSQL_9: Capabilities = Capabilities(0xdfff_ffff);
    const MARIADB_10: Capabilities = Capabilities(0x81ff_f7fe | 1 << 11);

    #[test]
    fn what_would_change_packets_unseen_is_never_offered() {
        let all = Capabilities(u32::MAX).offered();
        // NO_SCHEMA, COMPRESS, ODBC, RESERVED, CAN_HANDLE_EXPIRED_PASSWORDS, OPTIONAL_RESULTSET_METADATA, ZSTD,
        // MULTI_FACTOR_AUTHENTICATION, bit 29, SSL_VERIFY_SERVER_CERT, REMEMBER_OPTIONS.
        for bit in [4, 5, 6, 12, 14, 22, 25, 26, 28, 29, 30, 31] {
            assert_eq!(all.0 >> bit & 1, 0, "bit {bit}");
        }
        assert!(all.contains(Capabilities::QUERY_ATTRIBUTES | Capabilities::DEPRECATE_EOF));
        assert!(!MARIADB_10.offered().contains(Capabilities::QUERY_ATTRIBUTES));
        assert!(
            MARIADB_10.offered().contains(Capabilities::COMMON)
                && MYSQL_9.offered().contains(Capabilities::COMMON)
        );
        assert!(
            Capabilities(0).offered().contains(Capabilities::OF_LOGIN),
            "each connection has its own login"
        );
        assert!(!Capabilities::COMMON.contains(Capabilities::QUERY_ATTRIBUTES));
    }

    #[test]
    fn both_connections_have_the_same_packets() {
        let client = Capabilities(u32::MAX) & MYSQL_9.offered();
        assert!(client.fit(MYSQL_9) && !client.fit(MARIADB_10), "MariaDB has no query attributes");
        let client = Capabilities(u32::MAX) & MARIADB_10.offered();
        assert!(client.fit(MARIADB_10) && client.fit(MYSQL_9));
        let login = client.for_login(MYSQL_9);
        assert!(!login.contains(Capabilities::QUERY_ATTRIBUTES));
        assert!(
            login.contains(Capabilities::SSL | Capabilities::LONG_PASSWORD | Capabilities::CONNECT_ATTRS)
        );
        assert!(client.for_login(MARIADB_10).contains(Capabilities::CONNECT_WITH_DB));
        let plain = Capabilities::OF_EVERY_CLIENT.for_login(MYSQL_9);
        assert!(!plain.contains(Capabilities::DEPRECATE_EOF) && !plain.contains(Capabilities::LOCAL_FILES));
        assert!(plain.contains(Capabilities::PROTOCOL_41 | Capabilities::CONNECT_WITH_DB));
    }

    #[test]
    fn old_peers_are_recognized() {
        assert!(Capabilities::OF_EVERY_CLIENT.suffice_for_a_client());
        assert!(MYSQL_9.suffice_for_a_server() && MARIADB_10.suffice_for_a_server());
        for lacking in [Capabilities::PROTOCOL_41, Capabilities::SECURE_CONNECTION, Capabilities::PLUGIN_AUTH]
        {
            let rest = Capabilities(!lacking.0);
            assert!(!rest.suffice_for_a_client() && !rest.suffice_for_a_server(), "{lacking:?}");
        }
        assert!(!Capabilities(!Capabilities::SSL.0).suffice_for_a_server());
    }
}
