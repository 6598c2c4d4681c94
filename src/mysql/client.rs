//! Client side of a login: greeting, TLS, the client's response, request for the token, welcome or refusal.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::error_packet::{RefusedLogin, before_greeting, encode};
use super::greeting::{ServerIdentity, salt};
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

/// A client that has sent its response, over TLS or at a Unix socket, and is not yet authenticated. Only [`meet`] constructs it.
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
    /// False if it is refused before its greeting.
    greeted: bool,
}

/// Greets a client as `identity` and reads its first packets. Without an `acceptor` there is no TLS, and the greeting does not
/// offer it. `stepped` is called whenever the client has completed a
/// step and has to take the next one.
pub async fn meet<S>(
    mut stream: S,
    acceptor: Option<&TlsAcceptor>,
    identity: &ServerIdentity,
    connection_id: u32,
    stepped: impl Fn(),
) -> Result<Met<S>, NegotiationError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut sequence = Sequence::default();
    let flags = identity.capabilities;
    let offered = if acceptor.is_some() { flags.offered() } else { flags.offered_in_clear() };
    let greeting = identity.greeting_with(connection_id, &salt(), offered);
    sequence.write(&mut stream, &greeting).await.map_err(broken)?;
    let length = first_length(&mut stream, &mut sequence).await?;
    let Some(acceptor) = acceptor else {
        let mut response = Zeroizing::new(vec![0; length]);
        stream.read_exact(&mut response).await?;
        return Ok(answered((ClientStream::Plain(stream), sequence), &response, offered));
    };
    if length != SSL_REQUEST_LENGTH {
        // Not parsed: without TLS the only answer is to require it. The rest is read with the refusal.
        let rejected = RejectedClient::greeted(ClientStream::Plain(stream), sequence);
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
            return Ok(Met::Rejected(RejectedClient::greeted(stream, sequence), why));
        }
    };
    Ok(answered((stream, sequence), &response.payload, offered))
}

/// The client by its response to a greeting that offered these flags.
fn answered<S>(
    (stream, sequence): (ClientStream<S>, Sequence),
    response: &[u8],
    offered: Capabilities,
) -> Met<S> {
    match ClientStartup::parse(response, offered) {
        Ok((startup, early)) => Met::Login(PendingClient { stream, sequence, early }, startup),
        Err(why) => Met::Rejected(RejectedClient::greeted(stream, sequence), why),
    }
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

impl<S> RejectedClient<S> {
    fn greeted(stream: ClientStream<S>, sequence: Sequence) -> Self {
        Self { stream, sequence, greeted: true }
    }

    /// A client that is refused before it is greeted.
    pub fn unheard(socket: S) -> Self {
        Self { stream: ClientStream::Plain(socket), sequence: Sequence::default(), greeted: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RejectedClient<S> {
    /// Refuses the client and ends the connection.
    pub async fn refuse(self, refusal: &Refusal, token_method: TokenMethod, session: SessionId) {
        let login = RefusedLogin { user: "", token_method };
        let packet = if self.greeted {
            encode(refusal, login, session, self.sequence.next())
        } else {
            before_greeting(refusal, login, session)
        };
        send(self.stream, &packet).await;
    }
}

/// Writes one ERR packet and closes, within [`limits::REFUSE_TIMEOUT`]. A client that is gone needs no refusal.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(mut stream: ClientStream<S>, packet: &[u8]) {
    let _ = timeout(limits::REFUSE_TIMEOUT, stream.close_with(packet, limits::MAX_RESPONSE)).await;
}

#[cfg(test)]
mod tests;
