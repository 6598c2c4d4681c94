//! The password message, parsed here and not by a codec: it may be as long as PostgreSQL allows, and its
//! bytes are never in a printable type.

use tokio::io::AsyncRead;

use super::limits;
use super::message::{RawMessage, WireError, read_message};
use crate::secret::Jwt;

/// Reason why no token was received.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The client closed instead; psql does that to prompt for a password.
    #[error("the client closed when asked for its token")]
    NoAnswer,
    /// An empty password.
    #[error("the password is empty")]
    Empty,
    /// The body is not one terminated string.
    #[error("the password message is malformed")]
    Malformed,
    /// The message could not be read.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Reads the answer to a cleartext password request.
pub(crate) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Jwt, PasswordError> {
    let answer = read_answer(reader, limits::MAX_PASSWORD_BODY).await?;
    let mut message = answer.ok_or(PasswordError::NoAnswer)?;
    let terminator = message.body.iter().position(|byte| *byte == 0).ok_or(PasswordError::Malformed)?;
    if terminator + 1 != message.body.len() {
        return Err(PasswordError::Malformed);
    }
    message.body.truncate(terminator);
    if message.body.is_empty() {
        return Err(PasswordError::Empty);
    }
    Ok(Jwt::new(std::mem::take(&mut message.body)))
}

/// Reads the message type that answers authentication requests, with a body of at most `longest` bytes;
/// `None` if the client leaves.
pub(crate) async fn read_answer<R: AsyncRead + Unpin>(
    reader: &mut R,
    longest: usize,
) -> Result<Option<RawMessage>, WireError> {
    let cap = |tag| match tag {
        b'p' => Some(longest),
        b'X' => Some(0), // Terminate: a polite way of not answering
        _ => None,
    };
    match read_message(reader, cap).await {
        Ok(message) if message.tag == b'X' => Ok(None),
        Ok(message) => Ok(Some(message)),
        Err(WireError::Closed) => Ok(None),
        Err(WireError::Io(error)) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if the client closed, also without a TLS `close_notify` or by reset.
fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn answer(bytes: Vec<u8>) -> Result<Jwt, PasswordError> {
        let (mut ours, mut theirs) = duplex(8);
        let writer = tokio::spawn(async move {
            let _ = theirs.write_all(&bytes).await;
        });
        let result = read(&mut ours).await;
        drop(ours);
        writer.await.unwrap();
        result
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [b"p", &crate::postgres::message::message_length(body.len())[..], body].concat()
    }

    #[tokio::test]
    async fn a_token_as_long_as_postgresql_allows_is_read_whole() {
        let mut body = vec![b'x'; limits::MAX_PASSWORD_BODY];
        *body.last_mut().unwrap() = 0;
        assert_eq!(answer(message(&body)).await.unwrap().expose().len(), 65_534);
        body.push(0);
        let error = answer(message(&body)).await.unwrap_err();
        assert!(matches!(error, PasswordError::Wire(WireError::Length { .. })), "{error}");
    }

    #[tokio::test]
    async fn one_terminator_and_it_is_last() {
        for bad in [&b""[..], b"a", b"a\0b\0", b"\0a"] {
            assert!(matches!(answer(message(bad)).await, Err(PasswordError::Malformed)), "{bad:?}");
        }
        assert!(matches!(answer(message(b"\0")).await, Err(PasswordError::Empty)));
    }

    #[tokio::test]
    async fn leaving_is_not_a_failed_login() {
        assert!(matches!(answer(vec![]).await, Err(PasswordError::NoAnswer)));
        assert!(matches!(answer(b"X\0\0\0\x04".to_vec()).await, Err(PasswordError::NoAnswer)));
        let query = answer(b"Q\0\0\0\x05\0".to_vec()).await.unwrap_err();
        assert!(matches!(query, PasswordError::Wire(WireError::Unexpected('Q'))), "{query}");
    }
}
