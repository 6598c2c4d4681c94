//! The upstream's side of a login: reach the server over verified TLS, log in with the IAM token, cancel,
//! and keep what can serve the same person again.

pub mod cancel;
pub mod login;
mod login_error;
pub mod pool;
mod pool_key;
pub mod reset;
mod resting;
mod server_error;
mod shelf;
pub mod tally;

#[cfg(test)]
mod granted_tests;
