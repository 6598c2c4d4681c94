//! The console: commands of the proxy for operators, through any PostgreSQL client.
//!
//! A verified person whose token fits a rule of `[admin]` and who asks for the database `pgpassport` reaches
//! [`connection`] instead of a cluster. It reads commands on the session's thread and hands each to [`desk`], a task of
//! the control runtime that has the state of the process, checks the person's right, and encodes the rows. A session
//! thread therefore only copies bytes, however long an answer is.

mod action;
mod averages;
mod clusters;
mod command;
pub mod connection;
pub mod desk;
mod lexer;
mod setting;
mod show;
pub mod state;
mod topic;

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use self::command::Command;
use crate::identity::ConsoleRight;
use crate::names::SessionId;
use crate::names::client_addr::ClientAddr;
use crate::postgres::command_failure::CommandFailure;
use crate::postgres::command_server::{CommandAnswer, RowEncoder};
use crate::session::permits::{KeyedCounter, PermitCounter};
use crate::session::registry::SessionRegistry;
use crate::sync::lock;

/// Most connections to the console. One more is refused.
pub const MAX_CONNECTIONS: usize = 16;

/// Most of these of one person.
pub const MAX_CONNECTIONS_OF_ONE: usize = 8;

/// A verified person on the console.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Id of the connection.
    pub session: SessionId,
    /// The client's address.
    pub client: ClientAddr,
    /// The listener's name.
    pub listener: String,
    /// URL of the issuer.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// The right.
    pub right: ConsoleRight,
    /// End of the token's acceptance.
    pub accepted_until: SystemTime,
}

/// A command on its way to the desk.
#[derive(Debug)]
pub struct ConsoleRequest {
    operator: Operator,
    command: Command,
    rows: RowEncoder,
    reply: oneshot::Sender<Result<CommandAnswer, CommandFailure>>,
}

/// The way to the desk. Each connection has at most one command under way, so that the queue never holds more than
/// [`MAX_CONNECTIONS`].
#[derive(Debug)]
pub struct ConsoleDoor {
    requests: mpsc::Sender<ConsoleRequest>,
    incoming: Mutex<Option<mpsc::Receiver<ConsoleRequest>>>,
    /// The connections to the console.
    pub(crate) sessions: Arc<SessionRegistry>,
    places: Arc<PermitCounter>,
    people: Arc<KeyedCounter<(String, String)>>,
}

impl Default for ConsoleDoor {
    fn default() -> Self {
        let (requests, incoming) = mpsc::channel(MAX_CONNECTIONS);
        Self {
            requests,
            incoming: Mutex::new(Some(incoming)),
            sessions: Arc::default(),
            places: Arc::default(),
            people: Arc::default(),
        }
    }
}

impl ConsoleDoor {
    /// The requests, for the desk; once.
    pub fn incoming(&self) -> Option<mpsc::Receiver<ConsoleRequest>> {
        lock(&self.incoming).take()
    }

    /// Has a command executed.
    async fn ask(
        &self,
        operator: Operator,
        command: Command,
        rows: RowEncoder,
    ) -> Result<CommandAnswer, CommandFailure> {
        let (reply, answer) = oneshot::channel();
        let request = ConsoleRequest { operator, command, rows, reply };
        if self.requests.send(request).await.is_err() {
            return Err(CommandFailure::new("57P01", "the service is stopping"));
        }
        answer.await.unwrap_or_else(|_| {
            let failure = CommandFailure::new("XX000", "the command failed by a fault of pgpassport");
            Err(failure.hint("The log has the cause."))
        })
    }
}
