//! Proofs of the local password, right and wrong.

use tokio::io::duplex;

use super::*;
use crate::mysql::capabilities::Capabilities;
use crate::mysql::packet::put_with_length;
use crate::mysql::response::ClientFeatures;

const PASSWORD: &[u8] = b"YkBqP0e9x2mXbVYh1cQ7Zg";

/// The client's side: `Protocol::caching_sha2_password` of the manual.
fn scramble(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once = sha256(&[password]);
    let mask = sha256(&[&sha256(&[&once]), salt]);
    once.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

/// A tool's response with this plugin and answer.
fn response(plugin: &[u8], data: &[u8]) -> Vec<u8> {
    let features = ClientFeatures::default();
    let flags = Capabilities::COMMON.bits()
        & !Capabilities::CONNECT_WITH_DB.bits()
        & !Capabilities::CONNECT_ATTRS.bits();
    let mut out = flags.to_le_bytes().to_vec();
    out.extend(features.max_packet.to_le_bytes());
    out.push(features.charset);
    out.extend([0; 23]);
    out.extend(b"token\0");
    put_with_length(data, &mut out);
    out.extend(plugin);
    out.push(0);
    out
}

/// The salt in a greeting.
fn salt_of(greeting: &[u8]) -> Vec<u8> {
    let version = greeting.iter().skip(1).position(|byte| *byte == 0).unwrap() + 2;
    let first = version + 4;
    [&greeting[first..first + 8], &greeting[first + 8 + 19..first + 8 + 19 + 12]].concat()
}

/// Meets a tool that answers the greeting with `first` and a question with `second`, both made from the salt.
async fn met(
    by_password: bool,
    first: impl Fn(&[u8]) -> Vec<u8>,
    second: impl Fn(&[u8]) -> Vec<u8>,
) -> (Result<ToolLogin, LoginFault>, u8) {
    let (mut ours, mut theirs) = duplex(1 << 16);
    let tool = async {
        let mut sequence = Sequence::default();
        let greeting = sequence.read(&mut theirs, 1_024).await.unwrap().payload.clone();
        let salt = salt_of(&greeting);
        sequence.write(&mut theirs, &first(&salt)).await.unwrap();
        if let Ok(question) = sequence.read(&mut theirs, 1_024).await {
            assert_eq!(question.payload, [b"\xfecaching_sha2_password\0", &salt[..], b"\0"].concat());
            sequence.write(&mut theirs, &second(&salt)).await.unwrap();
        }
    };
    let verifier = Sha2Verifier::derive(PASSWORD);
    let agent = async move {
        let proof = if by_password { ToolProof::Password(Some(&verifier)) } else { ToolProof::SameUser };
        let mut sequence = Sequence::default();
        let result = meet(&mut ours, &mut sequence, (&ServerIdentity::default(), 0x4000_0001), proof).await;
        (result, sequence.next())
    };
    tokio::join!(agent, tool).0
}

const SHA2: &[u8] = b"caching_sha2_password";

#[tokio::test]
async fn the_password_is_proved_at_once_or_after_a_question() {
    let none = |_: &[u8]| Vec::new();
    let (login, next) = met(true, |salt| response(SHA2, &scramble(PASSWORD, salt)), none).await;
    let login = login.unwrap();
    assert_eq!((login.startup.user(), login.awaits_word, next), ("token", true, 2));
    for first in [response(SHA2, b""), response(b"mysql_native_password", &[7; 20])] {
        let (login, next) = met(true, |_| first.clone(), |salt| scramble(PASSWORD, salt)).await;
        assert_eq!((login.unwrap().awaits_word, next), (true, 4));
    }
}

#[tokio::test]
async fn nothing_else_is_a_proof() {
    let none = |_: &[u8]| Vec::new();
    for proof in [&scramble as &dyn Fn(&[u8], &[u8]) -> Vec<u8>, &|_, _| vec![0; 32], &|_, _| vec![0xff; 32]]
    {
        let wrong = |salt: &[u8]| response(SHA2, &proof(b"another password", salt));
        assert!(matches!(met(true, wrong, none).await.0, Err(LoginFault::Wrong(user)) if user == "token"));
    }
    for answer in [&b""[..], b"\0", PASSWORD, &[0; 31], &[0; 33]] {
        let login = met(true, |_| response(SHA2, b""), |_| answer.to_vec()).await.0;
        assert!(matches!(login, Err(LoginFault::Wrong(_))), "{answer:?}");
    }
    let salted_otherwise = |_: &[u8]| response(SHA2, &scramble(PASSWORD, b"01234567890123456789"));
    assert!(matches!(met(true, salted_otherwise, none).await.0, Err(LoginFault::Wrong(_))));
    let login = met(true, |_| response(SHA2, b""), |_| vec![b'x'; MAX_ANSWER + 1]).await.0;
    assert!(matches!(login, Err(LoginFault::Layout(_))));
}

#[tokio::test]
async fn the_same_user_needs_no_proof_and_gets_the_word_that_its_plugin_awaits() {
    let none = |_: &[u8]| Vec::new();
    for (plugin, data, awaits_word) in
        [(SHA2, vec![], false), (SHA2, vec![7; 32], true), (b"mysql_native_password", vec![7; 20], false)]
    {
        let login = met(false, |_| response(plugin, &data), none).await.0.unwrap();
        assert_eq!(login.awaits_word, awaits_word, "{data:?}");
    }
}

#[tokio::test]
async fn a_tool_that_wants_tls_or_is_too_old_is_refused() {
    let none = |_: &[u8]| Vec::new();
    let tls = |_: &[u8]| response(SHA2, b"")[..SSL_REQUEST_LENGTH].to_vec();
    assert!(matches!(met(false, tls, none).await.0, Err(LoginFault::Layout(text)) if text.contains("TLS")));
    let old = |_: &[u8]| vec![0; 64];
    assert!(matches!(met(false, old, none).await.0, Err(LoginFault::Layout(_))));
}
