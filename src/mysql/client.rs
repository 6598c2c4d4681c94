//! Client side of a login: greeting, TLS, the client's response, request for the token, welcome or refusal.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::error_packet::{RefusedLogin, encode};
use super::greeting::ServerIdentity;
use super::limits;
use super::packet::{HEADER, Sequence, WireError, split_header};
use super::question::{self, TokenError, TokenMethod};
use super::response::{ClientStartup, EarlyAnswer, SSL_REQUEST_LENGTH, StartupError};
use crate::names::SessionId;
use crate::net::client_stream::ClientStream;
use crate::protocol::{NegotiationError, accept_tls};
use crate::refusal::Refusal;
use crate::secret::Jwt;

/// Beginnings of a load balancer's header, PROXY protocol versions 1 and 2, which no listener setting announces.
const PROXY_HEADERS: [[u8; HEADER]; 2] = [*b"PROX", *b"\r\n\r\n"];

/// Kind of a connection.
#[derive(Debug)]
pub enum Met<S> {
    /// A client that may be asked for its token.
    Login(PendingClient<S>, ClientStartup),
    /// A client that gets a refusal.
    Rejected(RejectedClient<S>, StartupError),
}

/// A client that has sent its response, over TLS, and is not yet authenticated. Only [`meet`] constructs it.
#[derive(Debug)]
pub struct PendingClient<S> {
    stream: ClientStream<S>,
    sequence: Sequence,
    early: Option<EarlyAnswer>,
}

/// A client whose first packets are refused.
#[derive(Debug)]
pub struct RejectedClient<S> {
    stream: ClientStream<S>,
    sequence: Sequence,
}

/// Greets a client as `identity` and reads its first packets. `stepped` is called whenever the client has completed a
/// step and has to take the next one.
pub async fn meet<S>(
    mut stream: S,
    acceptor: &TlsAcceptor,
    identity: &ServerIdentity,
    connection_id: u32,
    stepped: impl Fn(),
) -> Result<Met<S>, NegotiationError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut sequence = Sequence::default();
    let greeting = identity.greeting(connection_id);
    sequence.write(&mut stream, &greeting).await.map_err(broken)?;
    let length = first_length(&mut stream, &mut sequence).await?;
    if length != SSL_REQUEST_LENGTH {
        // Not parsed: without TLS the only answer is to require it. The rest is read with the refusal.
        let rejected = RejectedClient { stream: ClientStream::Plain(stream), sequence };
        return Ok(Met::Rejected(rejected, StartupError::TlsRequired));
    }
    // Exactly the request: what follows is TLS, and clients do not wait for an answer.
    let mut request = [0; SSL_REQUEST_LENGTH];
    stream.read_exact(&mut request).await?;
    stepped();
    let mut stream = accept_tls(stream, acceptor, &[]).await?;
    stepped();
    let response = match sequence.read(&mut stream, limits::MAX_RESPONSE).await {
        Ok(response) => response,
        Err(WireError::Io(error)) => return Err(error.into()),
        Err(WireError::Closed) => return Err(NegotiationError::Silent),
        Err(_) => {
            let why = StartupError::Layout("the packet has an impossible length or number");
            return Ok(Met::Rejected(RejectedClient { stream, sequence }, why));
        }
    };
    Ok(match ClientStartup::parse(&response.payload, identity.capabilities.offered()) {
        Ok((startup, early)) => Met::Login(PendingClient { stream, sequence, early }, startup),
        Err(why) => Met::Rejected(RejectedClient { stream, sequence }, why),
    })
}

/// Length of the client's first packet. What is too long for one, or has another number, is another protocol.
async fn first_length<S>(stream: &mut S, sequence: &mut Sequence) -> Result<usize, NegotiationError>
where
    S: AsyncRead + Unpin,
{
    let mut header = [0; HEADER];
    let read = stream.read(&mut header).await?;
    if read == 0 {
        return Err(NegotiationError::Silent);
    }
    if let Some(rest) = header.get_mut(read..) {
        stream.read_exact(rest).await?;
    }
    let (length, number) = split_header(header);
    let shown = u32::from_be_bytes(header);
    if PROXY_HEADERS.contains(&header) {
        return Err(NegotiationError::UnexpectedHeader(shown));
    }
    if number != sequence.skip() || !(SSL_REQUEST_LENGTH..=limits::MAX_RESPONSE).contains(&length) {
        return Err(NegotiationError::Length(shown));
    }
    Ok(length)
}

fn broken(error: WireError) -> NegotiationError {
    match error {
        WireError::Io(error) => NegotiationError::Io(error),
        other => NegotiationError::Io(io::Error::other(other)),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PendingClient<S> {
    /// The connection.
    pub fn stream(&self) -> &ClientStream<S> {
        &self.stream
    }

    /// Takes the token that the client has sent, or requests it and reads it.
    pub async fn ask_token(&mut self, method: TokenMethod) -> Result<Jwt, TokenError> {
        match self.early.take().and_then(question::early_token) {
            Some(token) => token,
            None => question::ask(&mut self.stream, &mut self.sequence, method).await,
        }
    }

    /// Welcomes the client with the server's OK. From here on the relay owns the stream.
    pub async fn welcome(mut self, ok: &[u8]) -> Result<ClientStream<S>, WireError> {
        self.sequence.write(&mut self.stream, ok).await?;
        Ok(self.stream)
    }

    /// Refuses the client and ends the connection.
    pub async fn refuse(self, refusal: &Refusal, login: RefusedLogin<'_>, session: SessionId) {
        let packet = encode(refusal, login, session, self.sequence.next());
        send(self.stream, &packet).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RejectedClient<S> {
    /// Refuses the client and ends the connection.
    pub async fn refuse(self, refusal: &Refusal, token_method: TokenMethod, session: SessionId) {
        let login = RefusedLogin { user: "", token_method };
        send(self.stream, &encode(refusal, login, session, self.sequence.next())).await;
    }
}

/// Writes one ERR packet and closes, within [`limits::REFUSE_TIMEOUT`]. A client that is gone needs no refusal.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(mut stream: ClientStream<S>, packet: &[u8]) {
    let _ = timeout(limits::REFUSE_TIMEOUT, stream.close_with(packet, limits::MAX_RESPONSE)).await;
}

#[cfg(test)]
mod tests;
