//! The answers of a client that is asked for its token by OAUTHBEARER: a token said once, or none.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pgpassport::postgres::client::TokenError;
use pgpassport::postgres::token_method::TokenMethod;
use pgpassport::postgres::negotiate::{FirstPacket, negotiate};
use pgpassport::postgres::oauthbearer::{BearerError, Discovery};
use pgpassport_fuzz::{Scripted, acceptor, run};

const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0alice\0\0";
const OFFER: &[u8] = b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0";
/// AuthenticationSASLContinue without data: the client is asked for its first message.
const GO_ON: &[u8] = b"R\0\0\0\x08\0\0\0\x0b";

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, answers)) = data.split_first() else { return };
    let bytes = [STARTUP, answers].concat();
    let mut peer = Scripted::new(&bytes, cuts);
    let discovery = Discovery::new("https://idp.example", "openid").expect("a short one");
    let told = run(async {
        let first = negotiate(&mut peer, Some(&acceptor()), true, || {}).await;
        let Ok(FirstPacket::Login(mut client)) = first else { panic!("not a login") };
        client.ask_token(&TokenMethod::OAuthBearer(Arc::new(discovery))).await
    });
    let said = peer.written.strip_prefix(OFFER).expect("the offer");
    let said = said.strip_prefix(GO_ON).unwrap_or(said);
    match told {
        Ok(token) => {
            assert!(said.is_empty(), "success has no message of its own");
            let token = token.expose();
            assert!(!token.is_empty() && token.iter().all(u8::is_ascii_graphic));
            // The token is the end of the one auth value, and its message the last that was read.
            let read = &bytes[..peer.read];
            let end = [token, b"\x01"].concat();
            assert!(read.ends_with(b"\x01\x01") && read.windows(end.len()).any(|part| part == end));
        }
        Err(TokenError::Bearer(BearerError::Discovery)) => assert!(!said.is_empty(), "asked, not answered"),
        Err(_) => {}
    }
});
