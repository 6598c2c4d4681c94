//! Server side of a client that sends commands of the proxy instead of SQL: simple and extended protocol. The commands
//! themselves are a [`Commands`]; this module knows messages only. Every buffer, name and wait of a client has a limit.

mod commands;
mod messages;
mod portal;
mod rows;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::timeout;

pub use self::commands::{CommandAnswer, Commands};
use self::messages::CommandMessage;
use self::portal::{MAX_HELD, Portal};
pub use self::rows::{Cell, Column, ColumnType, ResultFormats, RowEncoder, Rows};
use crate::names::SessionId;
use crate::net::client_stream::ClientStream;
use crate::postgres::command_failure::CommandFailure;
use crate::postgres::message::{LoginGreeting, WireError, put};
use crate::postgres::{error_response, limits};
use crate::refusal::Refusal;

/// Most prepared statements, and most portals, of a client.
const MAX_PREPARED: usize = 64;

/// Longest time for a client to take an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that are written in one step; other tasks of the thread run in between.
const STEP: usize = 16 * 1024;

/// End of a client's connection.
#[derive(Debug)]
pub enum CommandEnd {
    /// The client sent Terminate or closed.
    Left,
    /// The client's connection broke.
    Lost(WireError),
    /// The client did not take an answer in time.
    Slow,
    /// The client's bytes do not follow the protocol.
    Violation(WireError),
}

/// Reason why a message has no regular answer.
enum Trouble {
    Command(CommandFailure),
    Connection(CommandEnd),
}

impl From<CommandFailure> for Trouble {
    fn from(failure: CommandFailure) -> Self {
        Self::Command(failure)
    }
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self::Connection(CommandEnd::from(error))
    }
}

impl From<WireError> for CommandEnd {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed => Self::Left,
            WireError::Io(_) => Self::Lost(error),
            WireError::Length { .. } | WireError::Unexpected(_) | WireError::Malformed(_) => {
                Self::Violation(error)
            }
        }
    }
}

/// The greeting of a server with these session parameters.
pub fn greeting<'p>(
    parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<LoginGreeting, WireError> {
    let mut messages = BytesMut::new();
    for (name, value) in parameters {
        put(&ParameterStatus::new(name.to_owned(), value.to_owned()), &mut messages)?;
    }
    Ok(LoginGreeting { messages, status: TransactionStatus::Idle })
}

