//! Login to the upstream as the granted user. The IAM token is sent only here, and only in answer to a
//! cleartext password request within verified TLS: for any other method the role does not use IAM.

use bytes::{BufMut, BytesMut};
use pgwire::messages::response::ReadyForQuery;
use pgwire::messages::startup::{Authentication, BackendKeyData};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::cancel::CancelTarget;
use super::limits;
use super::message::{LoginGreeting, RawMessage, WireError, message_length, read_message};
pub use super::server_error::{LoginStep, ServerError};
pub use super::server_login_error::UpstreamLoginError;
use super::startup::StartupParams;
use super::version::MinorVersion;
use crate::identity::Grant;
use crate::names::{DbName, DbUser};
use crate::net::dial::Dialed;
use crate::postgres::Postgres;
use crate::postgres::cancel::deliver::StatementCancel;
use crate::postgres::cancel::key::CancelKey;
use crate::protocol::{LoginFailure, ServerSession};
use crate::secret::IamToken;

/// A session of the granted user on the upstream, at its first ReadyForQuery.
pub type UpstreamSession = ServerSession<Postgres>;

/// User, database and settings of the grant, and the client's parameters.
#[derive(Clone, Copy, Debug)]
pub struct LoginParameters<'a> {
    user: &'a DbUser,
    database: &'a DbName,
    startup: &'a StartupParams,
    /// Settings of the grant. They follow `options` and all other parameters, and for the server the last
    /// value counts.
    settings: &'a [(&'static str, String)],
}

impl<'a> LoginParameters<'a> {
    /// Takes user, database and settings from the grant, and all other parameters from `startup`.
    pub fn of(grant: &'a Grant, startup: &'a StartupParams) -> Self {
        Self { user: grant.db_user(), database: grant.database(), startup, settings: grant.settings() }
    }

    /// A login without a grant, for fuzzing.
    #[doc(hidden)]
    pub fn ungranted(user: &'a DbUser, database: &'a DbName, startup: &'a StartupParams) -> Self {
        Self { user, database, startup, settings: &[] }
    }
}

/// Logs in at one address. The server is asked for the client's protocol version, so that its key fits the
/// client's; a server that supports only 3.0 says so, or has to be asked again.
pub(super) async fn log_in(
    dialed: &mut Dialed<Postgres>,
    wanted: LoginParameters<'_>,
    token: &IamToken,
) -> Result<LoginReply, LoginFailure<UpstreamLoginError>> {
    let newest = wanted.startup.protocol();
    let question = match ask(&mut dialed.stream, wanted, newest).await {
        Err(error) if newest > MinorVersion::V3_0 && error.may_be_about_the_protocol() => {
            dialed.connect_again().await?;
            ask(&mut dialed.stream, wanted, MinorVersion::V3_0).await
        }
        question => question,
    };
    let question = question.map_err(LoginFailure::Server)?;
    answer(&mut dialed.stream, wanted, question, token).await.map_err(LoginFailure::Server)
}

impl UpstreamSession {
    /// The session opened by a login over `dialed`.
    pub fn opened(dialed: Dialed<Postgres>, reply: LoginReply) -> Self {
        let (cluster, addr) = (dialed.dialer.cluster, dialed.addr);
        let recall = reply.key.clone().map(|key| StatementCancel::new(dialed.dialer, addr, key));
        let cancel = reply.key.map(|key| CancelTarget { cluster, addr, key });
        Self { stream: dialed.stream, greeting: reply.greeting, cancel, statement_cancel: recall }
    }
}

/// A server that waits for the password.
struct PasswordRequest {
    protocol: MinorVersion,
    reader: LoginReader,
    messages: BytesMut,
}

/// Result of a successful exchange.
#[derive(Debug)]
pub struct LoginReply {
    /// Messages for the client.
    pub greeting: LoginGreeting,
    key: Option<CancelKey>,
}

