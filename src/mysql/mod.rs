//! The MySQL protocol: packets and their limits, the client's login, the server's login, the session tracker, KILL.

pub mod capabilities;
pub mod client_filter;
mod command;
pub mod connection_ids;
mod cursors;
pub mod error_packet;
pub mod file_transfer;
mod frames;
pub mod greeting;
mod kill;
pub mod limits;
pub mod packet;
pub mod question;
pub mod response;
pub mod server_error;
pub mod server_login;
pub mod tracker;
