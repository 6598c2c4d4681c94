//! The seam between the session and a wire protocol. `session/`, `relay/` and `pool/` hold the order of the steps and
//! know no byte of any protocol; a protocol's folder implements [`Protocol`] for a unit type. Dispatch is static: a
//! listener runs the code of one protocol, and the relay calls no function pointer.

use std::fmt;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::names::SessionId;
use crate::net::socket::OverTcp;
use crate::refusal::Refusal;

/// A connection that the relay can carry.
pub trait ByteStream: AsyncRead + AsyncWrite + OverTcp + Unpin {}

impl<S: AsyncRead + AsyncWrite + OverTcp + Unpin> ByteStream for S {}

/// One wire protocol.
pub trait Protocol: Sized + Send + Sync + fmt::Debug + 'static {
    /// The observer of a live session's messages.
    type Tracker: SessionTracker;
    /// The client's side of a live session.
    type ClientEnd<C: ByteStream>: ClientEnd<C>;
    /// The client's message that ends a session.
    const TERMINATE: &'static [u8];

    /// The last message to the client of a session that the proxy ends.
    fn last_words(refusal: &Refusal, session: SessionId) -> BytesMut;

    /// The message that announces to the client when its token expires; empty for a protocol that has none.
    fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut;
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

/// The observer of a live session: it sees the bytes of both directions once they are written, and never changes them.
pub trait SessionTracker: fmt::Debug {
    /// Takes note of bytes that the server has taken.
    fn to_server(&mut self, bytes: &[u8]);

    /// Takes note of bytes that the client has taken.
    fn to_client(&mut self, bytes: &[u8]);

    /// State of the session.
    fn state(&self) -> SessionState;

    /// Whether the server owes no answer, not even one that changes nothing.
    fn owes_nothing(&self) -> bool;

    /// Whether a transfer is under way in which the proxy must not speak.
    fn is_transferring(&self) -> bool;

    /// Whether the client has whole messages only.
    fn server_between_messages(&self) -> bool;

    /// Whether the server has whole messages only.
    fn client_between_messages(&self) -> bool;

    /// Bytes that are missing to the end of the message under way to the client; `next` are the bytes behind it.
    fn rest_of_server_message(&self, next: &[u8]) -> usize;

    /// Whether the last whole message of the server was an error that ends the session.
    fn server_ended_with_error(&self) -> bool;

    /// Whether the server has told the client of a change of a session parameter.
    fn told_parameter(&self) -> bool;

    /// Whether the client has ended the session by its own message.
    fn terminated(&self) -> bool;
}

/// The client's side of a live session. Where the server's connection may be kept, it holds the client's
/// [`Protocol::TERMINATE`] back and reports it as the end of the stream.
pub trait ClientEnd<C>: ByteStream {
    /// Takes over a client; `keep` says whether its server's connection may be kept.
    fn new(client: C, keep: bool) -> Self;

    /// Takes the permission to keep the server's connection, which is given once. A caller that then does not keep it
    /// has to pass the held message on.
    fn take_permission_to_keep(&mut self) -> bool;

    /// Whether the client's terminating message is held back.
    fn saw_terminate(&self) -> bool;

    /// The client itself, for the bytes behind its end.
    fn get_mut(&mut self) -> &mut C;
}
