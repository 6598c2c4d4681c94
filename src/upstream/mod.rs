//! The upstream's side of a login: reach the server over verified TLS, log in with the IAM token, cancel,
//! and keep what can serve the same person again.

pub mod cancel;
pub mod login;
mod login_error;
pub mod reset;
mod server_error;

#[cfg(test)]
mod granted_tests;
