//! Framing: reads exactly one message and buffers nothing after it, so that neither a TLS upgrade nor the
//! relay inherits bytes. pgwire provides the message types; this module guards its decoder.

use std::fmt;
use std::io;

use bytes::BytesMut;
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroize;

use crate::net::tls_error;

/// Reason why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed the connection between two messages.
    #[error("the peer closed the connection")]
    Closed,
    /// The length field is below its own size or above the limit for this message.
    #[error("message {tag:?} has an impossible length of {length}")]
    Length {
        /// The message's type byte.
        tag: char,
        /// Value of the length field.
        length: u32,
    },
    /// The message is not allowed here.
    #[error("unexpected message {0:?}")]
    Unexpected(char),
    /// The body violates the protocol.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The socket failed.
    #[error("{}", tls_error::describe(.0))]
    Io(io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A tagged message. Its body may be a secret: it is printed as a length and zeroized on drop.
pub struct RawMessage {
    /// The type byte.
    pub tag: u8,
    /// Everything after the length field.
    pub body: Vec<u8>,
}

impl RawMessage {
    /// Encodes the complete message.
    pub fn encode_into(&self, out: &mut BytesMut) {
        out.extend_from_slice(&[self.tag]);
        out.extend_from_slice(&message_length(self.body.len()));
        out.extend_from_slice(&self.body);
    }

    /// Decodes the body with pgwire, after `guard` has checked that the decoder cannot read past its end.
    pub fn decode<M: Message>(
        &self,
        name: &'static str,
        guard: impl FnOnce(&[u8]) -> bool,
    ) -> Result<M, WireError> {
        if !guard(&self.body) {
            return Err(WireError::Malformed(name));
        }
        let mut body = BytesMut::from(self.body.as_slice());
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2); // keeps cancel keys as bytes
        M::decode_body(&mut body, self.body.len() + 4, &context).map_err(|_| WireError::Malformed(name))
    }
}

impl Drop for RawMessage {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl fmt::Debug for RawMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} bytes", char::from(self.tag), self.body.len())
    }
}

/// Messages of the upstream's login that the client has to get.
#[derive(Debug)]
pub struct LoginGreeting {
    /// ParameterStatus and NoticeResponse messages, unchanged.
    pub messages: BytesMut,
    /// Transaction status of its ReadyForQuery.
    pub status: TransactionStatus,
}

impl LoginGreeting {
    /// Status byte: `I`, `T` or `E`.
    pub fn status_byte(&self) -> u8 {
        self.status as u8
    }
}

/// A complete Terminate message (PostgreSQL manual, "Message Formats").
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Length field of a message with a body of `body` bytes. Callers stay far below 4 GiB.
pub fn message_length(body: usize) -> [u8; 4] {
    u32::try_from(body.saturating_add(4)).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads one tagged message with a body of at most `cap(tag)` bytes. The length is checked before anything is
/// allocated. `cap` returns `None` for a tag that is not allowed.
pub async fn read_message<R: AsyncRead + Unpin>(
    reader: &mut R,
    cap: impl FnOnce(u8) -> Option<usize>,
) -> Result<RawMessage, WireError> {
    let mut header = [0; 5];
    let read = reader.read(&mut header).await?;
    if read == 0 {
        return Err(WireError::Closed);
    }
    if let Some(rest) = header.get_mut(read..) {
        reader.read_exact(rest).await?;
    }
    let [tag, length @ ..] = header;
    let length = u32::from_be_bytes(length);
    let cap = cap(tag).ok_or(WireError::Unexpected(char::from(tag)))?;
    let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    let body = body.filter(|body| *body <= cap).ok_or(WireError::Length { tag: char::from(tag), length })?;
    let mut message = RawMessage { tag, body: vec![0; body] };
    reader.read_exact(&mut message.body).await?;
    Ok(message)
}

/// Appends a pgwire message.
pub fn put<M: Message>(message: &M, out: &mut BytesMut) -> Result<(), WireError> {
    message.encode(out).map_err(|_| WireError::Malformed("message of ours"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::net::buffers::has_early_bytes;

    async fn read(bytes: &[u8]) -> Result<RawMessage, WireError> {
        let (mut ours, mut theirs) = duplex(8);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move { theirs.write_all(&bytes).await });
        let result = read_message(&mut ours, |tag| (tag == b'p').then_some(10)).await;
        drop(ours);
        let _ = writer.await;
        result
    }

    #[tokio::test]
    async fn c4_lengths_are_judged_before_reading() {
        let at_cap = read(b"p\0\0\0\x0e0123456789").await.unwrap();
        assert_eq!(at_cap.body, b"0123456789");
        for length in [0_u32, 3, 15, 0x7fff_ffff, 0xffff_ffff] {
            let mut bytes = b"p".to_vec();
            bytes.extend(length.to_be_bytes());
            let error = read(&bytes).await.unwrap_err();
            assert!(matches!(error, WireError::Length { length: l, .. } if l == length), "{error}");
        }
    }

    #[tokio::test]
    async fn tags_without_a_place_and_cut_messages_are_errors() {
        assert!(matches!(read(b"Q\0\0\0\x04").await, Err(WireError::Unexpected('Q'))));
        assert!(matches!(read(b"").await, Err(WireError::Closed)));
        assert!(matches!(read(b"p\0\0").await, Err(WireError::Io(_))));
        assert!(matches!(read(b"p\0\0\0\x08ab").await, Err(WireError::Io(_))));
    }

    #[tokio::test]
    async fn early_bytes_are_seen_and_silence_is_not_waited_for() {
        let (mut ours, mut theirs) = duplex(8);
        assert!(!has_early_bytes(&mut ours).await);
        theirs.write_all(b"x").await.unwrap();
        assert!(has_early_bytes(&mut ours).await);
    }

    #[test]
    fn l2_a_message_prints_no_body() {
        let message = RawMessage { tag: b'p', body: b"hunter2".to_vec() };
        assert_eq!(format!("{message:?}"), "'p' with 7 bytes");
    }
}
