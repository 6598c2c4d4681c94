//! A MySQL server at the login: whatever it says, the token is only said in answer to a request for
//! `mysql_clear_password`, and what is read and kept has limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::mysql::capabilities::Capabilities;
use pgpassport::mysql::greeting::{ServerGreeting, ServerIdentity};
use pgpassport::mysql::limits;
use pgpassport::mysql::login_request::{LoginParameters, NamedAttributes};
use pgpassport::mysql::packet::Sequence;
use pgpassport::mysql::response::ClientStartup;
use pgpassport::mysql::server_login::log_in;
use pgpassport::secret::IamToken;
use pgpassport_fuzz::{Scripted, mysql_header, mysql_packet, mysql_response, run};

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, says)) = data.split_first() else { return };
    let flags = Capabilities::COMMON;
    let sent = mysql_response(flags.bits(), &[b"someone\0", b"\0", b"\0", b"p\0", b"\0"]);
    let (startup, _) = ClientStartup::parse(&sent, flags).expect("a good response");
    let identity = ServerIdentity { capabilities: Capabilities::from_bits(u32::MAX), ..Default::default() };
    let greeting = ServerGreeting { connection_id: 1, identity };
    let none = NamedAttributes::default();
    let wanted = LoginParameters::ungranted("alice", Some("app"), &startup, &none);
    let response = mysql_packet(2, &wanted.response(greeting.identity.capabilities));

    let mut server = Scripted::new(says, cuts);
    let (mut sequence, token) = (Sequence::within_tls(), IamToken::new("secret".to_owned()));
    let result = run(log_in(&mut server, &mut sequence, &greeting, wanted, &token));
    assert!(server.read <= 2 * (4 + limits::MAX_LOGIN_PACKET));
    let told = server.written.strip_prefix(&response[..]).expect("the response comes first");
    let question = mysql_header(says).and_then(|(length, number)| Some((says.get(4..4 + length)?, number)));
    let asked = question.is_some_and(|(question, number)| {
        let plugin = question.strip_prefix(b"\xfe").and_then(|rest| rest.split(|byte| *byte == 0).next());
        number == 3 && plugin == Some(b"mysql_clear_password")
    });
    assert_eq!(told, if asked { mysql_packet(4, b"secret\0") } else { Vec::new() });
    match result {
        Ok(reply) => {
            assert!(asked && reply.ok.len() <= limits::MAX_LOGIN_PACKET);
            // The OK is the last packet that is read; what stands behind belongs to the relay.
            assert!(says[..server.read].ends_with(&mysql_packet(5, &reply.ok)));
            assert_eq!((reply.ok.first(), reply.database.as_deref()), (Some(&0), Some("app")));
        }
        Err(why) => {
            let why = why.to_string();
            assert!(!why.contains("secret") && !why.chars().any(char::is_control) && why.len() < 8_192);
        }
    }
});
