//! The codec against `mysql_common`, an independent one: each reads what the other writes, and both read the same.

use std::collections::HashMap;

use mysql_common::constants::{CapabilityFlags, StatusFlags};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, CommonOkPacket, ErrPacket, HandshakePacket, HandshakeResponse,
    OkPacketDeserializer, ServerError as TheirError, SqlState, SslRequest,
};
use mysql_common::proto::{MyDeserialize, MySerialize};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::capabilities::Capabilities;
use super::error_packet::{RefusedLogin, encode};
use super::greeting::{GREETING_PLUGIN, ServerGreeting, ServerIdentity};
use super::login_request::{LoginParameters, NamedAttributes};
use super::packet::{HEADER, Packet, Sequence};
use super::question::{self, TokenMethod};
use super::response::ClientStartup;
use super::server_error::{LoginStep, ServerError};
use super::server_login::{ok_status, plugin_of};
use crate::names::SessionId;
use crate::refusal::{Refusal, Stage};

fn written(packet: &impl MySerialize) -> Vec<u8> {
    let mut out = Vec::new();
    packet.serialize(&mut out);
    out
}

fn read<'de, T: MyDeserialize<'de>>(context: T::Ctx, payload: &'de [u8]) -> T {
    let mut rest = ParseBuf(payload);
    let packet = T::deserialize(context, &mut rest).unwrap();
    assert!(rest.0.is_empty(), "{} bytes are left", rest.0.len());
    packet
}

/// Flags that the other codec knows. Those of MariaDB alone are above.
fn flags(bits: u32) -> CapabilityFlags {
    CapabilityFlags::from_bits_truncate(bits)
}

/// A name without a NUL, in a few alphabets.
const NAME: &str = "[a-zA-Z0-9_.@ \u{e9}\u{4e2d}-]{0,40}";

