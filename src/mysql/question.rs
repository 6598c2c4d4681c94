//! The request for a token and its answer, in the two forms that stock clients have: `mysql_clear_password`, and
//! MySQL's own plugin for OpenID Connect.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::limits;
use super::packet::{Fields, Sequence, WireError};
use super::response::EarlyAnswer;
use crate::secret::Jwt;

/// Marks an `AuthSwitchRequest`.
pub(super) const AUTH_SWITCH: u8 = 0xfe;

/// Plugin by which clients send a password unchanged.
pub(super) const CLEAR_PLUGIN: &[u8] = b"mysql_clear_password";

/// Plugin by which clients send an identity token (MySQL 9.1 and newer).
const OPENID_PLUGIN: &[u8] = b"authentication_openid_connect_client";

/// First byte of the plugin's answer (mysql-server, `authentication_openid_connect_client_plugin.cc`).
const OPENID_TOKEN: u8 = 1;

/// Method of requesting the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMethod {
    /// `mysql_clear_password`.
    Password,
    /// `authentication_openid_connect_client`.
    OpenId,
}

impl TokenMethod {
    fn plugin(self) -> &'static [u8] {
        match self {
            Self::Password => CLEAR_PLUGIN,
            Self::OpenId => OPENID_PLUGIN,
        }
    }

    fn of_plugin(name: &[u8]) -> Option<Self> {
        [Self::Password, Self::OpenId].into_iter().find(|method| method.plugin() == name)
    }
}

/// Reason why no token was received.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The client closed instead: its plugin is disabled, or it has no token.
    #[error("the client closed when asked for its token by {0}")]
    NoAnswer(&'static str),
    /// An empty answer.
    #[error("the token is empty")]
    Empty,
    /// The answer violates its plugin's format.
    #[error("the answer to the request for a token is malformed")]
    Malformed,
    /// The answer could not be read.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The token that a client has sent with its first packet, if it has. Any listener takes it: the client has chosen the
/// plugin.
pub(super) fn early_token(early: EarlyAnswer) -> Option<Result<Jwt, TokenError>> {
    let method = TokenMethod::of_plugin(&early.plugin)?;
    Some(token(method, early.data))
}

/// Requests the token and reads it.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    sequence: &mut Sequence,
    method: TokenMethod,
) -> Result<Jwt, TokenError> {
    let no_answer = || match method {
        TokenMethod::Password => TokenError::NoAnswer("mysql_clear_password"),
        TokenMethod::OpenId => TokenError::NoAnswer("authentication_openid_connect_client"),
    };
    // Without data: sqlx accepts none or a salt, and the plugins read none.
    let question = [&[AUTH_SWITCH], method.plugin(), b"\0"].concat();
    let asked = sequence.write(stream, &question).await;
    let answer = match asked {
        Ok(()) => sequence.read(stream, limits::MAX_ANSWER).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(mut packet) => token(method, Zeroizing::new(std::mem::take(&mut packet.payload))),
        Err(error) if error.is_gone() => Err(no_answer()),
        Err(error) => Err(error.into()),
    }
}

/// The token in an answer.
fn token(method: TokenMethod, mut answer: Zeroizing<Vec<u8>>) -> Result<Jwt, TokenError> {
    let token = match method {
        TokenMethod::Password => {
            // One NUL at the end, which node's mariadb leaves out in its first packet.
            if answer.last() == Some(&0) {
                answer.pop();
            }
            if answer.contains(&0) {
                return Err(TokenError::Malformed);
            }
            std::mem::take(&mut *answer)
        }
        TokenMethod::OpenId => {
            let mut fields = Fields::of(&answer);
            if fields.u8() != Some(OPENID_TOKEN) {
                return Err(TokenError::Malformed);
            }
            let token = fields.with_length().ok_or(TokenError::Malformed)?;
            if !fields.rest().is_empty() {
                return Err(TokenError::Malformed);
            }
            token.to_vec()
        }
    };
    if token.is_empty() { Err(TokenError::Empty) } else { Ok(Jwt::new(token)) }
}

#[cfg(test)]
mod tests {
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
        for (method, answer) in [
            (TokenMethod::Password, &b""[..]),
            (TokenMethod::Password, b"\0"),
            (TokenMethod::OpenId, b"\x01\0"),
        ] {
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
}
