//! End of a session: last message to each side, and its time limit.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{EndCause, LAST_WORDS_TIMEOUT, RelayEnd, RelayPair};
use crate::names::SessionId;
use crate::protocol::{ByteStream, ClientEnd, Protocol, SessionTracker};
use crate::refusal::Refusal;

impl EndCause {
    /// The last error that the client gets.
    pub fn farewell(self) -> Refusal {
        match self {
            Self::ClientIdle => Refusal::idle_session_timeout(),
            Self::IdleInTransaction => Refusal::idle_in_transaction_timeout(),
            Self::Lifetime => Refusal::terminating(
                "session lifetime limit",
                "the session is older than session.max_lifetime, or that of its group, allows",
            )
            .hint("Connect again."),
            Self::TokenExpired => Refusal::terminating(
                "token expiry",
                "the token that this session was opened with has expired",
            )
            .hint("Get a fresh token from your identity provider and connect again."),
            Self::Withdrawn => Refusal::terminating(
                "administrator command",
                "the access of this session's subject or token is withdrawn",
            ),
            Self::Killed => {
                Refusal::terminating("administrator command", "an operator of the proxy ended this session")
            }
            Self::ClusterDrained => Refusal::terminating(
                "administrator command",
                "an operator drains the cluster of this session",
            ),
            Self::Drained | Self::Stopped => {
                Refusal::terminating("administrator command", "the proxy is stopping")
            }
        }
    }
}

impl<P, C, S> RelayPair<P, C, S>
where
    P: Protocol,
    C: ByteStream,
    S: ByteStream,
{
    /// Sends the last messages to both sides concurrently, each within [`LAST_WORDS_TIMEOUT`].
    pub(super) async fn finish(&mut self, end: &RelayEnd, session: SessionId) {
        let last_word = match end {
            RelayEnd::Ended { cause, told: true } => Some(cause.farewell()),
            RelayEnd::ServerLost(_) if self.server_at_rest() => Some(Refusal::server_connection_lost()),
            _ => None,
        };
        let last_word = last_word.map(|word| P::last_words(&word, session, &self.tracker));
        // After a withheld Terminate the client's own close is still to come.
        let stays =
            !matches!(end, RelayEnd::ClientLeft | RelayEnd::ClientLost(_)) || self.client.saw_terminate();
        // Within a COPY, Terminate would violate the protocol; closing also ends the session.
        let polite = matches!(end, RelayEnd::Ended { .. })
            && self.up.is_empty()
            && self.tracker.client_between_messages()
            && !self.tracker.is_transferring();
        let goodbye = async {
            if let Some(word) = last_word {
                self.client.write_all(&word).await?;
            }
            self.client.shutdown().await?;
            // Closing with unread bytes would make the kernel send a reset, which can overtake the last
            // message.
            let mut scratch = [0; 512];
            let client = self.client.get_mut();
            while stays && client.read(&mut scratch).await? > 0 {}
            std::io::Result::Ok(())
        };
        let leave = async {
            if self.reusable.is_some() {
                return Ok(());
            }
            if polite {
                self.server.write_all(P::TERMINATE).await?;
            }
            self.server.shutdown().await
        };
        // A side that has closed gets nothing.
        let _ = tokio::join!(timeout(LAST_WORDS_TIMEOUT, goodbye), timeout(LAST_WORDS_TIMEOUT, leave));
    }
}
