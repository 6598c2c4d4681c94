//! OAUTHBEARER over an in-memory pipe: what clients send, and what nobody may send.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::postgres::message::message_length;

const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln-_nature";

fn message(body: &[u8]) -> Vec<u8> {
    [b"p", &message_length(body.len())[..], body].concat()
}

fn initial(mechanism: &str, length: usize, data: &[u8]) -> Vec<u8> {
    let length = i32::try_from(length).unwrap().to_be_bytes();
    message(&[mechanism.as_bytes(), b"\0", &length, data].concat())
}

fn first(data: &[u8]) -> Vec<u8> {
    initial(MECHANISM, data.len(), data)
}

fn discovery() -> Discovery {
    Discovery::new("https://idp.example/realm", "openid db").unwrap()
}

/// The server's side of an exchange in which the client sends `bytes` at once and leaves; and what it is told.
async fn exchange(bytes: &[u8]) -> (Result<Jwt, BearerError>, Vec<u8>) {
    let (mut ours, mut theirs) = duplex(16);
    let bytes = bytes.to_vec();
    let server = tokio::spawn(async move { read(&mut ours, &discovery()).await });
    let (mut reading, mut writing) = tokio::io::split(&mut theirs);
    let mut told = Vec::new();
    let talk = async {
        let _ = writing.write_all(&bytes).await; // the server may leave before the end
        let _ = writing.shutdown().await;
    };
    let ((), read) = tokio::join!(talk, reading.read_to_end(&mut told));
    read.unwrap();
    (server.await.unwrap(), told)
}

async fn token(data: &[u8]) -> Result<Vec<u8>, BearerError> {
    exchange(&first(data)).await.0.map(|jwt| jwt.expose().to_vec())
}

fn bearer(auth: &str) -> Vec<u8> {
    format!("n,,\u{1}auth={auth}\u{1}\u{1}").into_bytes()
}

#[tokio::test]
async fn j16_a_token_comes_as_it_was_sent() {
    for (data, what) in [
        (bearer(&format!("Bearer {JWT}")), "as libpq sends it"),
        (bearer(&format!("bEARER    {JWT}")), "any case, more spaces"),
        (format!("y,,\u{1}auth=Bearer {JWT}\u{1}\u{1}").into_bytes(), "y: channel binding not offered"),
        (
            format!("n,,\u{1}host=db\u{1}port=5432\u{1}auth=Bearer {JWT}\u{1}X=\u{1}\u{1}").into_bytes(),
            "other keys",
        ),
    ] {
        assert_eq!(token(&data).await.unwrap(), JWT.as_bytes(), "{what}");
    }
    assert_eq!(token(&bearer("Bearer abc+/~==")).await.unwrap(), b"abc+/~==");
    let (_, told) = exchange(&first(&bearer(&format!("Bearer {JWT}")))).await;
    assert!(told.is_empty(), "success has no message of its own: {told:?}");
}

/// What stands on the wire for a client that asks where tokens come from.
fn challenge() -> Vec<u8> {
    let json = "{\"openid-configuration\":\"https://idp.example/realm/.well-known/openid-configuration\",\
                \"scope\":\"openid db\",\"status\":\"invalid_token\"}";
    [&b"R"[..], &message_length(json.len() + 4), &[0, 0, 0, 11], json.as_bytes()].concat()
}

#[tokio::test]
async fn j16_an_empty_token_is_a_question_and_is_answered() {
    let asked = [first(&bearer("")), message(&[SEPARATOR])].concat();
    let (result, told) = exchange(&asked).await;
    assert!(matches!(result, Err(BearerError::Discovery)), "{result:?}");
    assert_eq!(told, challenge());
    // A client that has heard enough and leaves has asked all the same.
    for farewell in [vec![], b"X\0\0\0\x04".to_vec()] {
        let (result, told) = exchange(&[first(&bearer("")), farewell].concat()).await;
        assert!(matches!(result, Err(BearerError::Discovery)), "{result:?}");
        assert_eq!(told, challenge());
    }
}

#[tokio::test]
async fn j16_the_answer_to_a_failure_is_one_byte() {
    for bad in [&b""[..], b"\x01\x01", b"\x02", b"n,,\x01auth=Bearer x\x01\x01"] {
        let (result, _) = exchange(&[first(&bearer("")), message(bad)].concat()).await;
        assert!(matches!(result, Err(BearerError::Malformed(_))), "{bad:?}: {result:?}");
    }
}

