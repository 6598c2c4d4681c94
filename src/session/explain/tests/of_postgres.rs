//! Faults of PostgreSQL as the session gets them.

use crate::postgres::client::TokenError;
use crate::postgres::server_login::UpstreamLoginError;
use crate::postgres::startup::StartupError;
use crate::protocol::LoginFailure;
use crate::session::outcome::LoginError;

impl From<StartupError> for LoginError {
    fn from(why: StartupError) -> Self {
        Self::Startup(Box::new(why))
    }
}

impl From<TokenError> for LoginError {
    fn from(why: TokenError) -> Self {
        Self::Ask(Box::new(why))
    }
}

impl From<UpstreamLoginError> for LoginError {
    fn from(why: UpstreamLoginError) -> Self {
        LoginFailure::Server(why).into()
    }
}
