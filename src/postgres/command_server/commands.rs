//! Commands of the proxy, as a client sends them and as they are answered.

use super::{Column, RowEncoder, Rows};

/// The commands that a client can send.
pub trait Commands {
    /// The commands of a text, without comments and empty ones.
    fn split(&self, text: &str) -> Result<Vec<String>, CommandFailure>;

    /// Columns of the answer to `command`; empty for a command that answers no rows.
    fn columns(&self, command: &str) -> Result<&'static [Column], CommandFailure>;

    /// Executes `command`. Its rows go into `rows`.
    fn run(
        &mut self,
        command: &str,
        rows: RowEncoder,
    ) -> impl Future<Output = Result<CommandAnswer, CommandFailure>> + Send;

    /// True between BEGIN and COMMIT or ROLLBACK.
    fn in_transaction(&self) -> bool;
}

/// Answer to a command.
#[derive(Debug, Default)]
pub struct CommandAnswer {
    /// Its rows, unless the command answers none.
    pub rows: Option<Rows>,
    /// Command tag.
    pub tag: String,
    /// Text for a person, shown as a NOTICE.
    pub notice: Option<String>,
}

/// Reason why a command was not executed. The connection continues.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandFailure {
    /// SQLSTATE.
    pub sqlstate: &'static str,
    /// Message.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

impl CommandFailure {
    /// With a message only.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None }
    }

    /// Adds a DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
