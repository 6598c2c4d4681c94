//! The SASL mechanism OAUTHBEARER (RFC 7628) as PostgreSQL 18 implements it (src/backend/libpq/auth-oauth.c):
//! transfer of the token, discovery of the issuer, and rejection.

use bytes::{Bytes, BytesMut};
use pgwire::messages::startup::Authentication;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::limits;
use super::message::{RawMessage, WireError, put};
use super::password::read_answer;
use crate::secret::Jwt;

/// The mechanism's registered name (RFC 7628, section 6.1).
pub const MECHANISM: &str = "OAUTHBEARER";

/// Separator of the parts of a message; alone it is the answer to a failure (RFC 7628, sections 3.1 and
/// 3.2.3).
const SEPARATOR: u8 = 0x01;

/// Bytes of an Authentication message around its SASL data: tag, length, code.
const AROUND_SASL_DATA: usize = 9;

/// Reason why no token was received.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// The client closed instead: it does not support the mechanism or cannot get a token.
    #[error("the client closed when asked for its token by OAUTHBEARER")]
    NoAnswer,
    /// The client asked for the issuer and got it. It will return with a token.
    #[error("the client asked where tokens come from")]
    Discovery,
    /// The client selected a mechanism that was not offered.
    #[error("the client chose a SASL mechanism that was not offered")]
    Mechanism,
    /// The client requested another identity.
    #[error("the client sent an authorization identity")]
    AuthorizationIdentity,
    /// The message violates RFC 7628.
    #[error("malformed OAUTHBEARER message: {0}")]
    Malformed(&'static str),
    /// The message contains something other than a bearer token.
    #[error("the client sent no bearer token: {0}")]
    NotBearer(&'static str),
    /// The message could not be read.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl BearerError {
    /// True if the client followed the protocol, so that the rejection has to complete the SASL exchange.
    pub(crate) fn leaves_exchange_open(&self) -> bool {
        matches!(self, Self::NotBearer(_))
    }
}

/// Issuer and scope for a client without an accepted token, in JSON.
#[derive(Debug)]
pub struct Discovery(Bytes);

impl Discovery {
    /// For tokens of `issuer` with `scope`. The document's URL is built as in PostgreSQL, so that libpq,
    /// which extracts the issuer from it, gets the same string. `None` if it is too long for libpq.
    pub fn new(issuer: &str, scope: &str) -> Option<Self> {
        let document = serde_json::json!({
            "status": "invalid_token", // libpq comes back after no other word
            "openid-configuration": format!("{issuer}/.well-known/openid-configuration"),
            "scope": scope,
        });
        let text = document.to_string();
        (text.len() + AROUND_SASL_DATA <= limits::MAX_AUTHENTICATION_MESSAGE).then(|| Self(text.into()))
    }
}

/// Reads the answer to the offer of the mechanism. A client that asks for the issuer gets it here, through
/// the end of the exchange.
pub(crate) async fn read<S>(stream: &mut S, discovery: &Discovery) -> Result<Jwt, BearerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = answer(stream).await?;
    let later: RawMessage;
    let message = match initial_response(&first.body)? {
        Some(message) => message,
        None => {
            say(stream, Bytes::new()).await?;
            later = answer(stream).await?;
            &later.body
        }
    };
    let value = auth_value(message)?;
    if value.is_empty() {
        return match fail(stream, discovery).await {
            Ok(()) | Err(BearerError::NoAnswer) => Err(BearerError::Discovery),
            Err(error) => Err(error),
        };
    }
    bearer_token(value).map(|token| Jwt::new(token.to_vec()))
}

/// Reports a missing or rejected token and reads the client's one-byte answer. An ErrorResponse has to follow
/// (RFC 7628, section 3.2.3).
pub(crate) async fn fail<S>(stream: &mut S, discovery: &Discovery) -> Result<(), BearerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(stream, discovery.0.clone()).await?;
    if answer(stream).await?.body == [SEPARATOR] {
        return Ok(());
    }
    Err(BearerError::Malformed("the answer to a failure is not one byte 0x01"))
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, data: Bytes) -> Result<(), BearerError> {
    let mut out = BytesMut::new();
    put(&Authentication::SASLContinue(data), &mut out)?;
    stream.write_all(&out).await.map_err(WireError::from)?;
    stream.flush().await.map_err(WireError::from)?;
    Ok(())
}

