//! Messages of PostgreSQL's protocol, as far as the agent reads them: whole, with a limit, and nothing behind them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroize;

/// A message. Its body may be a secret: it is overwritten when dropped.
pub(super) struct WireMessage {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

impl WireMessage {
    /// The message as it stands on the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        message(self.tag, &self.body)
    }
}

impl Drop for WireMessage {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

/// A message with this body.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(tag);
    bytes.extend_from_slice(&length(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// The length field of a body of `body` bytes. Bodies are far below 4 GiB.
pub(super) fn length(body: usize) -> [u8; 4] {
    u32::try_from(body.saturating_add(4)).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads one message whose body has at most `max` bytes. The length is judged before anything is allocated.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S, max: usize) -> io::Result<WireMessage> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let [tag, length @ ..] = header;
    let mut message = WireMessage { tag, body: vec![0; body_length(length, max)?] };
    stream.read_exact(&mut message.body).await?;
    Ok(message)
}

/// Reads a packet of the startup phase, which has no tag: everything behind its length.
pub(super) async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S, max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut body = vec![0; body_length(length, max)?];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn body_length(length: [u8; 4], max: usize) -> io::Result<usize> {
    let body = usize::try_from(u32::from_be_bytes(length)).ok().and_then(|length| length.checked_sub(4));
    let fits = body.filter(|body| *body <= max);
    fits.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a message has an impossible length"))
}