proptest! {
    #[test]
    fn greetings_of_both(
        version in "[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,3}(-MariaDB|-log|)",
        id in any::<u32>(),
        charset in any::<u8>(),
        bits in any::<u32>(),
        salt in prop::array::uniform8(1_u8..),
    ) {
        // Ours, read by a client.
        let capabilities = Capabilities::from_bits(bits);
        let identity = ServerIdentity { version: version.clone(), charset, capabilities };
        let ours = identity.greeting(id);
        let seen: HandshakePacket<'_> = read((), &ours);
        prop_assert_eq!((seen.protocol_version(), seen.connection_id()), (10, id));
        prop_assert_eq!(seen.server_version_str(), version.as_str());
        prop_assert_eq!(seen.capabilities().bits(), capabilities.offered().bits());
        prop_assert_eq!((seen.default_collation(), seen.status_flags()), (charset, StatusFlags::SERVER_STATUS_AUTOCOMMIT));
        prop_assert_eq!(seen.auth_plugin_name_ref(), Some(GREETING_PLUGIN.as_bytes()));
        prop_assert_eq!(seen.nonce().len(), 20);
        prop_assert_eq!(seen.scramble_2_ref().and_then(<[u8]>::last), Some(&0));

        // A server's, read by us.
        let needed = CapabilityFlags::CLIENT_PLUGIN_AUTH | CapabilityFlags::CLIENT_SECURE_CONNECTION;
        let theirs = written(&HandshakePacket::new(
            10, version.as_bytes(), id, salt, Some(&b"ijklmnopqrst\0"[..]), flags(bits) | needed, charset,
            StatusFlags::SERVER_STATUS_AUTOCOMMIT, Some(&b"mysql_native_password\0"[..]),
        ));
        let seen = ServerGreeting::parse(&theirs).unwrap();
        prop_assert_eq!((seen.connection_id, seen.identity.charset), (id, charset));
        prop_assert_eq!(seen.identity.version, version);
        prop_assert_eq!(seen.identity.capabilities.bits(), (flags(bits) | needed).bits());
    }

    #[test]
    fn responses_of_both(
        user in NAME,
        database in prop::option::of("[a-z_]{1,20}"),
        data in prop::collection::vec(1_u8.., 0..300),
        bits in any::<u32>(),
        attributes in prop::collection::hash_map("[a-z_]{1,20}", NAME, 0..6),
        max_packet in any::<u32>(),
    ) {
        // A client's, read by us.
        let needed = CapabilityFlags::CLIENT_PROTOCOL_41 | CapabilityFlags::CLIENT_SECURE_CONNECTION;
        let long = CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
        let sent = flags(bits) | needed | if data.len() > 250 { long } else { CapabilityFlags::empty() };
        let response = HandshakeResponse::new(
            Some(&data[..]), (8, 0, 39), Some(user.as_bytes()), database.as_deref().map(str::as_bytes),
            Some(AuthPlugin::MysqlClearPassword), sent, Some(attributes.clone()), max_packet,
        );
        let all = Capabilities::from_bits(u32::MAX);
        let (startup, early) = ClientStartup::parse(&written(&response), all.offered()).unwrap();
        prop_assert_eq!((startup.user(), startup.database()), (user.as_str(), database.as_deref()));
        prop_assert_eq!((startup.features.max_packet, startup.features.charset), (max_packet, response.collation()));
        prop_assert_eq!(startup.features.capabilities.bits(), response.capabilities().bits() & all.offered().bits());
        let seen: HashMap<String, String> = startup.attributes.iter()
            .map(|(name, value)| [name, value].map(|text| String::from_utf8(text.clone()).unwrap()))
            .map(|[name, value]| (name, value)).collect();
        prop_assert_eq!(&seen, &attributes);
        match early {
            Some(early) => {
                prop_assert_eq!((&early.plugin[..], &early.data[..]), (&b"mysql_clear_password"[..], &data[..]));
            }
            None => prop_assert!(data.is_empty()),
        }

        // Ours, read by a server.
        let none = NamedAttributes::default();
        let wanted = LoginParameters { user: &user, database: database.as_deref(), startup: &startup, attributes: &none };
        let sent = wanted.response(all);
        let seen: HandshakeResponse<'_> = read((), &sent);
        prop_assert_eq!((seen.user(), seen.scramble_buf()), (user.as_bytes(), &b""[..]));
        prop_assert_eq!(seen.db_name(), Some(database.as_deref().unwrap_or_default().as_bytes()));
        prop_assert_eq!(seen.auth_plugin(), Some(&AuthPlugin::Other(b"pgpassport"[..].into())));
        prop_assert_eq!(seen.connect_attributes(), Some(attributes));
        prop_assert_eq!(seen.collation(), startup.features.charset);
        let asked = startup.features.ssl_request(all);
        let asked: SslRequest = read((), &asked);
        prop_assert_eq!(asked.capabilities(), seen.capabilities());
        prop_assert_eq!((asked.max_packet_size(), u32::from(asked.character_set())), (max_packet, u32::from(seen.collation())));
    }

    #[test]
    fn questions_of_both(plugin in "[a-z0-9_]{1,40}", data in prop::collection::vec(any::<u8>(), 0..40)) {
        let theirs = written(&AuthSwitchRequest::new(plugin.as_bytes(), &data[..]));
        prop_assert_eq!(plugin_of(&Packet { sequence: 3, payload: theirs }), plugin);
    }

    #[test]
    fn errors_of_both(
        errno in any::<u16>(),
        state in "[0-9A-Z]{5}",
        text in "[ -~]{0,300}",
        detail in ".{0,300}",
    ) {
        let session = SessionId::parse("5c2f0a9be1d3477a").unwrap();
        let login = RefusedLogin { user: "alice", token_method: TokenMethod::Password };
        let ours = encode(&Refusal::authentication(Stage::Token, &detail), login, session, 3);
        let seen: ErrPacket<'_> = read(CapabilityFlags::CLIENT_PROTOCOL_41, &ours[HEADER..]);
        let seen = seen.server_error();
        prop_assert_eq!((seen.error_code(), seen.sql_state_ref().unwrap().as_bytes()), (1045, *b"28000"));
        prop_assert!(seen.message_str().starts_with("Access denied for user 'alice': stage token: "));

        let state = format!("4{}", &state[1..]);
        let of_server = SqlState::new(state.as_bytes().try_into().unwrap());
        let theirs = written(&ErrPacket::Error(TheirError::new(errno, Some(of_server), text.as_bytes())));
        let seen = ServerError::parse(&theirs, LoginStep::Token).unwrap();
        prop_assert_eq!((seen.errno, seen.sqlstate.as_str()), (errno, state.as_str()));
        prop_assert_eq!(seen.message, text.trim());
    }

    /// Our codec reads the same status as mysql_common from each OK packet that mysql_common accepts.
    #[test]
    fn the_status_of_an_ok(payload in prop::collection::vec(any::<u8>(), 0..40), small in any::<bool>()) {
        let mut payload = payload;
        if small {
            payload.iter_mut().take(3).for_each(|byte| *byte %= 0xfb);
        }
        payload.insert(0, 0);
        let mut rest = ParseBuf(&payload);
        let flags = CapabilityFlags::CLIENT_PROTOCOL_41;
        if let Ok(theirs) = OkPacketDeserializer::<CommonOkPacket>::deserialize(flags, &mut rest) {
            let theirs = theirs.into_inner().status_flags();
            let ours = ok_status(&payload);
            prop_assert_eq!(ours.map(StatusFlags::from_bits_truncate), Some(theirs));
        }
    }
}

#[tokio::test]
async fn our_questions_are_those_of_a_server() {
    for (method, plugin) in [
        (TokenMethod::Password, AuthPlugin::MysqlClearPassword),
        (TokenMethod::OpenId, AuthPlugin::Other(b"authentication_openid_connect_client"[..].into())),
    ] {
        let (mut ours, mut theirs) = duplex(1 << 10);
        let client = tokio::spawn(async move {
            let mut header = [0; HEADER];
            theirs.read_exact(&mut header).await.unwrap();
            let mut payload = vec![0; usize::from(header[0])];
            theirs.read_exact(&mut payload).await.unwrap();
            theirs.write_all(b"\x02\0\0\x01x\0").await.unwrap();
            payload
        });
        let _ = question::ask(&mut ours, &mut Sequence::default(), method).await;
        let payload = client.await.unwrap();
        let seen: AuthSwitchRequest<'_> = read((), &payload);
        assert_eq!((seen.auth_plugin(), seen.plugin_data()), (plugin, &b""[..]));
    }
}