/// A welcomed client that sends commands.
#[derive(Debug)]
pub struct CommandServer<S> {
    stream: ClientStream<S>,
    /// Messages that are not sent yet.
    out: BytesMut,
    statements: HashMap<String, String>,
    portals: HashMap<String, Portal>,
    /// True after an error in the extended protocol, until the next Sync.
    skipping: bool,
    /// True while an answer is sent, so that no other message may follow.
    sending: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CommandServer<S> {
    /// Takes a welcomed client.
    pub fn new(stream: ClientStream<S>) -> Self {
        let (out, statements, portals) = (BytesMut::new(), HashMap::new(), HashMap::new());
        Self { stream, out, statements, portals, skipping: false, sending: false }
    }

    /// Answers the client's messages until the connection ends.
    pub async fn run(&mut self, commands: &mut impl Commands) -> CommandEnd {
        loop {
            let message = match messages::read(&mut self.stream).await {
                Ok(CommandMessage::Terminate) => return CommandEnd::Left,
                Ok(message) => message,
                Err(error) => return error.into(),
            };
            if let Err(end) = self.answer(message, commands).await {
                return end;
            }
        }
    }

    /// Sends the last message, unless the client is in the middle of another one, and closes. Errors are ignored.
    pub async fn finish(mut self, last_word: Option<&Refusal>, session: SessionId) {
        let say = async {
            if let Some(refusal) = last_word.filter(|_| !self.sending) {
                self.stream.write_all(&error_response::last_words(refusal, session)).await?;
                self.stream.flush().await?;
            }
            self.stream.shutdown().await
        };
        let _ = timeout(limits::REFUSE_TIMEOUT, say).await; // a client that is gone needs no last word
    }

    async fn answer(
        &mut self,
        message: CommandMessage,
        commands: &mut impl Commands,
    ) -> Result<(), CommandEnd> {
        match message {
            CommandMessage::Query(text) => {
                self.skipping = false;
                self.portals.remove("");
                match self.simple(&text, commands).await {
                    Ok(()) => {}
                    Err(Trouble::Command(failure)) => self.fail(&failure),
                    Err(Trouble::Connection(end)) => return Err(end),
                }
                self.ready(commands).await
            }
            CommandMessage::Sync => {
                self.skipping = false;
                if !commands.in_transaction() {
                    self.portals.clear();
                }
                self.ready(commands).await
            }
            CommandMessage::Flush => self.send(&Bytes::new()).await,
            CommandMessage::Terminate | CommandMessage::Stray => Ok(()),
            _ if self.skipping => Ok(()),
            message => match self.extended(message, commands).await {
                // A series without an end makes no endless answer.
                Ok(()) if self.out.len() >= STEP => self.send(&Bytes::new()).await,
                Ok(()) => Ok(()),
                Err(Trouble::Command(failure)) => {
                    self.fail(&failure);
                    self.skipping = true;
                    Ok(())
                }
                Err(Trouble::Connection(end)) => Err(end),
            },
        }
    }

    /// Executes the commands of a simple query until one fails.
    async fn simple(&mut self, text: &str, commands: &mut impl Commands) -> Result<(), Trouble> {
        let parts = commands.split(text)?;
        if parts.is_empty() {
            put(&EmptyQueryResponse::new(), &mut self.out)?;
        }
        for command in parts {
            let columns = commands.columns(&command)?;
            let formats = ResultFormats::default();
            let answer = commands.run(&command, RowEncoder::new(columns, formats.clone())).await?;
            if !columns.is_empty() {
                put(&rows::description(columns, &formats), &mut self.out)?;
            }
            self.notice(answer.notice.as_deref());
            self.send(&answer.rows.map(Rows::into_bytes).unwrap_or_default()).await?;
            put(&CommandComplete::new(answer.tag), &mut self.out)?;
        }
        Ok(())
    }

    async fn extended(
        &mut self,
        message: CommandMessage,
        commands: &mut impl Commands,
    ) -> Result<(), Trouble> {
        match message {
            CommandMessage::Parse { name, text } => self.parse(name, &text, commands),
            CommandMessage::Bind { portal, statement, parameters, formats } => {
                let command = self.statement(&statement)?.to_owned();
                self.bind(portal, command, parameters, formats, commands)
            }
            CommandMessage::DescribeStatement(name) => {
                let columns = commands.columns(self.statement(&name)?)?;
                put(&ParameterDescription::new(Vec::new()), &mut self.out)?;
                self.describe(columns, &ResultFormats::default())
            }
            CommandMessage::DescribePortal(name) => {
                let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
                let (columns, formats) = (commands.columns(&portal.command)?, portal.formats.clone());
                self.describe(columns, &formats)
            }
            CommandMessage::Execute { portal, max_rows } => self.execute(&portal, max_rows, commands).await,
            CommandMessage::CloseStatement(name) => {
                self.statements.remove(&name);
                Ok(put(&CloseComplete::new(), &mut self.out)?)
            }
            CommandMessage::ClosePortal(name) => {
                self.portals.remove(&name);
                Ok(put(&CloseComplete::new(), &mut self.out)?)
            }
            CommandMessage::Query(_)
            | CommandMessage::Sync
            | CommandMessage::Flush
            | CommandMessage::Terminate
            | CommandMessage::Stray => Ok(()),
        }
    }

    fn parse(&mut self, name: String, text: &str, commands: &impl Commands) -> Result<(), Trouble> {
        let mut parts = commands.split(text)?;
        if parts.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(CommandFailure::new("42601", message).into());
        }
        let command = parts.pop().unwrap_or_default();
        commands.columns(&command)?; // its errors belong here, as in PostgreSQL
        if !name.is_empty() && self.statements.contains_key(&name) {
            let message = "the name of the prepared statement is in use";
            return Err(CommandFailure::new("42P05", message).into());
        }
        has_room(&self.statements, &name)?;
        self.statements.insert(name, command);
        Ok(put(&ParseComplete::new(), &mut self.out)?)
    }

    fn bind(
        &mut self,
        name: String,
        command: String,
        parameters: usize,
        formats: ResultFormats,
        commands: &impl Commands,
    ) -> Result<(), Trouble> {
        if parameters > 0 {
            let failure = CommandFailure::new("08P01", "a command of the console takes no parameters")
                .hint("Write the value into the command, in single quotes.");
            return Err(failure.into());
        }
        if !formats.fit(commands.columns(&command)?.len()) {
            let message = "the number of result formats is not that of the columns";
            return Err(CommandFailure::new("08P01", message).into());
        }
        has_room(&self.portals, &name)?;
        self.portals.insert(name, Portal { command, formats, answer: None, size: 0 });
        Ok(put(&BindComplete::new(), &mut self.out)?)
    }

