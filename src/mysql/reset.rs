//! Reset of a server session after its client has left, and check before the next client.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::capabilities::Capabilities;
use super::command::{INIT_DB, PING, RESET_CONNECTION};
use super::connection_ids::ServerConnection;
use super::limits::MAX_LOGIN_PACKET;
use super::packet::{Packet, Sequence, WireError};
use super::second_login::SecondLogin;
use super::server_error::{ERR, LoginStep, ServerError};
use super::server_login::{LoginReply, ok_status};
use super::text_query::{self, QueryError, Row, query};
use super::tracker::IN_TRANSACTION;

/// Longest time for a reset, which may drop temporary tables.
pub const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that a login spends on checks of idle connections, each one round trip. A slower server counts as dead.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const _: () = assert!(CHECK_TIMEOUT.as_millis() < RESET_TIMEOUT.as_millis());

/// Longest OK that is kept with a connection.
const MAX_OK: usize = 1_024;

/// Reason why a reset or check failed.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The server refused a command.
    #[error("the server refused with {0}")]
    Refused(Box<ServerError>),
    /// The server does not know the charset of the login, or names it in an unknown way.
    #[error("the charset of the login cannot be set again")]
    Charset,
    /// The session is in a transaction.
    #[error("the session is in a transaction")]
    InTransaction,
    /// A protocol violation or connection error.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<QueryError> for ResetError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Refused(error) => Self::Refused(error),
            QueryError::Layout(_) => Self::Charset,
            QueryError::Wire(error) => Self::Wire(error),
        }
    }
}

/// Description of a server session, as its login made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// Payload of the server's OK packet.
    pub(super) ok: Vec<u8>,
    /// Status in it.
    pub(super) status: u16,
    /// Flags of the session.
    pub(super) capabilities: Capabilities,
    /// The server's connection.
    pub(super) connection: ServerConnection,
    /// The way to the cluster's servers for a `KILL`.
    pub(super) second: Option<Arc<SecondLogin>>,
    charset: u8,
    database: Option<String>,
}

impl SessionParameters {
    /// The session that a login has opened.
    pub(super) fn of(
        reply: LoginReply,
        connection: ServerConnection,
        second: Option<Arc<SecondLogin>>,
    ) -> Self {
        let LoginReply { ok, status, capabilities, charset, database } = reply;
        Self { ok, status, capabilities, connection, second, charset, database }
    }

    /// The description, for a session that can be reset. No command takes a session back to having no database.
    pub(super) fn to_be_kept(&self) -> Option<Self> {
        (self.ok.len() <= MAX_OK && self.database.is_some()).then(|| self.clone())
    }
}

/// Resets the session on `stream`: `COM_RESET_CONNECTION`, then the database and charset of the login, which that command
/// does not set again.
pub(super) async fn reset<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    parameters: &SessionParameters,
) -> Result<(), ResetError> {
    simple(stream, &[RESET_CONNECTION]).await?;
    let database = parameters.database.as_deref().unwrap_or_default();
    simple(stream, &[&[INIT_DB], database.as_bytes()].concat()).await?;
    let (charset, collation) = charset(stream, parameters).await?;
    // Both were checked, and are of letters, digits and underscores.
    simple(stream, &query(parameters.capabilities, &format!("SET NAMES {charset} COLLATE {collation}")))
        .await?;
    Ok(())
}

/// Checks that the server of an idle connection is alive and outside a transaction.
pub(super) async fn check<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), ResetError> {
    simple(stream, &[PING]).await
}

/// A command that is answered by one OK, outside a transaction.
async fn simple<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, command: &[u8]) -> Result<(), ResetError> {
    let mut sequence = Sequence::default();
    sequence.write(stream, command).await?;
    let answer = next(stream, &mut sequence).await?;
    let status =
        ok_status(&answer.payload).ok_or(WireError::Unexpected(answer.kind().unwrap_or_default()))?;
    if status & IN_TRANSACTION != 0 { Err(ResetError::InTransaction) } else { Ok(()) }
}

/// The names of the login's charset and collation, which the handshake gave as a number.
async fn charset<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    parameters: &SessionParameters,
) -> Result<(String, String), ResetError> {
    let question = format!(
        "SELECT CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATIONS WHERE ID = {}",
        parameters.charset
    );
    let rows = text_query::rows(stream, parameters.capabilities, &question).await?;
    match rows.as_slice() {
        [row] => names(row).ok_or(ResetError::Charset),
        _ => Err(ResetError::Charset),
    }
}

/// Two names in a row, of letters, digits and underscores.
fn names(row: &Row) -> Option<(String, String)> {
    let plain = |name: &String| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let name = |name: &Option<String>| name.clone().filter(plain);
    match row.as_slice() {
        [charset, collation] => Some((name(charset)?, name(collation)?)),
        _ => None,
    }
}

