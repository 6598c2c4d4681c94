//! The `HandshakeResponse` of a MySQL client: strict, bounded, and said again to the server with the same meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::mysql::capabilities::Capabilities;
use pgpassport::mysql::login_request::{LoginParameters, NamedAttributes};
use pgpassport::mysql::question::early_token;
use pgpassport::mysql::response::ClientStartup;
use pgpassport::mysql::{greeting::ServerIdentity, limits};

/// Length of the part before the user name.
const HEAD: usize = 32;

fuzz_target!(|data: &[u8]| {
    let Some((&form, payload)) = data.split_first() else { return };
    let all = Capabilities::from_bits(u32::MAX);
    let offered = if form % 2 == 0 { all.offered() } else { ServerIdentity::default().capabilities };
    let Ok((startup, early)) = ClientStartup::parse(payload, offered) else { return };
    assert!(startup.user().len() <= limits::MAX_REQUESTED_NAME && !startup.user().contains('\0'));
    assert!(startup.database().is_none_or(|name| !name.is_empty() && !name.contains('\0')));
    startup.application();

    if let Some(Ok(token)) = early.and_then(early_token) {
        let token = token.expose();
        assert!(!token.is_empty() && payload.windows(token.len()).any(|part| part == token));
    }

    // The response to the server has the same user, database, and attributes, and no password.
    let none = NamedAttributes::default();
    let wanted = LoginParameters::ungranted(startup.user(), startup.database(), &startup, &none);
    let said = wanted.response(all);
    let (again, early) = ClientStartup::parse(&said, all).expect("the proxy's own response");
    assert!(early.is_none());
    assert_eq!((again.user(), again.database()), (startup.user(), startup.database()));
    let wishes = |startup: &ClientStartup| startup.wishes(startup.database())[HEAD..].to_vec();
    assert_eq!(wishes(&again), wishes(&startup));
    let flags = Capabilities::from_bits(u32::from_le_bytes(*said.first_chunk().expect("flags")));
    assert!(flags.contains(Capabilities::SSL | Capabilities::LONG_PASSWORD));
    let packets = Capabilities::DEPRECATE_EOF | Capabilities::SESSION_TRACK | Capabilities::QUERY_ATTRIBUTES;
    let asked = Capabilities::from_bits(u32::from_le_bytes(*payload.first_chunk().expect("flags")));
    assert_eq!(flags & packets, asked & packets & offered, "both connections have the same packets");

    let mut kept = startup.clone();
    kept.forget_process();
    assert!(kept.wishes(None).len() <= startup.wishes(None).len());
});