    fn describe(&mut self, columns: &'static [Column], formats: &ResultFormats) -> Result<(), Trouble> {
        let described = if columns.is_empty() {
            put(&NoData::new(), &mut self.out)
        } else {
            put(&rows::description(columns, formats), &mut self.out)
        };
        Ok(described?)
    }

    async fn execute(
        &mut self,
        name: &str,
        max_rows: usize,
        commands: &mut impl Commands,
    ) -> Result<(), Trouble> {
        let held: usize = self.portals.values().map(Portal::held).sum();
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        if portal.command.is_empty() {
            return Ok(put(&EmptyQueryResponse::new(), &mut self.out)?);
        }
        let mut notice = None;
        if portal.answer.is_none() {
            let encoder = RowEncoder::new(commands.columns(&portal.command)?, portal.formats.clone());
            let mut answer = commands.run(&portal.command, encoder).await?;
            notice = answer.notice.take();
            portal.size = answer.rows.as_ref().map_or(0, Rows::size);
            if held + portal.size > MAX_HELD {
                let message = "the answers of this client's portals are too long together";
                let failure = CommandFailure::new("53400", message);
                return Err(failure
                    .hint("Fetch the rows of other portals to the end, or close them.")
                    .into());
            }
            portal.answer = Some(answer);
        }
        let Some(answer) = &mut portal.answer else { return Ok(()) };
        let (part, more) = answer.rows.as_mut().map(|rows| rows.take(max_rows)).unwrap_or_default();
        let tag = answer.tag.clone();
        self.notice(notice.as_deref());
        self.send(&part).await?;
        let end = if more {
            put(&PortalSuspended::new(), &mut self.out)
        } else {
            put(&CommandComplete::new(tag), &mut self.out)
        };
        Ok(end?)
    }

    fn statement(&self, name: &str) -> Result<&str, CommandFailure> {
        let missing = || CommandFailure::new("26000", "there is no prepared statement of this name");
        self.statements.get(name).map(String::as_str).ok_or_else(missing)
    }

    fn fail(&mut self, failure: &CommandFailure) {
        self.out.extend_from_slice(&error_response::command_failed(failure));
    }

    fn notice(&mut self, text: Option<&str>) {
        self.out.extend(text.map(error_response::notice).unwrap_or_default());
    }

    async fn ready(&mut self, commands: &impl Commands) -> Result<(), CommandEnd> {
        let status =
            if commands.in_transaction() { TransactionStatus::Transaction } else { TransactionStatus::Idle };
        put(&ReadyForQuery::new(status), &mut self.out)?;
        self.send(&Bytes::new()).await
    }

    /// Sends the collected messages and `rows` after them, in steps, so that a long answer delays nobody else.
    async fn send(&mut self, rows: &Bytes) -> Result<(), CommandEnd> {
        self.sending = true;
        let writing = async {
            for part in self.out.chunks(STEP).chain(rows.chunks(STEP)) {
                self.stream.write_all(part).await?;
                yield_now().await;
            }
            self.stream.flush().await
        };
        timeout(ANSWER_TIMEOUT, writing)
            .await
            .map_err(|_| CommandEnd::Slow)?
            .map_err(|error| CommandEnd::Lost(WireError::Io(error)))?;
        self.sending = false;
        self.out.clear();
        Ok(())
    }
}

impl From<CommandEnd> for Trouble {
    fn from(end: CommandEnd) -> Self {
        Self::Connection(end)
    }
}

fn no_portal(name: &str) -> CommandFailure {
    let what = if name.is_empty() { "unnamed portal" } else { "portal of this name" };
    CommandFailure::new("34000", format!("there is no {what}"))
}

fn has_room<V>(map: &HashMap<String, V>, name: &str) -> Result<(), CommandFailure> {
    if map.len() < MAX_PREPARED || map.contains_key(name) {
        return Ok(());
    }
    let message =
        format!("a client of the console has at most {MAX_PREPARED} prepared statements and portals");
    Err(CommandFailure::new("53400", message))
}

#[cfg(test)]
mod tests;
