//! The greeting of a MySQL server, which arrives in clear: one packet is read, TLS is requested only of a server that
//! offers it, and a greeting that the proxy derives from it says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::mysql::capabilities::Capabilities;
use pgpassport::mysql::greeting::ServerGreeting;
use pgpassport::mysql::limits;
use pgpassport::mysql::response::ClientFeatures;
use pgpassport::mysql::server_login::request_tls;
use pgpassport_fuzz::{Scripted, mysql_header, run};

fn see(bytes: &[u8], cuts: u8) -> (Result<ServerGreeting, String>, usize, Vec<u8>) {
    let mut server = Scripted::new(bytes, cuts);
    let request = |of_server| ClientFeatures::default().ssl_request(of_server);
    let greeting = run(request_tls(&mut server, request));
    (greeting.map(|(greeting, _)| greeting).map_err(|why| why.to_string()), server.read, server.written)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, bytes)) = data.split_first() else { return };
    let seen = see(bytes, cuts);
    assert_eq!((&seen.0, &seen.2), (&see(bytes, 0).0, &see(bytes, 0).2));
    let (greeting, read, written) = seen;
    assert!(read <= 4 + limits::MAX_GREETING);
    let Ok(greeting) = greeting else {
        return assert!(written.is_empty(), "a request without a greeting");
    };
    let (length, number) = mysql_header(bytes).expect("a header");
    assert_eq!((read, number), (4 + length, 0), "what stands behind belongs to TLS");
    let identity = &greeting.identity;
    assert!(
        identity.capabilities.contains(Capabilities::SSL) && identity.capabilities.suffice_for_a_server()
    );
    assert_eq!(mysql_header(&written), Some((32, 1)));
    assert_eq!(written.len(), 36);
    let asked = u32::from_le_bytes(*written[4..].first_chunk().expect("flags"));
    assert_eq!(asked & Capabilities::SSL.bits(), Capabilities::SSL.bits());
    // A flag that changes packets is asked for only where the server has it.
    let packets = Capabilities::DEPRECATE_EOF | Capabilities::SESSION_TRACK | Capabilities::QUERY_ATTRIBUTES;
    assert_eq!(asked & packets.bits() & !identity.capabilities.bits(), 0);

    let ours = ServerGreeting::parse(&identity.greeting(7)).expect("the proxy's own greeting");
    assert_eq!((ours.connection_id, ours.identity.charset), (7, identity.charset));
    assert_eq!(ours.identity.version, identity.version);
    assert_eq!(ours.identity.capabilities, identity.capabilities.offered());
});
