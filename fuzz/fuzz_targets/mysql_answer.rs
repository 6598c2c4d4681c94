//! The answer of a MySQL client to the request for its token: one packet, read exactly, or no token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::mysql::limits;
use pgpassport::mysql::packet::Sequence;
use pgpassport::mysql::question::{TokenMethod, ask};
use pgpassport_fuzz::{Scripted, mysql_header, mysql_packet, run};

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, answer)) = data.split_first() else { return };
    let (method, plugin) = if cuts < 0x80 {
        (TokenMethod::Password, "mysql_clear_password")
    } else {
        (TokenMethod::OpenId, "authentication_openid_connect_client")
    };
    let mut client = Scripted::new(answer, cuts);
    let mut sequence = Sequence::default();
    sequence.skip();
    let token = run(ask(&mut client, &mut sequence, method));
    assert_eq!(client.written, mysql_packet(1, &[b"\xfe", plugin.as_bytes(), b"\0"].concat()));
    assert!(client.read <= 4 + limits::MAX_ANSWER);
    let Ok(token) = token else { return };
    let (length, number) = mysql_header(answer).expect("a header");
    assert_eq!((client.read, number), (4 + length, 2), "what stands behind belongs to the relay");
    let (token, payload) = (token.expose(), &answer[4..4 + length]);
    assert!(!token.is_empty());
    match method {
        TokenMethod::Password => {
            assert!(!token.contains(&0));
            assert!(payload == token || payload == [token, b"\0"].concat());
        }
        TokenMethod::OpenId => {
            let (_, rest) = payload.split_at(payload.len() - token.len());
            assert!(payload[0] == 1 && rest == token);
            let marks = payload.len() - token.len() - 1;
            assert!([1, 3, 4, 9].contains(&marks), "one length");
        }
    }
});
