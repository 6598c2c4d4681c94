//! The exchange of RFC 7677, and what differs from it.

use tokio::io::duplex;

use super::*;

/// Section 3 of RFC 7677: user "user", password "pencil".
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                           p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_SIGNATURE: &str = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn verifier(password: &str) -> ScramVerifier {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    ScramVerifier::derive(password.as_bytes(), salt.try_into().unwrap())
}

#[test]
fn the_exchange_of_the_standard_is_reproduced() {
    let verifier = verifier("pencil");
    let exchange = Exchange::begin(CLIENT_FIRST, SERVER_NONCE, &verifier).unwrap();
    assert_eq!(exchange.server_first, SERVER_FIRST);
    assert_eq!(STANDARD.encode(exchange.finish(CLIENT_LAST, &verifier).unwrap()), SERVER_SIGNATURE);
}

#[test]
fn another_password_nonce_header_or_proof_is_refused() {
    let right = verifier("pencil");
    let exchange = Exchange::begin(CLIENT_FIRST, SERVER_NONCE, &right).unwrap();
    assert!(exchange.finish(CLIENT_LAST, &verifier("pencil ")).is_none());
    for (from, to) in [
        ("c=biws", "c=eSws"),         // a header that was not sent
        ("r=rOpr", "r=xOpr"),         // a replayed exchange
        ("p=dHzb", "p=eHzb"),         // a forged proof
        ("AndVQ=", "AndVQ"),          // no base64
        (",p=", ",x=1,p="),           // an extension that was not agreed on
        ("p=dHzbZapWIk4jUhN+", "p="), // a short proof
    ] {
        assert!(CLIENT_LAST.contains(from));
        assert!(exchange.finish(&CLIENT_LAST.replace(from, to), &right).is_none(), "{from}");
    }
    let other = Exchange::begin(CLIENT_FIRST, "another nonce of ours", &right).unwrap();
    assert!(other.finish(CLIENT_LAST, &right).is_none());
}

#[test]
fn only_plain_first_messages_are_taken() {
    let begins = |first: &str| Exchange::begin(first, SERVER_NONCE, &verifier("pencil")).is_some();
    assert!(begins("n,,n=,r=12345678") && begins("y,,n=,r=12345678"));
    for bad in [
        "",
        "n,,",
        "p=tls-server-end-point,,n=,r=12345678", // channel binding is not offered
        "n,a=admin,n=,r=12345678",               // another identity
        "n,,m=ext,n=,r=12345678",                // a mandatory extension
        "n,,n=,r=1234567",
        "n,,n=",
        "n,,r=12345678,n=",
    ] {
        assert!(!begins(bad), "{bad}");
    }
}

#[tokio::test]
async fn other_mechanisms_and_messages_end_the_exchange() {
    let initial = |mechanism: &[u8], length: u32, first: &[u8]| {
        [mechanism, b"\0", &length.to_be_bytes(), first].concat()
    };
    for (tag, body) in [
        (b'p', initial(b"SCRAM-SHA-256-PLUS", 16, b"n,,n=,r=12345678")),
        (b'p', initial(b"SCRAM-SHA-256", 17, b"n,,n=,r=12345678")),
        (b'p', initial(b"SCRAM-SHA-256", u32::MAX, b"")),
        (b'p', b"a clear password\0".to_vec()),
        (b'Q', initial(b"SCRAM-SHA-256", 16, b"n,,n=,r=12345678")),
    ] {
        let (mut ours, mut theirs) = duplex(4_096);
        theirs.write_all(&message(tag, &body)).await.unwrap();
        assert!(matches!(verifier("pencil").ask(&mut ours).await, Err(ScramFault::Wrong)), "{body:?}");
        drop(ours);
        let offer = read(&mut theirs, 100).await.unwrap();
        assert_eq!(offer.body, b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        assert!(read(&mut theirs, 100).await.is_err(), "nothing follows");
    }
    let (mut ours, mut theirs) = duplex(4_096);
    theirs.write_all(b"p\0\x01\0\0").await.unwrap();
    assert!(matches!(verifier("pencil").ask(&mut ours).await, Err(ScramFault::Closed)), "a long message");
}
