//! Commands of the proxy, as a client sends them and as they are answered.

use super::{Column, RowEncoder, Rows};
use crate::postgres::command_failure::CommandFailure;

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
