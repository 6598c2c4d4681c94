//! First bytes from a balancer's network: a header, read exactly, or the end.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use pgpassport::net::proxy_protocol::{ClientOrigin, origin};
use pgpassport_fuzz::{Scripted, run};

fn see(bytes: &[u8], cuts: u8, peer: &str) -> (Result<ClientOrigin, String>, usize) {
    let mut stream = Scripted::new(bytes, cuts);
    let networks = ["10.0.0.0/8".parse().expect("a network")];
    let peer = peer.parse::<SocketAddr>().expect("an address").into();
    let origin = run(origin(&mut stream, peer, &networks)).map_err(|why| why.to_string());
    (origin, stream.read)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, bytes)) = data.split_first() else { return };
    let (origin, read) = see(bytes, cuts, "10.0.0.7:1");
    assert_eq!(origin, see(bytes, 0, "10.0.0.7:1").0);
    assert!(read <= 536);
    if let Ok(origin) = origin {
        assert!(origin.via().is_some() && !origin.is_loopback());
        assert!(bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
        assert_eq!(read, 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]])));
    }
    let (origin, read) = see(bytes, cuts, "192.0.2.1:1");
    assert_eq!((origin.map(|origin| origin.via()), read), (Ok(None), 0));
});
