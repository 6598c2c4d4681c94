//! The PostgreSQL protocol: messages and their limits, the client's login, the server's login, the
//! transaction tracker, cancel keys.

pub mod cancel;
pub mod client;
pub mod error_response;
mod exchange;
pub mod frames;
pub mod limits;
pub mod listener;
pub mod message;
pub mod negotiate;
pub mod oauthbearer;
pub mod options;
pub mod password;
pub mod reset;
mod runs;
mod server_error;
pub mod server_login;
mod server_login_error;
pub mod startup;
pub mod terminate;
pub mod tracker;
pub mod version;
mod wishes;

use std::time::{Duration, SystemTime};

use bytes::BytesMut;

use self::cancel::CancelTarget;
use self::cancel::deliver::StatementCancel;
use self::message::LoginGreeting;
use self::reset::{ResetError, ServerParameters};
use self::startup::StartupParams;
use self::terminate::TerminateFilter;
use self::tracker::Tracker;
use crate::identity::Grant;
use crate::names::SessionId;
use crate::net::dial::ServerStream;
use crate::protocol::{ByteStream, LoginWishes, Protocol};
use crate::refusal::Refusal;

/// The PostgreSQL frontend/backend protocol, versions 3.0 and 3.2.
#[derive(Clone, Copy, Debug)]
pub struct Postgres;

impl Protocol for Postgres {
    type Tracker = Tracker;
    type ClientEnd<C: ByteStream> = TerminateFilter<C>;
    type Startup = StartupParams;
    type Greeting = LoginGreeting;
    type Parameters = ServerParameters;
    type ResetError = ResetError;
    type CancelTarget = CancelTarget;
    type StatementCancel = StatementCancel;
    const TERMINATE: &'static [u8] = message::TERMINATE;
    const RESET_TIMEOUT: Duration = reset::RESET_TIMEOUT;
    const CHECK_TIMEOUT: Duration = reset::CHECK_TIMEOUT;

    fn last_words(refusal: &Refusal, session: SessionId) -> BytesMut {
        error_response::last_words(refusal, session)
    }

    fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut {
        error_response::token_expires(expires, now, session)
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
}

#[cfg(test)]
mod tests;
