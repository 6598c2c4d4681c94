//! The answer to the password question: one message, read exactly, or no token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::postgres::token_method::TokenMethod;
use pgpassport::postgres::negotiate::{FirstPacket, negotiate};
use pgpassport_fuzz::{Scripted, acceptor, run};

const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0alice\0\0";

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, answer)) = data.split_first() else { return };
    let bytes = [STARTUP, answer].concat();
    let mut peer = Scripted::new(&bytes, cuts);
    let token = run(async {
        let first = negotiate(&mut peer, Some(&acceptor()), true, || {}).await;
        let Ok(FirstPacket::Login(mut client)) = first else { panic!("not a login") };
        client.ask_token(&TokenMethod::Password).await
    });
    assert_eq!(peer.written, b"R\0\0\0\x08\0\0\0\x03");
    if let Ok(token) = token {
        let token = token.expose();
        assert!(!token.is_empty() && !token.contains(&0) && token.len() < 65_535);
        let length = u32::try_from(token.len() + 5).expect("a short token").to_be_bytes();
        let message = [b"p", &length[..], token, b"\0"].concat();
        assert!(answer.starts_with(&message));
        assert_eq!(peer.read, STARTUP.len() + message.len(), "what stands behind belongs to the relay");
    }
});
