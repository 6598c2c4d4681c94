//! The first packets of a client: the same however they are cut, taken exactly, and never repaired.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::postgres::negotiate::{FirstPacket, negotiate};
use pgpassport::postgres::options;
use pgpassport::postgres::startup::{StartupError, StartupParams};
use pgpassport::protocol::NegotiationError;
use pgpassport_fuzz::{Scripted, acceptor, run};

/// Kind of a peer, as far as it must not depend on the pieces of its bytes.
#[derive(Debug, PartialEq)]
enum Seen {
    Login(StartupParams),
    Cancel(i32, Vec<u8>),
    Unfit(StartupError),
    NoTls,
    Dropped(String),
}

fn see(bytes: &[u8], cuts: u8, plaintext: bool) -> Seen {
    let mut peer = Scripted::new(bytes, cuts);
    let seen = match run(negotiate(&mut peer, Some(&acceptor()), plaintext, || {})) {
        Ok(FirstPacket::Login(pending)) => Seen::Login(pending.startup().clone()),
        Ok(FirstPacket::Cancel(_, key)) => Seen::Cancel(key.pid, key.secret.to_vec()),
        Ok(FirstPacket::Rejected(_, why)) => Seen::Unfit(why),
        Err(NegotiationError::PreTlsBytes | NegotiationError::Tls(_) | NegotiationError::NoAlpn(_)) => {
            Seen::NoTls
        }
        Err(why) => Seen::Dropped(why.to_string()),
    };
    // A head of four bytes with a length, after at most one GSSENCRequest, says how much may be read.
    let asked = bytes.starts_with(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]);
    let packet = if asked { &bytes[8..] } else { bytes };
    if matches!(seen, Seen::Login(_) | Seen::Unfit(_) | Seen::Cancel(..)) {
        let length = u32::from_be_bytes(*packet.first_chunk().expect("a length was read"));
        assert_eq!(peer.read, bytes.len() - packet.len() + length as usize);
        assert_eq!(peer.written, if asked { &b"N"[..] } else { b"" });
    }
    seen
}

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, bytes)) = data.split_first() else { return };
    if let Ok(params) = StartupParams::parse(bytes) {
        assert!(!params.user().is_empty() && !params.user().contains('\0'));
        for (name, value) in params.others() {
            assert!(!name.is_empty() && !name.contains(&0) && !value.contains(&0));
            options::settings(value);
        }
        // Said again in our order it is the same.
        let mut again = bytes[..4].to_vec();
        let mut say = |name: &[u8], value: &[u8]| again.extend([name, &b"\0"[..], value, b"\0"].concat());
        say(b"user", params.user().as_bytes());
        params.database().inspect(|database| say(b"database", database.as_bytes()));
        params.others().iter().for_each(|(name, value)| say(name, value));
        params.unmet().unwrap_or_default().iter().for_each(|name| say(name.as_bytes(), b""));
        again.push(0);
        assert_eq!(StartupParams::parse(&again).as_ref(), Ok(&params));
    }
    options::settings(bytes);
    let seen = see(bytes, cuts, true);
    assert_eq!(seen, see(bytes, 0, true));
    let strict = see(bytes, cuts, false);
    assert!(!matches!(strict, Seen::Login(_)), "a login in clear");
});