async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<RawMessage, BearerError> {
    read_answer(stream, limits::MAX_SASL_BODY).await?.ok_or(BearerError::NoAnswer)
}

/// Data of a `SASLInitialResponse`; `None` if the client waits to be asked.
fn initial_response(body: &[u8]) -> Result<Option<&[u8]>, BearerError> {
    let malformed = BearerError::Malformed;
    let end = body.iter().position(|byte| *byte == 0).ok_or(malformed("the mechanism has no end"))?;
    let (mechanism, rest) = body.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    let (length, data) = rest.split_first_chunk::<4>().ok_or(malformed("the length is missing"))?;
    if mechanism != MECHANISM.as_bytes() {
        return Err(BearerError::Mechanism);
    }
    match i32::from_be_bytes(*length) {
        -1 if data.is_empty() => Ok(None),
        length if usize::try_from(length) == Ok(data.len()) => Ok(Some(data)),
        _ => Err(malformed("the length is not that of the data")),
    }
}

/// Value of the only `auth` key. The whole message has to follow RFC 7628, section 3.1: a GS2 header without
/// channel binding or identity, keys and values, the terminator.
fn auth_value(message: &[u8]) -> Result<&[u8], BearerError> {
    let malformed = |what| Err(BearerError::Malformed(what));
    if message.is_empty() {
        return malformed("it is empty");
    }
    if message.contains(&0) {
        return malformed("it contains a zero byte");
    }
    let rest = match message {
        [b'p', ..] => return malformed("channel binding is not supported"),
        [b'n' | b'y', b',', rest @ ..] => rest,
        [b'n' | b'y', ..] => return malformed("there is no comma behind the channel-binding flag"),
        _ => return malformed("the channel-binding flag is unknown"),
    };
    let mut rest = match rest {
        [b',', SEPARATOR, rest @ ..] => rest,
        [b',', ..] => return malformed("there is no separator behind the GS2 header"),
        [b'a', ..] => return Err(BearerError::AuthorizationIdentity),
        _ => return malformed("the GS2 header has an unknown attribute"),
    };
    let mut auth = None;
    loop {
        let Some(end) = rest.iter().position(|byte| *byte == SEPARATOR) else {
            return malformed("a key is not terminated");
        };
        let (pair, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        if pair.is_empty() {
            break;
        }
        let (key, value) = key_and_value(pair)?;
        if key == b"auth" && auth.replace(value).is_some() {
            return malformed("there are several auth values");
        }
    }
    if !rest.is_empty() {
        return malformed("there are bytes behind the final terminator");
    }
    auth.ok_or(BearerError::Malformed("there is no auth value"))
}

/// `key = 1*(ALPHA)`, `value = *(VCHAR / SP / HTAB / CR / LF)`.
fn key_and_value(pair: &[u8]) -> Result<(&[u8], &[u8]), BearerError> {
    let malformed = BearerError::Malformed;
    let equals = pair.iter().position(|byte| *byte == b'=').ok_or(malformed("a key has no value"))?;
    let (key, value) = pair.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    if key.is_empty() || !key.iter().all(u8::is_ascii_alphabetic) {
        return Err(malformed("a key is not made of letters"));
    }
    if !value.iter().all(|byte| matches!(byte, 0x21..=0x7e | b' ' | b'\t' | b'\r' | b'\n')) {
        return Err(malformed("a value has a byte that is not printable"));
    }
    Ok((key, value))
}

/// `Bearer` in any case, spaces, and a token in the alphabet of RFC 6750 (section 2.1, `b64token`).
fn bearer_token(value: &[u8]) -> Result<&[u8], BearerError> {
    const SCHEME: &[u8] = b"bearer ";
    let scheme = value.split_at_checked(SCHEME.len());
    let Some((_, token)) = scheme.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME)) else {
        return Err(BearerError::NotBearer("the scheme is another one"));
    };
    let spaces = token.iter().take_while(|byte| **byte == b' ').count();
    let token = token.get(spaces..).unwrap_or_default();
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let text = token.get(..token.len() - padding).unwrap_or_default();
    if text.is_empty() {
        return Err(BearerError::NotBearer("it is empty"));
    }
    let legal =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    if text.iter().all(legal) {
        Ok(token)
    } else {
        Err(BearerError::NotBearer("it has a character that no token has"))
    }
}

#[cfg(test)]
mod tests;
