//! PostgreSQL as the session sees it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::time::Instant;

use super::cancel::deliver::{CancelEntrance, Delivered, StatementCancel, Undelivered, deliver};
use super::cancel::key::CancelKey;
use super::cancel::{CancelIgnored, CancelKeys, CancelTarget, ClientKey};
use super::client::PendingLogin;
use super::message::{LoginGreeting, WireError};
use super::reset::{ResetError, ServerParameters};
use super::server_login::{LoginParameters, LoginReply, UpstreamLoginError, UpstreamSession};
use super::startup::StartupParams;
use super::terminate::{TerminateFilter, TerminatingClient};
use super::token_method::TokenMethod;
use super::tracker::Tracker;
use super::{
    Postgres, client, command_server, error_response, limits, message, negotiate, reset, server_login, wishes,
};
use crate::identity::Grant;
use crate::names::SessionId;
use crate::net::client_socket::ClientSocket;
use crate::net::client_stream::ClientStream;
use crate::net::dial::{Dialed, ServerStream};
use crate::protocol::{
    AlreadyUsed, ByteStream, CancelContext, CancelOutcome, Entrance, FirstPacket, FurtherLogin, KeyScope,
    LoginFailure, LoginWishes, NegotiationError, Protocol, StartupRequest, TokenRequestError, ValidKey,
};
use crate::refusal::{Condition, Refusal};
use crate::secret::{IamToken, Jwt};

/// A connection with a CancelRequest.
#[derive(Debug)]
pub struct CancelConnection {
    stream: ClientStream<ClientSocket>,
    key: CancelKey,
}

impl Protocol for Postgres {
    type State = CancelKeys;
    type Listen = TokenMethod;
    type Startup = StartupParams;
    type Client = PendingLogin<ClientSocket>;
    type Rejected = ClientStream<ClientSocket>;
    type CancelRequest = CancelConnection;
    type LoginReply = LoginReply;
    type LoginError = UpstreamLoginError;
    type Greeting = LoginGreeting;
    type Parameters = ServerParameters;
    type ResetError = ResetError;
    type CancelTarget = CancelTarget;
    type ClientKey = ClientKey;
    type StatementCancel = StatementCancel;
    type Tracker = Tracker;
    type ClientFilter = ();
    type ClientEnd<C: ByteStream> = TerminatingClient<C>;
    const TERMINATE: &'static [u8] = message::TERMINATE;
    const RESET_TIMEOUT: Duration = reset::RESET_TIMEOUT;
    const CHECK_TIMEOUT: Duration = reset::CHECK_TIMEOUT;

    /// Never with OAUTHBEARER: the mechanism sends the token unprotected (RFC 7628, section 5).
    fn token_may_go_in_clear(method: &TokenMethod) -> bool {
        matches!(method, TokenMethod::Password)
    }

    async fn negotiate(
        socket: ClientSocket,
        entrance: Entrance<'_, Self>,
        stepped: impl Fn() + Send + Sync,
    ) -> Result<FirstPacket<Self>, NegotiationError> {
        let first =
            negotiate::negotiate(socket, entrance.acceptor, entrance.plaintext_allowed, stepped).await?;
        Ok(match first {
            negotiate::FirstPacket::Login(client) => FirstPacket::Login(client),
            negotiate::FirstPacket::Cancel(stream, key) => {
                FirstPacket::Cancel(CancelConnection { stream, key })
            }
            negotiate::FirstPacket::Rejected(stream, why) => FirstPacket::Rejected(stream, Box::new(why)),
        })
    }

    fn unheard(socket: ClientSocket) -> Option<Self::Rejected> {
        Some(ClientStream::Plain(socket))
    }

    fn connection(client: &Self::Client) -> &ClientStream<ClientSocket> {
        client.stream()
    }

    fn startup(client: &Self::Client) -> &StartupParams {
        client.startup()
    }