/// The messages of a login over any stream, without a retry; for tests and fuzzing only.
#[doc(hidden)]
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    wanted: LoginParameters<'_>,
    token: IamToken,
) -> Result<LoginReply, UpstreamLoginError> {
    let question = ask(stream, wanted, wanted.startup.protocol()).await?;
    answer(stream, wanted, question, &token).await
}

/// From the startup packet to the cleartext password request.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    wanted: LoginParameters<'_>,
    protocol: MinorVersion,
) -> Result<PasswordRequest, UpstreamLoginError> {
    stream.write_all(&startup_packet(wanted, protocol)).await.map_err(WireError::from)?;
    stream.flush().await.map_err(WireError::from)?;
    let mut question = PasswordRequest {
        protocol,
        reader: LoginReader { messages: 0, bytes: 0, step: LoginStep::Startup },
        messages: BytesMut::new(),
    };
    await_question(stream, wanted, &mut question).await?;
    Ok(question)
}

/// From the password to ReadyForQuery.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    wanted: LoginParameters<'_>,
    PasswordRequest { protocol, mut reader, mut messages }: PasswordRequest,
    token: &IamToken,
) -> Result<LoginReply, UpstreamLoginError> {
    reader.step = LoginStep::Token;
    stream.write_all(&password_message(token)).await.map_err(WireError::from)?;
    stream.flush().await.map_err(WireError::from)?;
    let mut key = None;
    loop {
        let message = reader.next(stream).await?;
        match message.tag {
            b'R' if reader.step == LoginStep::Authenticated => return Err(WireError::Unexpected('R').into()),
            b'R' => match authentication(&message, wanted)? {
                Authentication::Ok => reader.step = LoginStep::Authenticated,
                other => return Err(not_iam(method(&other), wanted)),
            },
            b'E' => return Err(reader.refused(&message)?),
            b'N' => message.encode_into(&mut messages),
            b'S' if reader.step == LoginStep::Authenticated => message.encode_into(&mut messages),
            b'K' if reader.step == LoginStep::Authenticated => {
                let fits = |body: &[u8]| {
                    body.len().checked_sub(4).is_some_and(|secret| protocol.key_lengths().contains(&secret))
                };
                let data: BackendKeyData = message.decode("BackendKeyData", fits)?;
                key = Some(CancelKey::new(data.pid, data.secret_key.to_bytes()));
            }
            b'Z' if reader.step == LoginStep::Authenticated => {
                let ready: ReadyForQuery = message.decode("ReadyForQuery", |body| body.len() == 1)?;
                return Ok(LoginReply { greeting: LoginGreeting { messages, status: ready.status }, key });
            }
            tag => return Err(WireError::Unexpected(char::from(tag)).into()),
        }
    }
}

/// Waits for the cleartext password request. A server that requires no password would let anyone in as this
/// user, so that is refused too.
async fn await_question<S: AsyncRead + Unpin>(
    stream: &mut S,
    wanted: LoginParameters<'_>,
    question: &mut PasswordRequest,
) -> Result<(), UpstreamLoginError> {
    loop {
        let message = question.reader.next(stream).await?;
        match message.tag {
            b'R' => match authentication(&message, wanted)? {
                Authentication::CleartextPassword => return Ok(()),
                other => return Err(not_iam(method(&other), wanted)),
            },
            b'E' => return Err(question.reader.refused(&message)?),
            b'N' => message.encode_into(&mut question.messages),
            b'v' => question.protocol = older(&message, question.protocol)?,
            tag => return Err(WireError::Unexpected(char::from(tag)).into()),
        }
    }
}

/// The version in NegotiateProtocolVersion that replaces `asked`. It has to be older, without options,
/// because none are passed on.
fn older(message: &RawMessage, asked: MinorVersion) -> Result<MinorVersion, WireError> {
    let malformed = WireError::Malformed("NegotiateProtocolVersion");
    match message.body.as_slice() {
        // The manual specifies the minor version here; PostgreSQL sends both numbers.
        &[0, 0 | 3, high, low, 0, 0, 0, 0] if u16::from_be_bytes([high, low]) < asked.minor() => {
            Ok(MinorVersion::up_to(u16::from_be_bytes([high, low])))
        }
        _ => Err(malformed),
    }
}

