//! A database server at the login: whatever it says, the token is only said in answer to a cleartext question,
//! and what is read and kept has limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::names::{DbName, DbUser};
use pgpassport::postgres::limits;
use pgpassport::postgres::server_login::{LoginParameters, exchange};
use pgpassport::postgres::startup::StartupParams;
use pgpassport::secret::IamToken;
use pgpassport_fuzz::{Scripted, run};

const PACKET: &[u8] = b"\0\0\0\x21\0\x03\0\0user\0alice\0database\0app\0\0";
const PACKET_3_2: &[u8] = b"\0\0\0\x21\0\x03\0\x02user\0alice\0database\0app\0\0";
const PASSWORD: &[u8] = b"p\0\0\0\x0bsecret\0";

/// True if the first message that is no notice, and no negotiation of the version, asks for a cleartext password.
fn asks_for_it(mut says: &[u8], newest: bool) -> bool {
    while let Some((head, body)) = says.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(end) = length.checked_sub(4).filter(|end| *end <= body.len()) else { return false };
        let (body, rest) = body.split_at(end);
        if head[0] != b'N' && !(newest && head[0] == b'v') {
            return head[0] == b'R' && body.starts_with(&[0, 0, 0, 3]);
        }
        says = rest;
    }
    false
}

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, says)) = data.split_first() else { return };
    let newest = cuts >= 0x80;
    let (asked, packet): (&[u8], _) = if newest {
        (b"\0\x03\0\x02user\0someone\0\0", PACKET_3_2)
    } else {
        (b"\0\x03\0\0user\0someone\0\0", PACKET)
    };
    let startup = StartupParams::parse(asked).expect("a good packet");
    let (user, database) = (DbUser::parse("alice").expect("a name"), DbName::parse("app").expect("a name"));
    let wanted = LoginParameters::ungranted(&user, &database, &startup);
    let mut server = Scripted::new(says, cuts);
    let result = run(exchange(&mut server, wanted, IamToken::new("secret".to_owned())));
    assert!(server.read <= limits::MAX_LOGIN_BYTES + limits::MAX_LOGIN_MESSAGE + 5);
    let told = server.written.strip_prefix(packet).expect("the startup packet comes first");
    assert!(told.is_empty() || (told == PASSWORD && asks_for_it(says, newest)), "{told:?}");
    if let Ok(said) = result {
        assert_eq!(told, PASSWORD);
        assert!(said.greeting.messages.len() <= limits::MAX_LOGIN_BYTES);
        // ReadyForQuery is the last message that is read; what stands behind belongs to the relay.
        let ready = &says[server.read - 6..server.read];
        assert!(ready.starts_with(b"Z\0\0\0\x05") && b"ITE".contains(&ready[5]), "{ready:?}");
    }
});
