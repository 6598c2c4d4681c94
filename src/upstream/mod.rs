//! The upstream's side of a login: reach the server over verified TLS, log in with the IAM token, cancel.

pub mod address;
pub mod admission;
pub mod cancel;
pub mod dial;
mod known;
pub mod login;
