//! Reset of a server session after its client has left, and check before the next client: commands, valid
//! answers, and parameters for the next client.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use pgwire::messages::response::TransactionStatus;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::message::{LoginGreeting, RawMessage, WireError, message_length, read_message};

/// Longest time for a reset, which may drop temporary tables.
pub const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that a login spends on checks of idle connections, each one round trip. A slower server
/// counts as dead.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const _: () = assert!(CHECK_TIMEOUT.as_millis() < RESET_TIMEOUT.as_millis());

/// Most bytes from a server during a reset, including those for the client that has left, such as
/// notifications.
pub const MAX_RESET_BYTES: usize = 64 * 1024;

/// Most bytes of parameters, names and values, kept for a connection. PostgreSQL 18 reports about 400.
pub const MAX_PARAMETER_BYTES: usize = 8 * 1024;

/// Reset commands and the tags of their success. `DISCARD ALL` is PostgreSQL's complete reset. A session that
/// began with a role (by `options` or `ALTER ROLE … SET role`) has to return to it: new releases do that in
/// `DISCARD ALL` (15.18 does), and all do it in `RESET ROLE`.
const COMMANDS: [(&str, &[u8]); 2] = [("DISCARD ALL", b"DISCARD ALL\0"), ("RESET ROLE", b"RESET\0")];

/// A complete Sync message (PostgreSQL manual, "Message Formats").
const SYNC: &[u8] = b"S\0\0\0\x04";

/// The setting in which logins that share a connection may differ.
const APPLICATION_NAME: &[u8] = b"application_name";

/// Tag of SHOW.
const SHOWN: &[u8] = b"SHOW\0";

/// Tag of SET.
const SET: &[u8] = b"SET\0";

/// Reason why a reset or check failed.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// An error, an answer to something else, or an open transaction.
    #[error("unexpected answer {0:?}")]
    Unexpected(char),
    /// More than [`MAX_RESET_BYTES`] or [`MAX_PARAMETER_BYTES`].
    #[error("the server sends more than a reset holds")]
    TooMuch,
    /// The server reports another `application_name` than was set.
    #[error("application_name is not what was set")]
    Name,
    /// A protocol violation or connection error.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Current parameters of a server session: names and values.
#[derive(Debug)]
pub struct ServerParameters(Vec<(Vec<u8>, Vec<u8>)>);

impl ServerParameters {
    /// Parameters in the greeting of a login. `None` if they are malformed or exceed [`MAX_PARAMETER_BYTES`].
    pub fn of(greeting: &LoginGreeting) -> Option<Self> {
        let mut parameters = Self(Vec::new());
        let mut rest = &greeting.messages[..];
        while let Some((&[tag, length @ ..], behind)) = rest.split_first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes(length)).ok()?.checked_sub(4)?;
            let (body, behind) = behind.split_at_checked(length)?;
            rest = behind;
            if tag == b'S' {
                parameters.set(body).ok()?;
            }
        }
        rest.is_empty().then_some(parameters)
    }

    /// The parameters as a login's greeting.
    pub fn greeting(&self) -> LoginGreeting {
        let mut messages = BytesMut::new();
        for (name, value) in &self.0 {
            let body = [name, &b"\0"[..], value, b"\0"].concat();
            RawMessage { tag: b'S', body }.encode_into(&mut messages);
        }
        LoginGreeting { messages, status: TransactionStatus::Idle }
    }

    /// True if the server has reported this `application_name`.
    pub fn has_name(&self, name: &str) -> bool {
        self.name() == Some(name.as_bytes())
    }

    fn name(&self) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| name == APPLICATION_NAME).map(|(_, value)| value.as_slice())
    }

    /// Records a ParameterStatus.
    fn set(&mut self, body: &[u8]) -> Result<(), ResetError> {
        let parts: Vec<_> = body.split(|byte| *byte == 0).collect();
        let [name, value, []] = parts[..] else { return Err(WireError::Malformed("ParameterStatus").into()) };
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_vec(),
            None => self.0.push((name.to_vec(), value.to_vec())),
        }
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MAX_PARAMETER_BYTES { Err(ResetError::TooMuch) } else { Ok(()) }
    }
}

/// Resets the session on `stream` and updates `parameters`. The server reports those that the reset changes.
/// With `ask` all parameters are queried: one that was reported to the last client and still has that value
/// (after a promotion or a configuration reload) is not reported again.
pub async fn reset<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    parameters: &mut ServerParameters,
    ask: bool,
) -> Result<(), ResetError> {
    let mut names = Vec::new();
    let mut questions = BytesMut::new();
    for (sql, _) in COMMANDS {
        put_query(sql, &mut questions);
    }
    if ask {
        for (name, _) in &parameters.0 {
            put_query(&format!("SHOW \"{}\"", plain(name)?), &mut questions);
            names.push(name.clone());
        }
    }
    stream.write_all(&questions).await.map_err(WireError::from)?;
    stream.flush().await.map_err(WireError::from)?;
    let mut answers = ReplyReader { stream, parameters, bytes: 0 };
    for (_, tag) in COMMANDS {
        if answers.next(tag).await?.is_some() {
            return Err(ResetError::Unexpected('D'));
        }
    }
    for name in names {
        let value = answers.next(SHOWN).await?.ok_or(ResetError::Unexpected('C'))?;
        answers.parameters.set(&[&name[..], b"\0", &value, b"\0"].concat())?;
    }
    Ok(())
}