#[tokio::test]
async fn j16_a_client_may_want_to_be_asked_for_its_first_message() {
    let none = message(&[MECHANISM.as_bytes(), b"\0", &(-1_i32).to_be_bytes()].concat());
    let asked = [none.clone(), message(&bearer(&format!("Bearer {JWT}")))].concat();
    let (result, told) = exchange(&asked).await;
    assert_eq!(result.unwrap().expose(), JWT.as_bytes());
    assert_eq!(told, b"R\0\0\0\x08\0\0\0\x0b");
    let (result, _) = exchange(&none).await;
    assert!(matches!(result, Err(BearerError::NoAnswer)), "{result:?}");
    let with_data = message(&[MECHANISM.as_bytes(), b"\0", &(-1_i32).to_be_bytes(), b"x"].concat());
    assert!(matches!(exchange(&with_data).await.0, Err(BearerError::Malformed(_))));
}

#[tokio::test]
async fn j16_what_rfc_7628_does_not_allow_is_refused() {
    for (data, expected) in [
        (&b""[..], "it is empty"),
        (b"n,,\x01auth=Bearer x\0\x01\x01", "a zero byte"),
        (b"p=tls-unique,,\x01auth=Bearer x\x01\x01", "channel binding"),
        (b"f,,\x01auth=Bearer x\x01\x01", "flag is unknown"),
        (b"n", "no comma"),
        (b"nn,\x01auth=Bearer x\x01\x01", "no comma"),
        (b"n,", "unknown attribute"),
        (b"n,m=x,\x01auth=Bearer x\x01\x01", "unknown attribute"),
        (b"n,,", "no separator"),
        (b"n,,auth=Bearer x\x01\x01", "no separator"),
        (b"n,,\x01", "not terminated"),
        (b"n,,\x01auth=Bearer x", "not terminated"),
        (b"n,,\x01auth=Bearer x\x01", "not terminated"),
        (b"n,,\x01\x01", "no auth value"),
        (b"n,,\x01host=x\x01\x01", "no auth value"),
        (b"n,,\x01auth\x01\x01", "has no value"),
        (b"n,,\x01=x\x01\x01", "not made of letters"),
        (b"n,,\x01au th=x\x01\x01", "not made of letters"),
        (b"n,,\x01auth2=x\x01\x01", "not made of letters"),
        (b"n,,\x01host=\xc3\xa9\x01auth=Bearer x\x01\x01", "not printable"),
        (b"n,,\x01auth=Bearer \x7f\x01\x01", "not printable"),
        (b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01", "several auth values"),
        (b"n,,\x01auth=\x01auth=\x01\x01", "several auth values"),
        (b"n,,\x01auth=Bearer x\x01\x01\x01", "behind the final terminator"),
        (b"n,,\x01auth=\x01\x01x", "behind the final terminator"),
    ] {
        let error = token(data).await.unwrap_err();
        assert!(matches!(error, BearerError::Malformed(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{}: {error}", data.escape_ascii());
    }
    let identity = token(b"n,a=bob,\x01auth=Bearer x\x01\x01").await;
    assert!(matches!(identity, Err(BearerError::AuthorizationIdentity)), "{identity:?}");
}

#[tokio::test]
async fn j16_only_bearer_tokens_of_the_alphabet_are_tokens() {
    for auth in [
        "Basic eDp5",
        "Bearer",
        "Bearer ",
        "Bearer    ",
        "Bearerx",
        "Bearer\ta.b.c",
        "Bearer \ta.b.c",
        "a.b.c",
        " Bearer a.b.c",
        "Bearer a b",
        "Bearer a.b.c ",
        "Bearer a=b",
        "Bearer ==",
        "Bearer a,b",
        "Bearer \"a\"",
        "Bearer a\r\nb",
    ] {
        let error = token(&bearer(auth)).await.unwrap_err();
        assert!(matches!(error, BearerError::NotBearer(_)), "{auth:?}: {error:?}");
        assert!(error.leaves_exchange_open());
    }
}

#[tokio::test]
async fn j16_lengths_have_to_agree() {
    let data = bearer("Bearer x");
    for length in [0, 1, data.len() - 1, data.len() + 1, 65_536, 0x7fff_ffff] {
        let (result, _) = exchange(&initial(MECHANISM, length, &data)).await;
        assert!(matches!(result, Err(BearerError::Malformed(_))), "{length}: {result:?}");
    }
    for body in [&b""[..], b"OAUTHBEARER", b"OAUTHBEARER\0", b"OAUTHBEARER\0\0\0\0"] {
        let (result, _) = exchange(&message(body)).await;
        assert!(matches!(result, Err(BearerError::Malformed(_))), "{body:?}: {result:?}");
    }
    let negative = message(&[MECHANISM.as_bytes(), b"\0", &(-2_i32).to_be_bytes(), &data].concat());
    assert!(matches!(exchange(&negative).await.0, Err(BearerError::Malformed(_))));
}

#[tokio::test]
async fn j16_a_message_of_65535_bytes_is_read_and_one_more_is_not() {
    let around = MECHANISM.len() + 1 + 4 + bearer("Bearer ").len();
    let long = |size: usize| first(&bearer(&format!("Bearer {}", "x".repeat(size - around))));
    let (result, _) = exchange(&long(65_535)).await;
    assert_eq!(result.unwrap().expose().len(), 65_535 - around);
    let (result, _) = exchange(&long(65_536)).await;
    assert!(matches!(result, Err(BearerError::Wire(WireError::Length { length: 65_540, .. }))), "{result:?}");
}

#[tokio::test]
async fn j16_another_mechanism_or_message_is_refused() {
    for mechanism in ["SCRAM-SHA-256", "", "OAUTHBEARER-PLUS", "oauthbearer"] {
        let data = bearer("Bearer x");
        let (result, _) = exchange(&initial(mechanism, data.len(), &data)).await;
        assert!(matches!(result, Err(BearerError::Mechanism)), "{mechanism}: {result:?}");
    }
    let (result, _) = exchange(b"Q\0\0\0\x05\0").await;
    assert!(matches!(result, Err(BearerError::Wire(WireError::Unexpected('Q')))), "{result:?}");
    let (result, _) = exchange(b"").await;
    assert!(matches!(result, Err(BearerError::NoAnswer)), "{result:?}");
}

#[tokio::test]
async fn c11_what_a_client_is_told_stays_within_2000_bytes() {
    let around = Discovery::new("", "").unwrap().0.len();
    let longest = limits::MAX_AUTHENTICATION_MESSAGE - AROUND_SASL_DATA - around;
    let discovery = Discovery::new(&"x".repeat(longest), "").unwrap();
    assert!(Discovery::new(&"x".repeat(longest + 1), "").is_none());
    let (mut ours, mut theirs): (DuplexStream, DuplexStream) = duplex(4_096);
    theirs.write_all(&message(&[SEPARATOR])).await.unwrap();
    fail(&mut ours, &discovery).await.unwrap();
    drop(ours);
    let mut told = Vec::new();
    theirs.read_to_end(&mut told).await.unwrap();
    assert_eq!(told.len(), 2_000);
}

#[test]
fn l2_a_discovery_is_no_secret_and_an_error_tells_none() {
    let error = auth_value(b"n,,\x01auth=Bearer hunter2").unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

proptest! {
    #[test]
    fn j16_any_bytes_are_a_message_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        text in "[nyp],[a]?,?\u{1}([a-z]{0,5}=?[ -~]{0,9}\u{1}){0,4}\u{1}?.?",
    ) {
        for message in [&bytes[..], text.as_bytes()] {
            let _ = initial_response(message);
            if let Ok(value) = auth_value(message) {
                // Whatever else there is, it was said as auth=… between separators, and once.
                let said = [&b"\x01auth="[..], value, b"\x01"].concat();
                prop_assert_eq!(message.windows(said.len()).filter(|part| *part == said).count(), 1);
                prop_assert!(message.ends_with(b"\x01\x01"));
                if let Ok(token) = bearer_token(value) {
                    prop_assert!(value.ends_with(token) && !token.contains(&b' '));
                }
            }
        }
    }

    #[test]
    fn j16_every_token_of_the_alphabet_comes_through(
        scheme in "[bB][eE][aA][rR][eE][rR] {1,5}",
        token in "[A-Za-z0-9._~+/-]{1,200}={0,2}",
        others in prop::collection::vec("[A-Zb-z][a-z]{0,6}=[ -~]{0,20}\u{1}", 0..4),
    ) {
        let data = format!("y,,\u{1}{}auth={scheme}{token}\u{1}\u{1}", others.concat());
        prop_assume!(!others.iter().any(|pair| pair.starts_with("auth=")));
        let value = auth_value(data.as_bytes()).unwrap();
        prop_assert_eq!(bearer_token(value).unwrap(), token.as_bytes());
    }
}
