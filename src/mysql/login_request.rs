//! The `HandshakeResponse` that the proxy sends to a server (MySQL Internals, "`Protocol::HandshakeResponse41`"), and its
//! beginning, the SSLRequest.

use super::capabilities::Capabilities;
use super::packet::put_with_length;
use super::response::{ClientFeatures, ClientStartup};
use crate::names::SessionId;

/// Plugin name of a login at a server. No server has a plugin of this name, so each asks again with the plugin of the
/// user.
const NO_PLUGIN: &[u8] = b"pgpassport";

/// Connection attributes of the proxy. They join the server's list of sessions with the audit record.
#[derive(Clone, Debug, Default)]
pub struct NamedAttributes(Vec<(&'static str, String)>);

impl NamedAttributes {
    /// Name of the attribute with the connection id that a session's client has.
    pub(super) const CONNECTION_ID: &str = "_pgpassport_id";

    /// The attributes of a session: its id, and the connection id that its client has.
    pub fn of(session: SessionId, connection_id: u32) -> Self {
        Self(vec![
            ("_pgpassport_session", session.to_string()),
            (Self::CONNECTION_ID, connection_id.to_string()),
        ])
    }

    /// True if the server's list of sessions does not show the attributes.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A login at a server: user and database of the grant, the rest from the client.
#[derive(Clone, Copy, Debug)]
pub struct LoginParameters<'a> {
    pub(super) user: &'a str,
    pub(super) database: Option<&'a str>,
    pub(super) startup: &'a ClientStartup,
    pub(super) attributes: &'a NamedAttributes,
}

impl<'a> LoginParameters<'a> {
    /// A login without a grant: at a proxy, or in a fuzz target.
    pub fn ungranted(
        user: &'a str,
        database: Option<&'a str>,
        startup: &'a ClientStartup,
        attributes: &'a NamedAttributes,
    ) -> Self {
        Self { user, database, startup, attributes }
    }

    /// Payload of the `HandshakeResponse`, without a password and with a plugin that no server has.
    pub fn response(&self, of_server: Capabilities) -> Vec<u8> {
        let features = self.startup.features.at(of_server);
        let mut out = features.head();
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(&[0, 0]); // end of the name; data of length 0 in both forms
        out.extend_from_slice(self.database.unwrap_or_default().as_bytes());
        out.push(0);
        out.extend_from_slice(NO_PLUGIN);
        out.push(0);
        if features.capabilities.contains(Capabilities::CONNECT_ATTRS) {
            let mut attributes = Vec::new();
            for (name, value) in &self.startup.attributes {
                put_with_length(name, &mut attributes);
                put_with_length(value, &mut attributes);
            }
            for (name, value) in &self.attributes.0 {
                put_with_length(name.as_bytes(), &mut attributes);
                put_with_length(value.as_bytes(), &mut attributes);
            }
            put_with_length(&attributes, &mut out);
        }
        out
    }
}

impl ClientFeatures {
    /// The features of a login at a server with these flags.
    fn at(self, of_server: Capabilities) -> Self {
        Self { capabilities: self.capabilities.for_login(of_server), ..self }
    }

    /// Payload of the SSLRequest at a server with these flags.
    pub fn ssl_request(self, of_server: Capabilities) -> Vec<u8> {
        self.at(of_server).head()
    }

    /// The beginning of a `HandshakeResponse`, which alone is an SSLRequest.
    pub(super) fn head(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&self.capabilities.bits().to_le_bytes());
        out.extend_from_slice(&self.max_packet.to_le_bytes());
        out.push(self.charset);
        out.extend_from_slice(&[0; 23]);
        out
    }
}

impl ClientStartup {
    /// All that a server learns at a login with this database and cannot change later.
    pub fn wishes(&self, database: Option<&str>) -> Vec<u8> {
        let mut out = self.features.head();
        put_with_length(database.unwrap_or_default().as_bytes(), &mut out);
        out.push(u8::from(database.is_some()));
        for (name, value) in &self.attributes {
            put_with_length(name, &mut out);
            put_with_length(value, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::response::SSL_REQUEST_LENGTH;
    use crate::mysql::response::tests::with_attributes;

    const ALL: Capabilities = Capabilities::COMMON;

    #[test]
    fn a_server_is_asked_with_the_granted_names_and_without_a_password() {
        let attributes = b"\x0cprogram_name\x05mysql";
        let (startup, _) = ClientStartup::parse(&with_attributes(attributes), ALL).unwrap();
        let ours = NamedAttributes::of(SessionId::parse("5c2f0a9be1d3477a").unwrap(), 0x4000_0000);
        let wanted =
            LoginParameters { user: "bob", database: Some("shop"), startup: &startup, attributes: &ours };
        let server = Capabilities::from_bits(0xdfff_ffff);
        let sent = wanted.response(server);
        assert_eq!(
            startup.features.ssl_request(server),
            sent[..SSL_REQUEST_LENGTH],
            "MySQL reads only the first one"
        );
        let (read, early) = ClientStartup::parse(&sent, server.offered()).unwrap();
        assert_eq!((read.user(), read.database(), early.is_none()), ("bob", Some("shop"), true));
        assert_eq!((read.features.max_packet, read.features.charset), (1 << 24, 45));
        assert_eq!(read.attributes, startup.attributes, "and ours, which are dropped at reading");
        assert!(
            sent.ends_with(b"\x13_pgpassport_session\x105c2f0a9be1d3477a\x0e_pgpassport_id\x0a1073741824")
        );
        let alone = LoginParameters { database: None, attributes: &NamedAttributes::default(), ..wanted };
        let old = Capabilities::from_bits(0xdfff_ffff & !Capabilities::CONNECT_ATTRS.bits());
        assert!(alone.response(old).ends_with(b"bob\0\0\0pgpassport\0"));
    }

    #[test]
    fn wishes_differ_with_all_that_the_server_cannot_change() {
        let startup = |attributes: &[u8]| ClientStartup::parse(&with_attributes(attributes), ALL).unwrap().0;
        let mysql = startup(b"\x04_pid\x011");
        assert_eq!(mysql.wishes(Some("app")), startup(b"\x04_pid\x011").wishes(Some("app")));
        let mut charset = mysql.clone();
        charset.features.charset = 8;
        let mut flags = mysql.clone();
        flags.features.capabilities = Capabilities::from_bits(0);
        let others = [startup(b"\x04_pid\x012"), charset, flags].map(|startup| startup.wishes(Some("app")));
        let others = others.into_iter().chain([mysql.wishes(Some("other")), mysql.wishes(None)]);
        assert!(others.chain([mysql.wishes(Some(""))]).all(|other| other != mysql.wishes(Some("app"))));
        assert_ne!(mysql.wishes(None), mysql.wishes(Some("")));
    }
}
