//! The request for a token and its answer, in the two forms that stock clients have: `mysql_clear_password`, and
//! MySQL's own plugin for OpenID Connect.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::limits;
use super::packet::{Fields, Sequence, WireError};
use super::response::EarlyAnswer;
use crate::secret::Jwt;

/// Marks an `AuthSwitchRequest`.
pub const AUTH_SWITCH: u8 = 0xfe;

/// Plugin by which clients send a password unchanged.
pub const CLEAR_PLUGIN: &[u8] = b"mysql_clear_password";

/// Plugin by which clients send an identity token (MySQL 9.1 and newer).
pub const OPENID_PLUGIN: &[u8] = b"authentication_openid_connect_client";

/// First byte of the plugin's answer (mysql-server, `authentication_openid_connect_client_plugin.cc`).
pub const OPENID_TOKEN: u8 = 1;

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
pub fn early_token(early: EarlyAnswer) -> Option<Result<Jwt, TokenError>> {
    let method = TokenMethod::of_plugin(&early.plugin)?;
    Some(token(method, early.data))
}

/// Requests the token and reads it.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
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
mod tests;
