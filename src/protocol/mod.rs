//! The seam between the session and a wire protocol. `session/`, `relay/` and `pool/` hold the order of the steps and
//! know no byte of any protocol; a protocol's folder implements [`Protocol`] for a unit type. Dispatch is static: a
//! listener runs the code of one protocol, and the relay calls no function pointer.

mod live;
mod login;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;

pub use self::live::{ByteStream, ClientEnd, SessionState, SessionTracker, WorkCounts};
pub(crate) use self::login::accept_tls;
pub use self::login::{
    CancelContext, CancelOutcome, Entrance, FirstPacket, FurtherLogin, FurtherToken, KeyScope, LoginFailure,
    NegotiationError, ProtocolError, ServerLoginError, Shortage, StartupRequest, TLS_HANDSHAKE_TIMEOUT,
    TokenRequestError, ValidKey, WithoutToken,
};
use crate::identity::Grant;
use crate::names::SessionId;
use crate::net::client_socket::ClientSocket;
use crate::net::client_stream::ClientStream;
use crate::net::dial::{Dialed, ServerStream};
use crate::net::start_tls::StartTls;
use crate::refusal::{Condition, Refusal};
use crate::secret::{IamToken, Jwt};

/// A wire protocol. The items stand in the order of a connection: the listener's side of the login, the login at the
/// server, the pool, cancels, the live session.
pub trait Protocol: StartTls {
    /// State of the process for this protocol, which outlives a configuration.
    type State: fmt::Debug + Send + Sync;
    /// Settings of a listener that only this protocol has.
    type Listen: fmt::Debug + Send + Sync;
    /// A client's startup parameters.
    type Startup: Send + Sync;
    /// A client that has sent its startup parameters over TLS, or from loopback where that is allowed, and is not yet
    /// authenticated.
    type Client: fmt::Debug + Send;
    /// A client whose first packets are refused.
    type Rejected: fmt::Debug + Send;
    /// A connection whose only purpose is a cancel.
    type CancelRequest: fmt::Debug + Send + Sync;
    /// The result of a login at the server.
    type LoginReply: fmt::Debug + Send;
    /// Refusal of a login by the server.
    type LoginError: ServerLoginError;
    /// The part of the server's login reply that the client has to hear.
    type Greeting: fmt::Debug + Send + Sync;
    /// The server's own description of a session, as a later client of a kept connection has to hear it.
    type Parameters: fmt::Debug + Send;
    /// A reason why a connection cannot be reset, or is not as it was.
    type ResetError: Error + Send;
    /// The way to cancel a session's statements for its client.
    type CancelTarget: fmt::Debug + Send;
    /// The client's own way to cancel, valid as long as the session holds it.
    type ClientKey: fmt::Debug + Send + Sync;
    /// The way to cancel a session's statement when the proxy has ended it.
    type StatementCancel: fmt::Debug + Send;
    /// Tracker of a live session's messages.
    type Tracker: SessionTracker + Send;
    /// The part of the welcome that the client's side of the live session needs.
    type ClientFilter: fmt::Debug + Send;
    /// The client's side of a live session.
    type ClientEnd<C: ByteStream>: ClientEnd<C> + Send;
    /// The client's message that ends a session.
    const TERMINATE: &'static [u8];
    /// Longest reset; temporary tables have to be dropped in it.
    const RESET_TIMEOUT: Duration;
    /// Longest time that a login may spend on checks of idle connections, each of which is one round trip. A server that
    /// takes longer counts as dead.
    const CHECK_TIMEOUT: Duration;

    /// True if the listener's way of asking for the token may be used without TLS, from loopback and where the
    /// configuration allows it.
    fn token_may_go_in_clear(listen: &Self::Listen) -> bool;

    /// Exchanges the first packets with a client: TLS, then its startup parameters or its cancel. `stepped` is called
    /// whenever the peer has completed a step and has to take the next one. The caller limits the time.
    fn negotiate(
        socket: ClientSocket,
        entrance: Entrance<'_, Self>,
        stepped: impl Fn() + Send + Sync,
    ) -> impl Future<Output = Result<FirstPacket<Self>, NegotiationError>> + Send;

    /// A client that is refused before anything is read of it. `None` if the protocol has no words for it; its connection is
    /// then closed.
    fn unheard(_socket: ClientSocket) -> Option<Self::Rejected> {
        None
    }

    /// The client's connection.
    fn connection(client: &Self::Client) -> &ClientStream<ClientSocket>;

    /// The client's startup parameters.
    fn startup(client: &Self::Client) -> &Self::Startup;

    /// The request in the startup parameters.
    fn request(startup: &Self::Startup) -> StartupRequest<'_>;

    /// Asks the client for its token and reads it.
    fn ask_token(
        client: &mut Self::Client,
        listen: &Self::Listen,
    ) -> impl Future<Output = Result<Jwt, Box<dyn TokenRequestError>>> + Send;

    /// Tells the client that its session is ready. From here on the relay owns the connection.
    fn welcome(
        client: Self::Client,
        greeting: &Self::Greeting,
        key: Option<&Self::ClientKey>,
    ) -> impl Future<Output = io::Result<(ClientStream<ClientSocket>, Self::ClientFilter)>> + Send;

    /// Greeting for a client of the console, which has these session parameters. `None` if the protocol has no console.
    fn console_greeting(_parameters: &[(&str, &str)]) -> Option<Self::Greeting> {
        None
    }

