//! PostgreSQL on the wire: messages and their limits, the client's login, the server's login, the transaction
//! tracker, cancel keys.

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

#[cfg(test)]
mod tests;
