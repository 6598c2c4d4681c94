//! Login to a server as the granted user. The IAM token is sent only here, and only in answer to a request for
//! `mysql_clear_password` within verified TLS: for any other plugin the user does not use IAM.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::greeting::ServerGreeting;
use super::limits;
use super::login_request::LoginParameters;
use super::packet::{Fields, Packet, Sequence, WireError};
use super::question::{AUTH_SWITCH, CLEAR_PLUGIN};
use super::response::ClientFeatures;
pub use super::server_error::ServerError;
use super::server_error::{ERR, LoginStep};
use crate::names::{MAX_NAME_BYTES, printable, visible};
use crate::secret::IamToken;

/// First byte of an OK packet.
pub const OK: u8 = 0;

/// Name, in errors, for a login without a question.
const NOTHING: &str = "nothing";

/// Reason why a server refused the login.
#[derive(Debug, thiserror::Error)]
pub enum ServerLoginError {
    /// The server asked for something other than a cleartext password; the token was not sent. Servers ask so for users
    /// that do not exist, too.
    #[error(
        "the server asked for {asked} instead of an IAM token for user \"{}\"",
        printable(user, MAX_NAME_BYTES)
    )]
    NotIam {
        /// Name of the plugin.
        asked: String,
        /// The granted user.
        user: String,
    },
    /// The server lacks a flag that the client was offered: the greeting was that of another version.
    #[error("the server is of another kind or version than the one that the client was told of")]
    Changed,
    /// The server refused with this error.
    #[error("the server refused with {0}")]
    Refused(Box<ServerError>),
    /// A protocol violation or connection error.
    #[error("login exchange with the server: {0}")]
    Wire(WireError),
}

impl From<WireError> for ServerLoginError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Result of a successful login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginReply {
    /// Payload of the server's OK packet, for the client.
    pub ok: Vec<u8>,
    /// Status in it.
    pub status: u16,
    /// Flags of the session.
    pub capabilities: Capabilities,
    /// Number of the charset and collation that was asked for.
    pub charset: u8,
    /// Database that was asked for.
    pub database: Option<String>,
}

/// A login over `stream`, from the `HandshakeResponse` to the OK. The greeting and the SSLRequest came before TLS.
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    sequence: &mut Sequence,
    greeting: &ServerGreeting,
    wanted: LoginParameters<'_>,
    token: &IamToken,
) -> Result<LoginReply, ServerLoginError> {
    let of_server = greeting.identity.capabilities;
    if !wanted.startup.features.capabilities.fit(of_server) {
        return Err(ServerLoginError::Changed);
    }
    sequence.write(stream, &wanted.response(of_server)).await?;
    await_question(stream, sequence, wanted).await?;
    sequence.write(stream, &password(token)).await?;
    let answer = sequence.read(stream, limits::MAX_LOGIN_PACKET).await?;
    match answer.kind() {
        Some(OK) => reply(&answer, wanted),
        Some(ERR) => Err(refused(&answer, LoginStep::Token)?),
        Some(AUTH_SWITCH) => Err(not_iam(&plugin_of(&answer), wanted)),
        other => Err(WireError::Unexpected(other.unwrap_or_default()).into()),
    }
}

/// Waits for the request for a cleartext password. A server that requires no password would let anyone in as this user,
/// so that is refused too.
async fn await_question<S: AsyncRead + Unpin>(
    stream: &mut S,
    sequence: &mut Sequence,
    wanted: LoginParameters<'_>,
) -> Result<(), ServerLoginError> {
    let question = sequence.read(stream, limits::MAX_LOGIN_PACKET).await?;
    match question.kind() {
        Some(AUTH_SWITCH) => {
            let plugin = plugin_of(&question);
            if plugin.as_bytes() == CLEAR_PLUGIN { Ok(()) } else { Err(not_iam(&plugin, wanted)) }
        }
        Some(OK) => Err(not_iam(NOTHING, wanted)),
        Some(ERR) => Err(refused(&question, LoginStep::Startup)?),
        other => Err(WireError::Unexpected(other.unwrap_or_default()).into()),
    }
}

/// Name of the plugin in an `AuthSwitchRequest`; without one it is the method of servers before 4.1.
pub fn plugin_of(question: &Packet) -> String {
    let mut fields = Fields::of(&question.payload);
    let plugin = fields.u8().map(|_| fields.until_nul_or_end()).filter(|name| !name.is_empty());
    let plugin = plugin.unwrap_or(b"mysql_old_password");
    visible(&String::from_utf8_lossy(plugin), limits::MAX_PLUGIN_NAME)
}

fn not_iam(asked: &str, wanted: LoginParameters<'_>) -> ServerLoginError {
    ServerLoginError::NotIam { asked: asked.to_owned(), user: wanted.user.to_owned() }
}

fn refused(answer: &Packet, step: LoginStep) -> Result<ServerLoginError, WireError> {
    Ok(ServerLoginError::Refused(Box::new(ServerError::parse(&answer.payload, step)?)))
}

fn reply(answer: &Packet, wanted: LoginParameters<'_>) -> Result<LoginReply, ServerLoginError> {
    let status = ok_status(&answer.payload).ok_or(WireError::Malformed("OK packet"))?;
    let ClientFeatures { capabilities, charset, .. } = wanted.startup.features;
    let database = wanted.database.map(str::to_owned);
    Ok(LoginReply { ok: answer.payload.clone(), status, capabilities, charset, database })
}

/// Status in an OK packet.
pub fn ok_status(payload: &[u8]) -> Option<u16> {
    let mut fields = Fields::of(payload);
    if fields.u8()? != OK {
        return None;
    }
    fields.length()?;
    fields.length()?;
    fields.u16()
}

fn password(token: &IamToken) -> Zeroizing<Vec<u8>> {
    let token = token.expose().as_bytes();
    let mut password = Zeroizing::new(Vec::with_capacity(token.len() + 1));
    password.extend_from_slice(token);
    password.push(0);
    password
}

/// Reads a server's greeting and asks for TLS: the part of a login that is in clear. Returns the greeting and the
/// sequence after the SSLRequest.
pub async fn request_tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    ssl_request: impl FnOnce(Capabilities) -> Vec<u8>,
) -> Result<(ServerGreeting, Sequence), GreetingError> {
    let mut sequence = Sequence::default();
    let packet = sequence.read(stream, limits::MAX_GREETING).await?;
    if packet.kind() == Some(ERR) {
        // Not protected by TLS, so only for the log.
        return Err(GreetingError::Refused(Box::new(ServerError::parse(
            &packet.payload,
            LoginStep::Startup,
        )?)));
    }
    let greeting = ServerGreeting::parse(&packet.payload)?;
    let of_server = greeting.identity.capabilities;
    if !of_server.contains(Capabilities::SSL) {
        return Err(GreetingError::NoTls);
    }
    if !of_server.suffice_for_a_server() {
        return Err(GreetingError::TooOld);
    }
    sequence.write(stream, &ssl_request(of_server)).await?;
    Ok((greeting, sequence))
}

/// Reason why a server could not be asked for TLS.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// An error in place of the greeting. It is not protected by TLS.
    #[error("the server answers a new connection with {0}")]
    Refused(Box<ServerError>),
    /// The server does not support TLS.
    #[error("the server does not support TLS")]
    NoTls,
    /// The server does not support authentication plugins.
    #[error("the server does not support authentication plugins")]
    TooOld,
    /// The peer does not speak the protocol, or the connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
}

#[cfg(test)]
mod tests;
