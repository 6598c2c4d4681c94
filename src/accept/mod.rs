//! Accepting clients: listening sockets, worker threads, file descriptors.

pub mod acceptor;
pub(crate) mod client_listener;
pub mod fd_limit;
mod fd_reserve;
pub mod listening_socket;
pub mod socket_activation;
pub mod threads;
pub mod unix_socket;
pub mod workers;
