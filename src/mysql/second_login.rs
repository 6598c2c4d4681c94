//! A second login of a session's user, for a `KILL` that the session's own connection cannot carry: of a session at
//! another server, of a client of another replica, or of a session that the proxy has ended. The server decides about
//! the permission, as for a `KILL` of the user's own.

use std::fmt;
use std::net::SocketAddr;
use std::ptr;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::Mysql;
use super::command::{QUERY, QUIT};
use super::connection_ids::{KillTarget, ServerConnection};
use super::exchange::{CommandError, next, simple};
use super::kill::{self, KillErrand, RemoteKill};
use super::limits::{KILL_TIMEOUT, MAX_ANSWER_PACKETS, MAX_KILL_SERVERS};
use super::login_request::{LoginParameters, NamedAttributes};
use super::packet::{Fields, Sequence, WireError};
use super::response::ClientStartup;
use super::server_login::{self, ServerLoginError};
use crate::net::dial::{DialError, Dialer, ServerStream};
use crate::protocol::FurtherLogin;

/// `ER_NO_SUCH_THREAD`: the session has ended by itself.
const NO_SUCH_THREAD: u16 = 1094;

/// Reason why a `KILL` was not carried out.
#[derive(Debug, thiserror::Error)]
enum KillError {
    #[error("the credentials of the session's login have expired, or too many logins wait")]
    NoToken,
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Login(#[from] ServerLoginError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("the server knows no such client")]
    NotFound,
    #[error("no answer in time")]
    TimedOut,
}

impl From<WireError> for KillError {
    fn from(error: WireError) -> Self {
        Self::Command(error.into())
    }
}

/// The way of a session's user to the servers of the cluster.
pub struct SecondLogin {
    dialer: Arc<Dialer<Mysql>>,
    login: Arc<dyn FurtherLogin>,
}

impl PartialEq for SecondLogin {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for SecondLogin {}

impl fmt::Debug for SecondLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondLogin").field("login", &self.login).finish_non_exhaustive()
    }
}

impl RemoteKill for SecondLogin {
    fn kill(self: Arc<Self>, packet: Vec<u8>, target: KillTarget) -> KillErrand {
        Box::pin(async move {
            let deadline = Instant::now() + KILL_TIMEOUT;
            let Ok(Ok(_place)) = timeout_at(deadline, self.dialer.cancels.acquire()).await else {
                return false;
            };
            let servers = match target {
                KillTarget::Here(_) => Vec::new(), // the session's own connection carries it
                KillTarget::Elsewhere(connection) => vec![connection.server],
                KillTarget::Unknown(_) => self.dialer.candidates(deadline).await,
            };
            let one = async |server| self.kill_at(server, &packet, target, deadline).await;
            join_all(servers.into_iter().take(MAX_KILL_SERVERS).map(one)).await.contains(&true)
        })
    }
}

impl SecondLogin {
    /// The way of `login`'s user to the servers of `dialer`'s cluster. `None` where the servers' connection numbers mean
    /// nothing to a `KILL` (RDS Proxy).
    pub(super) fn new(dialer: Arc<Dialer<Mysql>>, login: Arc<dyn FurtherLogin>) -> Option<Arc<Self>> {
        dialer.takes_cancels().then(|| Arc::new(Self { dialer, login }))
    }

    /// Sends a `KILL` to one server. True if it was accepted.
    async fn kill_at(
        &self,
        server: SocketAddr,
        packet: &[u8],
        target: KillTarget,
        deadline: Instant,
    ) -> bool {
        let work = async {
            let mut stream = self.log_in(server, deadline).await?;
            let number = match target {
                KillTarget::Here(number) | KillTarget::Elsewhere(ServerConnection { number, .. }) => number,
                KillTarget::Unknown(id) => find(&mut stream, id).await?.ok_or(KillError::NotFound)?,
            };
            simple(&mut stream, &kill::statement(packet, number)).await?;
            leave(stream).await;
            Ok(())
        };
        let done = timeout_at(deadline, work).await.unwrap_or(Err(KillError::TimedOut));
        if let Err(error) = &done {
            tracing::debug!(addr = %server, %error, "a KILL for another connection was not carried out");
        }
        done.is_ok()
    }

    /// Logs in, without a database.
    async fn log_in(&self, server: SocketAddr, deadline: Instant) -> Result<ServerStream, KillError> {
        let startup = ClientStartup::of_proxy();
        let mut dialed = self.dialer.dial_addr(server, &startup.features, deadline).await?;
        let token = self.login.token().await.ok_or(KillError::NoToken)?;
        let wanted = LoginParameters {
            user: self.login.user(),
            database: None,
            startup: &startup,
            attributes: &NamedAttributes::default(),
        };
        let mut sequence = Sequence::within_tls();
        server_login::log_in(&mut dialed.stream, &mut sequence, &dialed.opening, wanted, &token).await?;
        Ok(dialed.stream)
    }
}

/// The proxy's own `KILL` of a session that it has ended in mid-statement.
#[derive(Debug)]
pub struct StatementKill {
    second: Arc<SecondLogin>,
    connection: ServerConnection,
}

