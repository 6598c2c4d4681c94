//! Questions and answers of both plugins, over an in-memory pipe.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::mysql::packet::{packet, put_with_length};

/// Asks by `method`, and answers with `answer`; without one the client leaves.
async fn asked(method: TokenMethod, answer: Option<&[u8]>) -> (Vec<u8>, Result<Jwt, TokenError>) {
    let (mut ours, mut theirs) = duplex(64);
    let answer = answer.map(|answer| packet(1, answer));
    let client = tokio::spawn(async move {
        let mut question = vec![0; 4];
        theirs.read_exact(&mut question).await.unwrap();
        question.resize(4 + usize::from(question[0]), 0);
        theirs.read_exact(&mut question[4..]).await.unwrap();
        if let Some(answer) = answer {
            let _ = theirs.write_all(&answer).await;
        }
        question
    });
    let token = ask(&mut ours, &mut Sequence::default(), method).await;
    drop(ours);
    (client.await.unwrap(), token)
}

fn openid(token: &[u8]) -> Vec<u8> {
    let mut answer = vec![1];
    put_with_length(token, &mut answer);
    answer
}

#[tokio::test]
async fn a_token_of_any_length_comes_whole_by_both_plugins() {
    for length in [1, 79, 1_500, 20_000, limits::MAX_ANSWER - 4] {
        let token = vec![b't'; length];
        let (question, jwt) = asked(TokenMethod::Password, Some(&[&token[..], b"\0"].concat())).await;
        assert_eq!(question, b"\x16\0\0\0\xfemysql_clear_password\0");
        assert_eq!(jwt.unwrap().expose(), token);
        let (question, jwt) = asked(TokenMethod::OpenId, Some(&openid(&token))).await;
        assert_eq!(question, b"\x26\0\0\0\xfeauthentication_openid_connect_client\0");
        assert_eq!(jwt.unwrap().expose(), token);
    }
    let (_, jwt) = asked(TokenMethod::Password, Some(&vec![b't'; limits::MAX_ANSWER + 1])).await;
    assert!(matches!(jwt, Err(TokenError::Wire(WireError::Length(65_536)))), "{jwt:?}");
}

#[tokio::test]
async fn an_answer_has_the_format_of_its_plugin() {
    for (method, answer) in [
        (TokenMethod::Password, &b"a\0b\0"[..]),
        (TokenMethod::Password, b"a\0\0"),
        (TokenMethod::OpenId, b""),
        (TokenMethod::OpenId, b"token\0"),
        (TokenMethod::OpenId, b"\x01\x05abcd"),
        (TokenMethod::OpenId, b"\x01\x03abcd"),
    ] {
        let (_, jwt) = asked(method, Some(answer)).await;
        assert!(matches!(jwt, Err(TokenError::Malformed)), "{answer:?}: {jwt:?}");
    }
    for (method, answer) in
        [(TokenMethod::Password, &b""[..]), (TokenMethod::Password, b"\0"), (TokenMethod::OpenId, b"\x01\0")]
    {
        let (_, jwt) = asked(method, Some(answer)).await;
        assert!(matches!(jwt, Err(TokenError::Empty)), "{answer:?}: {jwt:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_told_apart_from_one_that_errs() {
    let (_, jwt) = asked(TokenMethod::Password, None).await;
    assert!(matches!(jwt, Err(TokenError::NoAnswer("mysql_clear_password"))), "{jwt:?}");
    let (_, jwt) = asked(TokenMethod::OpenId, None).await;
    assert!(matches!(jwt, Err(TokenError::NoAnswer("authentication_openid_connect_client"))), "{jwt:?}");
}

#[test]
fn a_token_in_the_first_packet_counts_for_the_two_plugins_only() {
    let early = |plugin: &[u8], data: Vec<u8>| {
        early_token(EarlyAnswer { plugin: plugin.to_vec(), data: Zeroizing::new(data) })
    };
    assert_eq!(early(CLEAR_PLUGIN, b"token\0".to_vec()).unwrap().unwrap().expose(), b"token");
    assert_eq!(early(CLEAR_PLUGIN, b"token".to_vec()).unwrap().unwrap().expose(), b"token");
    assert_eq!(early(OPENID_PLUGIN, openid(b"token")).unwrap().unwrap().expose(), b"token");
    assert!(early(b"caching_sha2_password", vec![7; 32]).is_none());
    assert!(early(b"mysql_native_password", vec![7; 20]).is_none());
    assert!(early(b"", vec![7; 20]).is_none());
}
