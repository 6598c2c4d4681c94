//! The MySQL protocol: packets and their limits, the client's login, the server's login, the session tracker, KILL.

pub mod capabilities;
pub mod client;
pub mod client_filter;
mod command;
pub mod connection_ids;
mod cursors;
pub mod error_packet;
mod exchange;
mod explain;
pub mod file_transfer;
mod frames;
pub mod greeting;
pub mod kill;
pub mod limits;
pub mod login_request;
#[cfg(test)]
mod oracle_tests;
pub mod own_session;
pub mod packet;
pub mod protocol;
pub mod question;
pub mod reset;
pub mod response;
pub mod second_login;
pub mod server_error;
pub mod server_login;
mod start_tls;
pub mod state;
mod text_query;
pub mod tracker;

/// The MySQL client/server protocol of MySQL 5.7 and MariaDB 10, and newer.
#[derive(Clone, Copy, Debug)]
pub struct Mysql;
