//! Accepting clients: listening sockets, worker threads, file descriptors.

pub mod acceptor;
pub mod fd_limit;
mod fd_reserve;
pub mod listening_socket;
pub mod socket_activation;
pub mod threads;
pub mod workers;
