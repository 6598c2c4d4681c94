//! A connection to the console, from the verified token to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::lexer::{commands, written};
use super::{ConsoleDoor, MAX_CONNECTIONS, MAX_CONNECTIONS_OF_ONE, Operator, setting};
use crate::lifecycle::ShutdownTokens;
use crate::net::client_stream::ClientStream;
use crate::net::tls_error;
use crate::postgres::command_failure::CommandFailure;
use crate::postgres::command_server::{
    Column, CommandAnswer, CommandEnd, CommandServer, Commands, RowEncoder,
};
use crate::refusal::Refusal;
use crate::session::permits::{CountedPermit, KeyedPermit, LimitReached, LimitScope};
use crate::session::registry::{SessionFacts, SessionRegistration};
use crate::session::shared::Shared;

/// Time for the answer to SHUTDOWN before the connection ends with the service.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// A person who is let in to the console.
#[derive(Debug)]
pub struct ConsoleLogin {
    operator: Operator,
    _registration: SessionRegistration,
    ended: CancellationToken,
    _places: (CountedPermit, KeyedPermit<(String, String)>),
}

/// End of a connection to the console.
#[derive(Debug)]
pub enum ConsoleEnd {
    /// The client left before the welcome.
    NotWelcomed(io::Error),
    /// The client left, its connection broke, or it misbehaved.
    Client(CommandEnd),
    /// The token expired.
    TokenExpired,
    /// The person's access was withdrawn, or the connection was ended by another operator.
    Withdrawn,
    /// The service is stopping.
    Stopping,
}

impl ConsoleEnd {
    /// The end in a stable word, and the reason in full.
    pub fn words(&self) -> (&'static str, String) {
        match self {
            Self::NotWelcomed(error) => {
                ("client_lost", format!("the client left at the welcome: {}", tls_error::describe(error)))
            }
            Self::Client(CommandEnd::Lost(error)) => {
                ("client_lost", format!("the client's connection broke: {error}"))
            }
            Self::Client(CommandEnd::Left) => ("client_left", "the client left".to_owned()),
            Self::Client(CommandEnd::Slow) => {
                ("client_slow", "the client did not take an answer in time".to_owned())
            }
            Self::Client(CommandEnd::Violation(error)) => ("protocol_violation", error.to_string()),
            Self::TokenExpired => ("token_expired", "its token has expired".to_owned()),
            Self::Withdrawn => ("withdrawn", "an operator ended it, or the access is withdrawn".to_owned()),
            Self::Stopping => ("drained", "the proxy is stopping".to_owned()),
        }
    }

    /// The last error that the client gets.
    fn farewell(&self) -> Option<Refusal> {
        match self {
            Self::NotWelcomed(_)
            | Self::Client(CommandEnd::Left | CommandEnd::Lost(_) | CommandEnd::Slow) => None,
            Self::Client(CommandEnd::Violation(error)) => Some(Refusal::malformed(&error.to_string())),
            Self::TokenExpired => {
                let detail = "the token that this connection was opened with has expired";
                Some(Refusal::terminating("token expiry", detail).hint("Connect again with a fresh token."))
            }
            Self::Withdrawn => {
                let detail = "an operator ended this connection, or its access is withdrawn";
                Some(Refusal::terminating("administrator command", detail))
            }
            Self::Stopping => Some(Refusal::terminating("administrator command", "the proxy is stopping")),
        }
    }
}

impl ConsoleDoor {
    /// Admits a person, within the console's limits. `facts` describe the connection.
    pub fn admit(
        &self,
        operator: Operator,
        facts: SessionFacts,
        shutdown: &ShutdownTokens,
    ) -> Result<ConsoleLogin, LimitReached> {
        let reached = |max| LimitReached { scope: LimitScope::Console, max };
        let person = (operator.issuer.clone(), operator.subject.clone());
        let of_one = self.people.take(&person, Some(MAX_CONNECTIONS_OF_ONE));
        let of_one = of_one.ok_or_else(|| reached(MAX_CONNECTIONS_OF_ONE))?;
        let place = self.places.take(MAX_CONNECTIONS).ok_or_else(|| reached(MAX_CONNECTIONS))?;
        let ended = shutdown.now.child_token();
        let registration = self.sessions.register(facts, ended.clone());
        Ok(ConsoleLogin { operator, _registration: registration, ended, _places: (place, of_one) })
    }
}

/// Session parameters that the console reports at the login.
pub fn parameters() -> Vec<(&'static str, &'static str)> {
    setting::reported().collect()
}

/// Serves a welcomed client until the connection ends.
pub async fn serve<S>(shared: Arc<Shared>, stream: ClientStream<S>, login: ConsoleLogin) -> ConsoleEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = login.operator.session;
    let expiry = login.operator.accepted_until.duration_since(shared.clock.now()).unwrap_or(Duration::ZERO);
    let mut server = CommandServer::new(stream);
    let mut commands = OperatorCommands { shared: &shared, operator: &login.operator, in_transaction: false };
    let end = tokio::select! {
        biased;
        () = drained(&shared.shutdown) => ConsoleEnd::Stopping,
        () = login.ended.cancelled() => ConsoleEnd::Withdrawn,
        () = sleep(expiry) => ConsoleEnd::TokenExpired,
        end = server.run(&mut commands) => ConsoleEnd::Client(end),
    };
    server.finish(end.farewell().as_ref(), session).await;
    end
}

/// Waits for the stop of the service, and for the answer to the command that requested it.
async fn drained(shutdown: &ShutdownTokens) {
    shutdown.drain.cancelled().await;
    sleep(LAST_ANSWER).await;
}

/// The commands of one connection.
struct OperatorCommands<'c> {
    shared: &'c Shared,
    operator: &'c Operator,
    /// True between BEGIN and COMMIT or ROLLBACK. Commands act at once either way.
    in_transaction: bool,
}

impl Commands for OperatorCommands<'_> {
    fn split(&self, text: &str) -> Result<Vec<String>, CommandFailure> {
        Ok(commands(text)?.iter().map(|words| written(words)).collect())
    }

    fn columns(&self, command: &str) -> Result<&'static [Column], CommandFailure> {
        if command.is_empty() { Ok(&[]) } else { Ok(Command::parse(command)?.columns()) }
    }

    async fn run(&mut self, command: &str, rows: RowEncoder) -> Result<CommandAnswer, CommandFailure> {
        let command = Command::parse(command)?;
        let in_transaction = match command {
            Command::Begin => true,
            Command::End(_) => false,
            _ => self.in_transaction,
        };
        let answer = self.shared.console.ask(self.operator.clone(), command, rows).await?;
        self.in_transaction = in_transaction;
        Ok(answer)
    }

    fn in_transaction(&self) -> bool {
        self.in_transaction
    }
}