/// Reads the messages of a login within its limits.
struct LoginReader {
    messages: usize,
    bytes: usize,
    step: LoginStep,
}

impl LoginReader {
    fn refused(&self, message: &RawMessage) -> Result<UpstreamLoginError, WireError> {
        Ok(UpstreamLoginError::Refused(Box::new(ServerError::parse(&message.body, self.step)?)))
    }

    async fn next<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<RawMessage, UpstreamLoginError> {
        let message = read_message(stream, |_| Some(limits::MAX_LOGIN_MESSAGE)).await?;
        self.messages += 1;
        self.bytes += message.body.len() + 5;
        if self.messages > limits::MAX_LOGIN_MESSAGES || self.bytes > limits::MAX_LOGIN_BYTES {
            return Err(UpstreamLoginError::TooMuch);
        }
        Ok(message)
    }
}

/// Built from parsed values, never from the client's packet as a whole: PostgreSQL uses the last of two
/// `user` parameters.
pub(crate) fn startup_packet(wanted: LoginParameters<'_>, protocol: MinorVersion) -> BytesMut {
    packet_of(wanted, protocol, |_| true)
}

/// The startup packet with those of the client's parameters for which `keep` is true.
pub(crate) fn packet_of(
    wanted: LoginParameters<'_>,
    protocol: MinorVersion,
    keep: impl Fn(&[u8]) -> bool,
) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(protocol.number());
    let mut parameter = |name: &[u8], value: &[u8]| {
        for part in [name, value] {
            body.put_slice(part);
            body.put_u8(0);
        }
    };
    parameter(b"user", wanted.user.as_str().as_bytes());
    parameter(b"database", wanted.database.as_str().as_bytes());
    let ours =
        |name: &[u8]| wanted.settings.iter().any(|(ours, _)| ours.as_bytes().eq_ignore_ascii_case(name));
    for (name, value) in wanted.startup.others().iter().filter(|(name, _)| keep(name) && !ours(name)) {
        parameter(name, value);
    }
    for (name, value) in wanted.settings {
        parameter(name.as_bytes(), value.as_bytes());
    }
    body.put_u8(0);
    let mut packet = BytesMut::with_capacity(body.len() + 4);
    packet.put_slice(&message_length(body.len()));
    packet.put_slice(&body);
    packet
}

fn password_message(token: &IamToken) -> Zeroizing<Vec<u8>> {
    let token = token.expose().as_bytes();
    let mut message = Zeroizing::new(Vec::with_capacity(token.len() + 6));
    message.push(b'p');
    message.extend_from_slice(&message_length(token.len() + 1));
    message.extend_from_slice(token);
    message.push(0);
    message
}

/// pgwire distinguishes only these; GSS and SSPI are a decoding error.
fn authentication(
    message: &RawMessage,
    wanted: LoginParameters<'_>,
) -> Result<Authentication, UpstreamLoginError> {
    let code = message.body.first_chunk::<4>().map(|code| i32::from_be_bytes(*code));
    if matches!(code, Some(6..=9)) {
        return Err(not_iam("GSSAPI or SSPI", wanted));
    }
    let enough = |body: &[u8]| body.len() >= if code == Some(5) { 8 } else { 4 };
    Ok(message.decode("Authentication", enough)?)
}

fn not_iam(asked: &'static str, wanted: LoginParameters<'_>) -> UpstreamLoginError {
    UpstreamLoginError::NotIam { asked, user: wanted.user.clone() }
}

fn method(asked: &Authentication) -> &'static str {
    match asked {
        Authentication::Ok => "nothing (trust)",
        Authentication::MD5Password(_) => "an MD5 password",
        Authentication::SASL(_) => "a SCRAM password",
        Authentication::KerberosV5 => "Kerberos",
        _ => "another method",
    }
}

#[cfg(test)]
mod tests;
