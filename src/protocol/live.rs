//! A live session, as the relay sees it: tracker of its messages, and the client's side.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::socket::OverTcp;

/// A connection that the relay supports.
pub trait ByteStream: AsyncRead + AsyncWrite + OverTcp + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + OverTcp + Unpin + Send> ByteStream for S {}

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

/// Queries and transactions that a session has completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkCounts {
    /// Answered requests of the client that execute something, failed ones included.
    pub queries: u64,
    /// Transactions that have ended, those of single statements included.
    pub transactions: u64,
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

    /// Queries and transactions so far.
    fn counts(&self) -> WorkCounts;
}

/// The client's side of a live session. Where the server's connection may be kept, it holds the client's
/// [`Protocol::TERMINATE`](super::Protocol::TERMINATE) back and reports it as the end of the stream.
pub trait ClientEnd<C>: ByteStream {
    /// Takes the permission to keep the server's connection, which is given once. A caller that then does not keep it
    /// has to pass the held message on.
    fn take_permission_to_keep(&mut self) -> bool;

    /// True if the client's terminating message was withheld.
    fn saw_terminate(&self) -> bool;

    /// The client itself, for reading after its end.
    fn get_mut(&mut self) -> &mut C;
}