/// Checks that the server of an idle connection is alive and outside a transaction, and updates `parameters`:
/// PostgreSQL reports all changes (by a configuration reload or a promotion) before its ReadyForQuery. With
/// `name` the session's `application_name` is set in the same round trip.
pub async fn check<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    parameters: &mut ServerParameters,
    name: Option<&str>,
) -> Result<(), ResetError> {
    let name = name.filter(|name| !parameters.has_name(name));
    let mut question = BytesMut::new();
    match name {
        Some(name) => put_query(&format!("SET application_name = {}", literal(name)), &mut question),
        None => question.put_slice(SYNC),
    }
    stream.write_all(&question).await.map_err(WireError::from)?;
    stream.flush().await.map_err(WireError::from)?;
    let mut answers = ReplyReader { stream, parameters, bytes: 0 };
    let Some(name) = name else { return answers.ready().await };
    if answers.next(SET).await?.is_some() {
        return Err(ResetError::Unexpected('D'));
    }
    // A server that never reports it is trusted.
    if parameters.name().is_some() && !parameters.has_name(name) {
        return Err(ResetError::Name);
    }
    Ok(())
}

/// A string constant in which quotes and backslashes are literal, for any `standard_conforming_strings`. The
/// text is printable ASCII, so client encodings do not matter.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Validates the name of a setting, which comes from the server and is sent back within a command.
fn plain(name: &[u8]) -> Result<&str, ResetError> {
    let legal = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'));
    let name = std::str::from_utf8(name).ok().filter(legal);
    name.ok_or(ResetError::Wire(WireError::Malformed("name of a parameter")))
}

fn put_query(sql: &str, out: &mut BytesMut) {
    out.put_u8(b'Q');
    out.put_slice(&message_length(sql.len() + 1));
    out.put_slice(sql.as_bytes());
    out.put_u8(0);
}

struct ReplyReader<'a, S> {
    stream: &'a mut S,
    parameters: &'a mut ServerParameters,
    bytes: usize,
}

impl<S: AsyncRead + Unpin> ReplyReader<'_, S> {
    /// The complete answer to one command: `tag`, then ReadyForQuery outside a transaction. Returns the value
    /// of a row, if any.
    async fn next(&mut self, tag: &[u8]) -> Result<Option<Vec<u8>>, ResetError> {
        let (mut complete, mut value) = (false, None);
        loop {
            let message = self.message().await?;
            match (message.tag, &message.body[..]) {
                (b'T', _) if !complete && value.is_none() => {}
                (b'D', &[0, 1, ref length @ ..]) if !complete && value.is_none() => {
                    value = Some(only_value(length).ok_or(WireError::Malformed("DataRow"))?);
                }
                (b'C', body) if !complete && body == tag => complete = true,
                (b'Z', b"I") if complete => return Ok(value),
                (tag, _) => return Err(ResetError::Unexpected(char::from(tag))),
            }
        }
    }

    /// The answer to a Sync: ReadyForQuery outside a transaction.
    async fn ready(&mut self) -> Result<(), ResetError> {
        let message = self.message().await?;
        match (message.tag, &message.body[..]) {
            (b'Z', b"I") => Ok(()),
            (tag, _) => Err(ResetError::Unexpected(char::from(tag))),
        }
    }

    /// The next message that is an answer.
    async fn message(&mut self) -> Result<RawMessage, ResetError> {
        loop {
            let left = MAX_RESET_BYTES.saturating_sub(self.bytes);
            let message = match read_message(self.stream, |_| Some(left.saturating_sub(5))).await {
                Err(WireError::Length { .. }) => return Err(ResetError::TooMuch),
                message => message?,
            };
            self.bytes += message.body.len() + 5;
            if self.bytes > MAX_RESET_BYTES {
                return Err(ResetError::TooMuch);
            }
            match (message.tag, &message.body[..]) {
                (b'N' | b'A', _) => {} // for the client that has left
                (b'S', body) => self.parameters.set(body)?,
                _ => return Ok(message),
            }
        }
    }
}

/// Value of a row with one column.
fn only_value(column: &[u8]) -> Option<Vec<u8>> {
    let (length, value) = column.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    (value.len() == length && !value.contains(&0)).then(|| value.to_vec())
}

#[cfg(test)]
mod tests;