/// The next packet of an answer that is no error.
async fn next<S: AsyncRead + Unpin>(stream: &mut S, sequence: &mut Sequence) -> Result<Packet, ResetError> {
    let packet = sequence.read(stream, MAX_LOGIN_PACKET).await?;
    if packet.kind() == Some(ERR) {
        let error = ServerError::parse(&packet.payload, LoginStep::Token)?;
        return Err(ResetError::Refused(Box::new(error)));
    }
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const OK: &[u8] = b"\0\0\0\x02\0\0\0";

    fn parameters(capabilities: Capabilities) -> SessionParameters {
        let reply = LoginReply {
            ok: OK.to_vec(),
            status: 2,
            capabilities,
            charset: 45,
            database: Some("app".into()),
        };
        let connection = ServerConnection { server: "10.0.0.1:3306".parse().unwrap(), number: 7 };
        SessionParameters::of(reply, connection, None)
    }

    /// Resets at a server that answers each command with packets, and returns the commands.
    async fn at(capabilities: Capabilities, answers: &[&[&[u8]]]) -> (Result<(), ResetError>, Vec<Vec<u8>>) {
        let (mut ours, mut theirs) = duplex(1 << 16);
        let answers: Vec<Vec<Vec<u8>>> =
            answers.iter().map(|answer| answer.iter().map(|packet| packet.to_vec()).collect()).collect();
        let server = tokio::spawn(async move {
            let mut heard = Vec::new();
            for answer in answers {
                let mut sequence = Sequence::default();
                let Ok(packet) = sequence.read(&mut theirs, 1 << 16).await else { break };
                heard.push(packet.payload.clone());
                for packet in answer {
                    let _ = sequence.write(&mut theirs, &packet).await;
                }
            }
            heard
        });
        let result = reset(&mut ours, &parameters(capabilities)).await;
        drop(ours);
        (result, server.await.unwrap())
    }

    const COLUMNS: [&[u8]; 3] = [&[2], b"\x03def1", b"\x03def2"];
    const NAMES: &[u8] = b"\x07utf8mb4\x12utf8mb4_general_ci";
    const EOF: &[u8] = b"\xfe\0\0\x02\0\0\0";

    #[tokio::test]
    async fn a_reset_takes_back_variables_database_and_charset() {
        let rows = [COLUMNS[0], COLUMNS[1], COLUMNS[2], NAMES, EOF];
        let attributes = Capabilities::COMMON | Capabilities::QUERY_ATTRIBUTES;
        for (capabilities, before) in [(Capabilities::COMMON, ""), (attributes, "\0\u{1}")] {
            let (result, heard) = at(capabilities, &[&[OK], &[OK], &rows, &[OK]]).await;
            result.unwrap();
            assert_eq!(heard[..2], [b"\x1f".to_vec(), b"\x02app".to_vec()]);
            let set = format!("\x03{before}SET NAMES utf8mb4 COLLATE utf8mb4_general_ci");
            assert_eq!((heard.len(), &heard[3][..]), (4, set.as_bytes()));
        }
        let classic =
            Capabilities::from_bits(Capabilities::COMMON.bits() & !Capabilities::DEPRECATE_EOF.bits());
        let rows = [COLUMNS[0], COLUMNS[1], COLUMNS[2], b"\xfe\0\0\x02\0", NAMES, b"\xfe\0\0\x02\0"];
        at(classic, &[&[OK], &[OK], &rows, &[OK]]).await.0.unwrap();
    }

    #[tokio::test]
    async fn anything_else_fails_the_reset() {
        let error = b"\xff\x17\x04#08S01no";
        assert!(matches!(at(Capabilities::COMMON, &[&[error]]).await.0, Err(ResetError::Refused(_))));
        let in_transaction = b"\0\0\0\x03\0\0\0";
        assert!(matches!(
            at(Capabilities::COMMON, &[&[in_transaction]]).await.0,
            Err(ResetError::InTransaction)
        ));
        assert!(matches!(at(Capabilities::COMMON, &[&[OK], &[error]]).await.0, Err(ResetError::Refused(_))));
        for row in [&b"\xfb\xfb"[..], b"\0\0", b"\x02a'\x01b", b"\x01a\x01b\x01c", b"\x01a"] {
            let rows = [COLUMNS[0], COLUMNS[1], COLUMNS[2], row, EOF];
            let (result, heard) = at(Capabilities::COMMON, &[&[OK], &[OK], &rows, &[OK]]).await;
            assert!(matches!(result, Err(ResetError::Charset)) && heard.len() == 3, "{row:?}: {result:?}");
        }
        let none = [COLUMNS[0], COLUMNS[1], COLUMNS[2], EOF];
        assert!(matches!(at(Capabilities::COMMON, &[&[OK], &[OK], &none]).await.0, Err(ResetError::Charset)));
        let many = [COLUMNS[0], COLUMNS[1], COLUMNS[2], NAMES, NAMES, EOF];
        assert!(matches!(at(Capabilities::COMMON, &[&[OK], &[OK], &many]).await.0, Err(ResetError::Charset)));
    }

    #[test]
    fn a_session_without_a_database_is_not_kept() {
        let kept = parameters(Capabilities::COMMON);
        assert_eq!(kept.to_be_kept(), Some(kept.clone()));
        assert_eq!(SessionParameters { database: None, ..kept.clone() }.to_be_kept(), None);
        assert_eq!(SessionParameters { ok: vec![0; MAX_OK + 1], ..kept }.to_be_kept(), None);
    }
}
