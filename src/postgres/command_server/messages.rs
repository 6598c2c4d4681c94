//! Messages of a client that sends commands, read strictly: one message of at most [`MAX_MESSAGE`] bytes at a time.

use tokio::io::AsyncRead;

use super::ResultFormats;
use crate::postgres::message::{RawMessage, WireError, read_message};

/// Longest body of a message. Commands are short.
const MAX_MESSAGE: usize = 16 * 1024;

/// A message of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandMessage {
    /// Simple query.
    Query(String),
    /// A statement to prepare. Types of parameters are ignored, because commands take none.
    Parse { name: String, text: String },
    /// A portal of a prepared statement, with the number of parameters.
    Bind { portal: String, statement: String, parameters: usize, formats: ResultFormats },
    /// Question for the columns of a statement.
    DescribeStatement(String),
    /// Question for the columns of a portal.
    DescribePortal(String),
    /// Execution of a portal; 0 for all rows.
    Execute { portal: String, max_rows: usize },
    /// End of a statement.
    CloseStatement(String),
    /// End of a portal.
    ClosePortal(String),
    /// Request for the answers so far.
    Flush,
    /// End of a series.
    Sync,
    /// End of the connection.
    Terminate,
    /// A message of a COPY, which PostgreSQL ignores outside one.
    Stray,
}

/// Reads one message.
pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> Result<CommandMessage, WireError> {
    let cap = |tag| match tag {
        b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'd' | b'f' => Some(MAX_MESSAGE),
        b'H' | b'S' | b'X' | b'c' => Some(0),
        _ => None,
    };
    let message = read_message(reader, cap).await?;
    parse(&message).ok_or(WireError::Malformed("message of a command"))
}

fn parse(message: &RawMessage) -> Option<CommandMessage> {
    let mut body = Body(&message.body);
    let parsed = match message.tag {
        b'Q' => CommandMessage::Query(body.text()?),
        b'P' => {
            let (name, text) = (body.text()?, body.text()?);
            for _ in 0..body.count()? {
                body.bytes(4)?;
            }
            CommandMessage::Parse { name, text }
        }
        b'B' => {
            let (portal, statement) = (body.text()?, body.text()?);
            for _ in 0..body.count()? {
                body.bytes(2)?;
            }
            let parameters = body.count()?;
            for _ in 0..parameters {
                let length = i32::from_be_bytes(body.array()?);
                if length != -1 {
                    body.bytes(usize::try_from(length).ok()?)?;
                }
            }
            let formats = (0..body.count()?).map(|_| body.format()).collect::<Option<_>>()?;
            CommandMessage::Bind { portal, statement, parameters, formats: ResultFormats(formats) }
        }
        b'D' => match body.array()? {
            [b'S'] => CommandMessage::DescribeStatement(body.text()?),
            [b'P'] => CommandMessage::DescribePortal(body.text()?),
            _ => return None,
        },
        b'C' => match body.array()? {
            [b'S'] => CommandMessage::CloseStatement(body.text()?),
            [b'P'] => CommandMessage::ClosePortal(body.text()?),
            _ => return None,
        },
        b'E' => {
            let portal = body.text()?;
            // PostgreSQL takes a negative number for no limit, too.
            let max_rows = usize::try_from(i32::from_be_bytes(body.array()?)).unwrap_or(0);
            CommandMessage::Execute { portal, max_rows }
        }
        b'H' => CommandMessage::Flush,
        b'S' => CommandMessage::Sync,
        b'X' => CommandMessage::Terminate,
        _ => return Some(CommandMessage::Stray),
    };
    body.0.is_empty().then_some(parsed)
}

/// The rest of a body.
struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// A number of elements: a 16-bit integer that must not be negative.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(i16::from_be_bytes(self.array()?)).ok()
    }

    /// A format code: true for binary.
    fn format(&mut self) -> Option<bool> {
        match i16::from_be_bytes(self.array()?) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A string that ends with a zero byte.
    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(self.bytes(end)?).ok()?.to_owned();
        self.bytes(1)?;
        Some(text)
    }
}
