//! A server session without a client: a login of the proxy's own, and its queries.

use super::Mysql;
use super::capabilities::Capabilities;
use super::protocol::QUIT_PACKET;
use super::server_login::LoginReply;
use super::text_query;
pub use super::text_query::{QueryError, Row};
use crate::net::dial::{Dialed, ServerStream};
use tokio::io::AsyncWriteExt;

/// A server session without a client.
#[derive(Debug)]
pub struct OwnSession {
    stream: ServerStream,
    capabilities: Capabilities,
}

impl OwnSession {
    /// The session that a login has opened.
    pub fn opened(dialed: Dialed<Mysql>, reply: &LoginReply) -> Self {
        Self { stream: dialed.stream, capabilities: reply.capabilities }
    }

    /// The rows of the answer to `sql`, which is one statement.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, QueryError> {
        text_query::rows(&mut self.stream, self.capabilities, sql).await
    }

    /// Ends the session by `COM_QUIT`.
    pub async fn quit(mut self) -> std::io::Result<()> {
        self.stream.write_all(QUIT_PACKET).await?;
        self.stream.shutdown().await
    }
}
