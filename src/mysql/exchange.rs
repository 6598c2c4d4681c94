//! Commands that the proxy itself sends to a server, and their answers.

use tokio::io::{AsyncRead, AsyncWrite};

use super::limits::MAX_LOGIN_PACKET;
use super::packet::{Packet, Sequence, WireError};
use super::server_error::{ERR, LoginStep, ServerError};
use super::server_login::ok_status;
use super::tracker::IN_TRANSACTION;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The server refused a command.
    #[error("the server refused with {0}")]
    Refused(Box<ServerError>),
    /// The session is in a transaction.
    #[error("the session is in a transaction")]
    InTransaction,
    /// A protocol violation or connection error.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A command that is answered by one OK, outside a transaction.
pub(super) async fn simple<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    command: &[u8],
) -> Result<(), CommandError> {
    let mut sequence = Sequence::default();
    sequence.write(stream, command).await?;
    let answer = next(stream, &mut sequence).await?;
    let status =
        ok_status(&answer.payload).ok_or(WireError::Unexpected(answer.kind().unwrap_or_default()))?;
    if status & IN_TRANSACTION != 0 { Err(CommandError::InTransaction) } else { Ok(()) }
}

/// The next packet of an answer that is no error.
pub(super) async fn next<S: AsyncRead + Unpin>(
    stream: &mut S,
    sequence: &mut Sequence,
) -> Result<Packet, CommandError> {
    let packet = sequence.read(stream, MAX_LOGIN_PACKET).await?;
    if packet.kind() == Some(ERR) {
        let error = ServerError::parse(&packet.payload, LoginStep::Token)?;
        return Err(CommandError::Refused(Box::new(error)));
    }
    Ok(packet)
}