    fn request(startup: &StartupParams) -> StartupRequest<'_> {
        StartupRequest {
            user: startup.user(),
            database: startup.database(),
            application: startup.other("application_name"),
            options: startup.other("options"),
            settings: startup.settings(),
        }
    }

    async fn ask_token(
        client: &mut Self::Client,
        method: &TokenMethod,
    ) -> Result<Jwt, Box<dyn TokenRequestError>> {
        client.ask_token(method).await.map_err(|why| Box::new(why) as _)
    }

    fn console_greeting(parameters: &[(&str, &str)]) -> Option<LoginGreeting> {
        command_server::greeting(parameters.iter().copied()).ok()
    }

    async fn welcome(
        client: Self::Client,
        greeting: &LoginGreeting,
        key: Option<&ClientKey>,
    ) -> io::Result<(ClientStream<ClientSocket>, ())> {
        match client.welcome(greeting, key.map(|key| &key.key)).await {
            Ok(stream) => Ok((stream, ())),
            Err(WireError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    async fn refuse(client: Self::Client, refusal: &Refusal, method: &TokenMethod, session: SessionId) {
        client.refuse(refusal, method, session).await;
    }

    async fn refuse_first(
        stream: Self::Rejected,
        refusal: &Refusal,
        method: &TokenMethod,
        session: SessionId,
    ) {
        client::refuse(stream, refusal, method, session).await;
    }

    fn hello(_: &StartupParams, _: &Arc<CancelKeys>) {}

    async fn log_in(
        dialed: &mut Dialed<Self>,
        grant: &Grant,
        startup: &StartupParams,
        token: &IamToken,
    ) -> Result<LoginReply, LoginFailure<UpstreamLoginError>> {
        server_login::log_in(dialed, LoginParameters::of(grant, startup), token).await
    }

    fn opened(
        dialed: Dialed<Self>,
        reply: LoginReply,
        _further: impl FnOnce() -> Arc<dyn FurtherLogin>,
    ) -> UpstreamSession {
        UpstreamSession::opened(dialed, reply)
    }

    fn wishes(grant: &Grant, startup: &StartupParams) -> LoginWishes {
        wishes::of(grant, startup)
    }

    fn parameters(greeting: &LoginGreeting) -> Option<ServerParameters> {
        ServerParameters::of(greeting)
    }

    fn greeting(parameters: &ServerParameters) -> LoginGreeting {
        parameters.greeting()
    }

    fn has_name(parameters: &ServerParameters, name: &str) -> bool {
        parameters.has_name(name)
    }

    async fn reset(
        stream: &mut ServerStream,
        parameters: &mut ServerParameters,
        told_parameter: bool,
    ) -> Result<(), ResetError> {
        reset::reset(stream, parameters, told_parameter).await
    }

    async fn check(
        stream: &mut ServerStream,
        parameters: &mut ServerParameters,
        name: Option<&str>,
    ) -> Result<(), ResetError> {
        reset::check(stream, parameters, name).await
    }

    fn server_process(target: &CancelTarget) -> (SocketAddr, i64) {
        (target.addr, i64::from(target.key.pid))
    }

    fn issue_key(
        keys: &Arc<CancelKeys>,
        target: CancelTarget,
        client: &Self::Client,
        scope: KeyScope,
    ) -> Option<ClientKey> {
        keys.issue(target, client.startup().protocol(), scope)
    }

    fn retire_key(key: ClientKey) -> Result<CancelTarget, AlreadyUsed> {
        key.retire()
    }

    async fn cancel(
        request: &CancelConnection,
        context: CancelContext<'_, Self>,
        mut proven: impl FnMut(ValidKey) + Send,
    ) -> CancelOutcome {
        let CancelContext { state, dialers, listener, source } = context;
        let entrance = CancelEntrance { listener, server_name: request.stream.server_name() };
        let deadline = Instant::now() + limits::CANCEL_TIMEOUT;
        let delivered = async {
            let order = state.judge(&request.key, source, deadline).await?;
            if order.server().is_some() {
                proven(ValidKey::Live);
            }
            deliver(dialers, entrance, &order, deadline).await
        };
        match delivered.await {
            Ok(Delivered::To(told)) => CancelOutcome::Forwarded(told),
            Ok(Delivered::Together) => CancelOutcome::Together,
            Err(Undelivered::Ignored(why)) => {
                if why == CancelIgnored::Ended {
                    proven(ValidKey::Ended);
                }
                CancelOutcome::Ignored(Box::new(why))
            }
            Err(why @ (Undelivered::NoCancels | Undelivered::Failed(_))) => {
                CancelOutcome::Failed(Box::new(why))
            }
        }
    }

    async fn close(request: CancelConnection) {
        client::close(request.stream).await;
    }

    async fn cancel_statement(cancel: StatementCancel) -> bool {
        cancel.send().await
    }

    fn tracker(greeting: &LoginGreeting) -> Tracker {
        Tracker::new(greeting.status_byte())
    }

    fn client_end<C: ByteStream>(client: C, keep: bool, (): ()) -> TerminatingClient<C> {
        TerminatingClient { stream: client, filter: TerminateFilter::new(keep) }
    }

    fn last_words(refusal: &Refusal, session: SessionId, _: &Tracker) -> BytesMut {
        error_response::last_words(refusal, session)
    }

    fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut {
        error_response::token_expires(expires, now, session)
    }

    fn sqlstate(condition: &Condition) -> &str {
        error_response::sqlstate(condition)
    }
}