impl StatementKill {
    /// For the session of `connection`.
    pub(super) fn new(second: Arc<SecondLogin>, connection: ServerConnection) -> Self {
        Self { second, connection }
    }

    /// Ends the session at its server. True if the server has accepted it. If it cannot be reached, it notices the end at
    /// its next write.
    pub(super) async fn send(self) -> bool {
        let Self { second, connection } = self;
        let deadline = Instant::now() + KILL_TIMEOUT;
        let Ok(Ok(_slot)) = timeout_at(deadline, second.dialer.recalls.acquire()).await else { return false };
        let work = async {
            let mut stream = second.log_in(connection.server, deadline).await?;
            let kill = format!("KILL {}", connection.number);
            match simple(&mut stream, &[&[QUERY], kill.as_bytes()].concat()).await {
                Err(CommandError::Refused(error)) if error.errno == NO_SUCH_THREAD => {}
                answer => answer?,
            }
            leave(stream).await;
            Ok(())
        };
        let done: Result<(), KillError> =
            timeout_at(deadline, work).await.unwrap_or(Err(KillError::TimedOut));
        if let Err(error) = &done {
            tracing::debug!(addr = %connection.server, %error, "a statement of an ended session may go on");
        }
        done.is_ok()
    }
}

/// Ends the connection politely. It has done its work, so a fault has no effect.
async fn leave(mut stream: ServerStream) {
    let _ = Sequence::default().write(&mut stream, &[QUIT]).await;
    let _ = stream.shutdown().await;
}

/// Number at this server of the connection whose client has this id at another replica, by the attribute that the replica
/// has given it. The server shows a user only connections of the same account. `None` also where its performance schema is
/// off.
async fn find<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    id: u32,
) -> Result<Option<u32>, CommandError> {
    let question = format!(
        "SELECT PROCESSLIST_ID FROM performance_schema.session_account_connect_attrs \
         WHERE ATTR_NAME = '{}' AND ATTR_VALUE = '{id}'",
        NamedAttributes::CONNECTION_ID
    );
    let mut sequence = Sequence::default();
    sequence.write(stream, &[&[QUERY], question.as_bytes()].concat()).await?;
    if next(stream, &mut sequence).await?.payload != [1] {
        return Err(WireError::Malformed("result of one column").into());
    }
    let mut found = Vec::new();
    let (definition_and_eof, mut read) = (2, 0);
    while read < MAX_ANSWER_PACKETS {
        let packet = next(stream, &mut sequence).await?;
        read += 1;
        if read <= definition_and_eof {
            continue;
        }
        if packet.kind() == Some(0xfe) {
            return Ok(match found[..] {
                [number] => Some(number),
                _ => None,
            });
        }
        let number =
            Fields::of(&packet.payload).with_length().and_then(|text| std::str::from_utf8(text).ok());
        found.push(
            number.and_then(|text| text.parse().ok()).ok_or(WireError::Malformed("connection number"))?,
        );
    }
    Err(WireError::Malformed("result of one row").into())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// The number that is found at a server that answers with these packets.
    async fn found(answer: &[&[u8]]) -> Result<Option<u32>, CommandError> {
        let (mut ours, mut theirs) = duplex(1 << 16);
        let answer: Vec<Vec<u8>> = answer.iter().map(|packet| packet.to_vec()).collect();
        let server = tokio::spawn(async move {
            let mut sequence = Sequence::default();
            let asked = sequence.read(&mut theirs, 1 << 10).await.unwrap().payload.clone();
            for packet in answer {
                let _ = sequence.write(&mut theirs, &packet).await;
            }
            asked
        });
        let found = find(&mut ours, 0x4000_0001).await;
        drop(ours);
        let asked = String::from_utf8(server.await.unwrap()).unwrap();
        assert!(asked.starts_with("\u{3}SELECT ") && asked.ends_with("= '1073741825'"), "{asked}");
        found
    }

    #[tokio::test]
    async fn one_row_with_one_number_is_a_connection() {
        let (count, definition, eof) = (&[1][..], &b"\x03def"[..], &b"\xfe\0\0\x02\0"[..]);
        assert_eq!(found(&[count, definition, eof, b"\x0242", eof]).await.unwrap(), Some(42));
        assert_eq!(found(&[count, definition, eof, eof]).await.unwrap(), None, "no such client here");
        let two = [count, definition, eof, b"\x0242", b"\x0243", eof];
        assert_eq!(found(&two).await.unwrap(), None, "not decided");
        for odd in [&b"\xfb"[..], b"\0", b"\x02x1", b"\x05-1", b"\x0b99999999999"] {
            let result = found(&[count, definition, eof, odd, eof]).await;
            assert!(matches!(result, Err(CommandError::Wire(_))), "{odd:?}: {result:?}");
        }
        let many = [&[count, definition, eof][..], &[&b"\x011"[..]; MAX_ANSWER_PACKETS]].concat();
        assert!(matches!(found(&many).await, Err(CommandError::Wire(_))));
        let refused = found(&[b"\xff\x76\x04#42000no"]).await;
        assert!(matches!(refused, Err(CommandError::Refused(_))), "{refused:?}");
        assert!(matches!(found(&[b"\x02"]).await, Err(CommandError::Wire(_))));
    }
}
