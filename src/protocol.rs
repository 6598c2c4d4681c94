//! The seam between the session and a wire protocol. `session/`, `relay/` and `pool/` hold the order of the steps and
//! know no byte of any protocol; a protocol's folder implements [`Protocol`] for a unit type. Dispatch is static: a
//! listener runs the code of one protocol, and the relay calls no function pointer.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::identity::Grant;
use crate::names::SessionId;
use crate::net::dial::ServerStream;
use crate::net::socket::OverTcp;
use crate::refusal::Refusal;

/// A connection that the relay supports.
pub trait ByteStream: AsyncRead + AsyncWrite + OverTcp + Unpin {}

impl<S: AsyncRead + AsyncWrite + OverTcp + Unpin> ByteStream for S {}

/// One wire protocol.
pub trait Protocol: Sized + Send + Sync + fmt::Debug + 'static {
    /// Tracker of a live session's messages.
    type Tracker: SessionTracker;
    /// The client's side of a live session.
    type ClientEnd<C: ByteStream>: ClientEnd<C>;
    /// A client's startup parameters.
    type Startup;
    /// The part of the server's login reply that the client has to hear.
    type Greeting: fmt::Debug + Send;
    /// The server's own description of a session, as a later client of a kept connection has to hear it.
    type Parameters: fmt::Debug + Send;
    /// A reason why a connection cannot be reset, or is not as it was.
    type ResetError: Error + Send;
    /// The way to cancel a session's statements for its client.
    type CancelTarget: fmt::Debug + Send;
    /// The way to cancel a session's statement when the proxy has ended it.
    type StatementCancel: fmt::Debug + Send;
    /// The client's message that ends a session.
    const TERMINATE: &'static [u8];
    /// Longest reset; temporary tables have to be dropped in it.
    const RESET_TIMEOUT: Duration;
    /// Longest time that a login may spend on checks of idle connections, each of which is one round trip. A server that
    /// takes longer counts as dead.
    const CHECK_TIMEOUT: Duration;

    /// The last message to the client of a session that the proxy ends.
    fn last_words(refusal: &Refusal, session: SessionId) -> BytesMut;

    /// The message that tells the client when its token expires; empty for a protocol without such a message.
    fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut;

    /// The wishes of a login. Logins with the same fixed wishes may use the same connection, one after the other.
    fn wishes(grant: &Grant, startup: &Self::Startup) -> LoginWishes;

    /// The description in a greeting. `None` for a server that says too much to be remembered.
    fn parameters(greeting: &Self::Greeting) -> Option<Self::Parameters>;

    /// The greeting that a login with these parameters would bring.
    fn greeting(parameters: &Self::Parameters) -> Self::Greeting;

    /// Whether the session has this name already, so that [`Protocol::check`] need not set it.
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

/// The places that a server has too few of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Places of the whole server.
    Server,
    /// Places of the database user.
    Role,
    /// Places of the database.
    Database,
}

/// State of a live session, as the server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Every message is answered, and no transaction is open.
    Idle,
    /// Every message is answered inside an open transaction.
    InTransaction,
    /// Every message is answered inside a transaction that has failed.
    InFailedTransaction,
    /// A message is unanswered, incomplete or not understood.
    Busy,
}

/// Tracks the state of a live session. Sees the bytes of both directions after they are written and never changes them.
pub trait SessionTracker: fmt::Debug {
    /// Records bytes written to the server.
    fn to_server(&mut self, bytes: &[u8]);

    /// Records bytes written to the client.
    fn to_client(&mut self, bytes: &[u8]);

    /// State of the session.
    fn state(&self) -> SessionState;

    /// True if no answer of the server is outstanding, not even one without effect.
    fn owes_nothing(&self) -> bool;

    /// True during a transfer into which the proxy must not insert a message.
    fn is_transferring(&self) -> bool;

    /// True if the client is at a message boundary.
    fn server_between_messages(&self) -> bool;

    /// True if the server is at a message boundary.
    fn client_between_messages(&self) -> bool;

    /// Number of bytes of `next` that belong to the current message to the client.
    fn rest_of_server_message(&self, next: &[u8]) -> usize;

    /// True if the last complete message of the server was an error that ends the session.
    fn server_ended_with_error(&self) -> bool;

    /// True if the server has reported a changed session parameter to the client.
    fn told_parameter(&self) -> bool;

    /// True if the client has sent its terminating message.
    fn terminated(&self) -> bool;
}

/// The client's side of a live session. Where the server's connection may be kept, it holds the client's
/// [`Protocol::TERMINATE`] back and reports it as the end of the stream.
pub trait ClientEnd<C>: ByteStream {
    /// Wraps a client. `keep` is true if its server connection may be kept.
    fn new(client: C, keep: bool) -> Self;

    /// Takes the permission to keep the server's connection, which is given once. A caller that then does not keep it
    /// has to pass the held message on.
    fn take_permission_to_keep(&mut self) -> bool;

    /// True if the client's terminating message was withheld.
    fn saw_terminate(&self) -> bool;

    /// The client itself, for reading after its end.
    fn get_mut(&mut self) -> &mut C;
}