    /// Refuses the client and ends the connection, within a time limit of the protocol.
    fn refuse(
        client: Self::Client,
        refusal: &Refusal,
        listen: &Self::Listen,
        session: SessionId,
    ) -> impl Future<Output = ()> + Send;

    /// Refuses a client by its first packets and ends the connection, within a time limit of the protocol.
    fn refuse_first(
        rejected: Self::Rejected,
        refusal: &Refusal,
        listen: &Self::Listen,
        session: SessionId,
    ) -> impl Future<Output = ()> + Send;

    /// The client's part of what is said to a server before TLS.
    fn hello(startup: &Self::Startup, state: &Arc<Self::State>) -> Self::Hello;

    /// Logs in at the connected address as the granted user. The token is sent only in answer to a question for a
    /// password in clear. The caller limits the time and goes on to other addresses.
    fn log_in(
        dialed: &mut Dialed<Self>,
        grant: &Grant,
        startup: &Self::Startup,
        token: &IamToken,
    ) -> impl Future<Output = Result<Self::LoginReply, LoginFailure<Self::LoginError>>> + Send;

    /// The session that a login has opened. `further` makes the permission for further logins, for a protocol whose cancels
    /// need one.
    fn opened(
        dialed: Dialed<Self>,
        reply: Self::LoginReply,
        further: impl FnOnce() -> Arc<dyn FurtherLogin>,
    ) -> ServerSession<Self>;

    /// The wishes of a login. Logins with the same fixed wishes may use the same connection, one after the other.
    fn wishes(grant: &Grant, startup: &Self::Startup) -> LoginWishes;

    /// The description in a greeting. `None` for a server that says too much to be remembered; its connection is not
    /// kept.
    fn parameters(greeting: &Self::Greeting) -> Option<Self::Parameters>;

    /// The greeting that a login with these parameters would bring.
    fn greeting(parameters: &Self::Parameters) -> Self::Greeting;

    /// True if the session has this name already, so that [`Protocol::check`] need not set it.
    fn has_name(parameters: &Self::Parameters, name: &str) -> bool;

    /// Gives a session its beginning back. `told_parameter` says that the client has changed parameters, so that the
    /// server is asked for them.
    fn reset(
        stream: &mut ServerStream,
        parameters: &mut Self::Parameters,
        told_parameter: bool,
    ) -> impl Future<Output = Result<(), Self::ResetError>> + Send;

    /// Asks the server of an idle connection whether it is as it was, and sets the session's name.
    fn check(
        stream: &mut ServerStream,
        parameters: &mut Self::Parameters,
        name: Option<&str>,
    ) -> impl Future<Output = Result<(), Self::ResetError>> + Send;

    /// Address of the session's server, and its process id or connection id there.
    fn server_process(target: &Self::CancelTarget) -> (SocketAddr, i64);

    /// Issues the client's key. `None` if the client can have none.
    fn issue_key(
        state: &Arc<Self::State>,
        target: Self::CancelTarget,
        client: &Self::Client,
        scope: KeyScope,
    ) -> Option<Self::ClientKey>;

    /// Invalidates a key of [`KeyScope::ThisSession`]. Returns the target if the key was never used.
    fn retire_key(key: Self::ClientKey) -> Result<Self::CancelTarget, AlreadyUsed>;

    /// Carries out a cancel, within a time limit of the protocol. `proven` is called once if its key is or was valid.
    fn cancel(
        request: &Self::CancelRequest,
        context: CancelContext<'_, Self>,
        proven: impl FnMut(ValidKey) + Send,
    ) -> impl Future<Output = CancelOutcome> + Send;

    /// Closes the connection of a cancel, which is the only answer to it.
    fn close(request: Self::CancelRequest) -> impl Future<Output = ()> + Send;

    /// Cancels the statement of a session that the proxy has ended, and returns true if the server was told. If it cannot
    /// be reached, it notices the end at its next write.
    fn cancel_statement(cancel: Self::StatementCancel) -> impl Future<Output = bool> + Send;

    /// The tracker of a session that begins with this greeting.
    fn tracker(greeting: &Self::Greeting) -> Self::Tracker;

    /// Wraps the client of a live session. `keep` is true if its server connection may be kept.
    fn client_end<C: ByteStream>(client: C, keep: bool, filter: Self::ClientFilter) -> Self::ClientEnd<C>;

    /// The last message to the client of a session that the proxy ends.
    fn last_words(refusal: &Refusal, session: SessionId, tracker: &Self::Tracker) -> BytesMut;

    /// The message that tells the client when its token expires; empty for a protocol without such a message.
    fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut;

    /// SQLSTATE of a condition, for the audit record.
    fn sqlstate(condition: &Condition) -> &str;
}

/// The wishes of a login, compared by the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginWishes {
    /// All that the server learns at the login and cannot change later, in the protocol's own bytes.
    pub fixed: Vec<u8>,
    /// The session's name, where it is set at each checkout instead.
    pub name: Option<String>,
}

/// A session of the granted user on the server, ready for its first statement.
#[derive(Debug)]
pub struct ServerSession<P: Protocol> {
    /// The connection.
    pub stream: ServerStream,
    /// The greeting for the client.
    pub greeting: P::Greeting,
    /// The way to cancel its statements, when the server says.
    pub cancel: Option<P::CancelTarget>,
    /// Cancels its statement when the proxy has ended it.
    pub statement_cancel: Option<P::StatementCancel>,
}

/// A cancel has been carried out for the session, and may arrive at its server at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyUsed;
