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

use std::time::SystemTime;

use bytes::BytesMut;

use self::terminate::TerminateFilter;
use self::tracker::Tracker;
use crate::names::SessionId;
use crate::protocol::{ByteStream, Protocol};
use crate::refusal::Refusal;

/// The PostgreSQL frontend/backend protocol, versions 3.0 and 3.2.
#[derive(Clone, Copy, Debug)]
pub struct Postgres;

impl Protocol for Postgres {
    type Tracker = Tracker;
    type ClientEnd<C: ByteStream> = TerminateFilter<C>;
    const TERMINATE: &'static [u8] = message::TERMINATE;

    fn last_words(refusal: &Refusal, session: SessionId) -> BytesMut {
        error_response::last_words(refusal, session)
    }

    fn token_expires(expires: SystemTime, now: SystemTime, session: SessionId) -> BytesMut {
        error_response::token_expires(expires, now, session)
    }
}

#[cfg(test)]
mod tests;
