//! The PostgreSQL protocol: messages and their limits, the client's login, the server's login, the
//! transaction tracker, cancel keys.

pub mod cancel;
pub mod client;
pub mod command_failure;
pub mod command_server;
pub mod error_response;
mod exchange;
mod explain;
pub mod frames;
pub mod limits;
pub mod message;
pub mod negotiate;
pub mod oauthbearer;
pub mod options;
pub mod password;
mod protocol;
pub mod reset;
mod runs;
mod server_error;
pub mod server_login;
mod server_login_error;
mod start_tls;
pub mod startup;
pub mod terminate;
pub mod token_method;
pub mod tracker;
pub mod version;
mod wishes;

/// The PostgreSQL frontend/backend protocol, versions 3.0 and 3.2.
#[derive(Clone, Copy, Debug)]
pub struct Postgres;

/// ALPN protocol name of direct TLS (PostgreSQL 17, `PG_ALPN_PROTOCOL`).
pub const ALPN: &str = "postgresql";

#[cfg(test)]
mod tests;
