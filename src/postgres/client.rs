//! Client side of a login: first packets, request for the token, welcome or refusal.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pgwire::messages::response::ReadyForQuery;
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::error_response::RefusedLogin;
use super::message::{LoginGreeting, WireError, put};
use super::oauthbearer::{BearerError, Discovery};
use super::password::PasswordError;
use super::startup::StartupParams;
use super::token_method::TokenMethod;
use super::{error_response, limits};
use crate::names::SessionId;
use crate::net::client_stream::ClientStream;
use crate::postgres::cancel::key::CancelKey;
use crate::protocol::{TokenRequestError, WithoutToken};
use crate::refusal::Refusal;
use crate::secret::Jwt;

/// A client that has sent its startup packet, over TLS (or from loopback if allowed), and is not yet
/// authenticated. Only [`super::negotiate::negotiate`] constructs it.
#[derive(Debug)]
pub struct PendingLogin<S> {
    pub(super) stream: ClientStream<S>,
    pub(super) startup: StartupParams,
    /// SASL exchange that has to be completed before the client's token is refused.
    pub(super) open_exchange: Option<Arc<Discovery>>,
}

/// Reason why no token was received.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Error of the password exchange.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Error of the OAUTHBEARER exchange.
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// The request could not be sent.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl TokenRequestError for TokenError {
    fn without_token(&self) -> Option<WithoutToken> {
        match self {
            Self::Password(PasswordError::NoAnswer) | Self::Bearer(BearerError::NoAnswer) => {
                Some(WithoutToken::Left)
            }
            Self::Bearer(BearerError::Discovery) => Some(WithoutToken::Discovery),
            Self::Password(_) | Self::Bearer(_) | Self::Wire(_) => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PendingLogin<S> {
    /// The client's startup parameters.
    pub fn startup(&self) -> &StartupParams {
        &self.startup
    }

    /// The connection.
    pub fn stream(&self) -> &ClientStream<S> {
        &self.stream
    }

    /// Requests the token and reads it.
    pub async fn ask_token(&mut self, token_method: &TokenMethod) -> Result<Jwt, TokenError> {
        let mut question = BytesMut::new();
        if let Some(options) = self.startup.unmet() {
            let spoken = self.startup.protocol().number();
            put(&NegotiateProtocolVersion::new(spoken, options), &mut question)?;
        }
        let method = match token_method {
            TokenMethod::Password => Authentication::CleartextPassword,
            TokenMethod::OAuthBearer(_) => {
                Authentication::SASL(vec![crate::postgres::oauthbearer::MECHANISM.to_owned()])
            }
        };
        put(&method, &mut question)?;
        self.stream.write_all(&question).await.map_err(WireError::from)?;
        self.stream.flush().await.map_err(WireError::from)?;
        match token_method {
            TokenMethod::Password => Ok(crate::postgres::password::read(&mut self.stream).await?),
            TokenMethod::OAuthBearer(discovery) => {
                let answer = crate::postgres::oauthbearer::read(&mut self.stream, discovery).await;
                if answer.as_ref().map_or_else(BearerError::leaves_exchange_open, |_| true) {
                    self.open_exchange = Some(Arc::clone(discovery));
                }
                Ok(answer?)
            }
        }
    }

    /// Welcomes the client: AuthenticationOk, the upstream's parameters, the client's cancel key if the
    /// upstream sent one, ReadyForQuery. From here on the relay owns the stream.
    pub async fn welcome(
        mut self,
        greeting: &LoginGreeting,
        key: Option<&CancelKey>,
    ) -> Result<ClientStream<S>, WireError> {
        let mut out = BytesMut::with_capacity(greeting.messages.len() + 64);
        put(&Authentication::Ok, &mut out)?;
        out.extend_from_slice(&greeting.messages);
        if let Some(key) = key {
            let secret = SecretKey::Bytes(Bytes::copy_from_slice(&key.secret));
            put(&BackendKeyData::new(key.pid, secret), &mut out)?;
        }
        put(&ReadyForQuery::new(greeting.status), &mut out)?;
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        Ok(self.stream)
    }

    /// Refuses the client and ends the connection. An OAUTHBEARER token is first rejected within the SASL
    /// exchange; other reasons are not part of the exchange.
    pub async fn refuse(mut self, refusal: &Refusal, token_method: &TokenMethod, session: SessionId) {
        let say = async {
            if let Some(discovery) = self.open_exchange.filter(|_| refusal.rejects_the_person()) {
                // The refusal follows whatever the client answers.
                let _ = crate::postgres::oauthbearer::fail(&mut self.stream, &discovery).await;
            }
            let login = RefusedLogin { user: self.startup.user(), token_method };
            let refusal = error_response::encode(refusal, login, session);
            self.stream.close_with(&refusal, limits::MAX_PASSWORD_BODY).await
        };
        let _ = timeout(limits::REFUSE_TIMEOUT, say).await; // a client that is gone needs no refusal
    }
}

/// Refuses a client without a startup packet: writes one ErrorResponse and closes, within
/// [`limits::REFUSE_TIMEOUT`]. Errors are ignored.
pub async fn refuse<S>(
    mut stream: ClientStream<S>,
    refusal: &Refusal,
    token_method: &TokenMethod,
    session: SessionId,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let login = RefusedLogin { user: "", token_method };
    let refusal = error_response::encode(refusal, login, session);
    let _ = timeout(limits::REFUSE_TIMEOUT, stream.close_with(&refusal, limits::MAX_PASSWORD_BODY)).await;
}

/// Closes the connection of a cancel, which is the only answer to a cancel. Clients wait for it as a sign
/// that the signal was sent.
pub async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: ClientStream<S>) {
    let _ = timeout(limits::REFUSE_TIMEOUT, stream.shutdown()).await; // a client that is gone waits for nothing
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn refusing() -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = duplex(16);
        let refusing = async {
            let refusal = Refusal::tls_required();
            refuse(ClientStream::Plain(ours), &refusal, &TokenMethod::Password, SessionId::random()).await;
        };
        (theirs, tokio::spawn(refusing))
    }

    #[tokio::test(start_paused = true)]
    async fn c3_a_refusal_waits_two_seconds_for_its_reader() {
        for (pause, whole) in [(1_999, true), (2_001, false)] {
            let (mut theirs, refusing) = refusing();
            sleep(Duration::from_millis(pause)).await;
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard.ends_with(b"\0\0"), whole, "{pause} ms: {heard:?}");
            drop(theirs);
            refusing.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c4_a_refused_client_is_listened_to_for_one_password_and_no_more() {
        let (theirs, refusing) = refusing();
        let (mut reading, mut writing) = tokio::io::split(theirs);
        reading.read_to_end(&mut Vec::new()).await.unwrap();
        let begun = Instant::now();
        let mut sent = 0;
        while sent < 2 * limits::MAX_PASSWORD_BODY && writing.write_all(b"x").await.is_ok() {
            sent += 1;
        }
        refusing.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO, "it was not the time that ended it");
        // The client reads 1,024 bytes at a time, and the pipe holds 16.
        assert!(
            (limits::MAX_PASSWORD_BODY..=limits::MAX_PASSWORD_BODY + 1_024 + 16).contains(&sent),
            "{sent}"
        );
    }
}
