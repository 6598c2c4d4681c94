//! Sockets and TLS without any application protocol: buffers, socket options, certificates, the PROXY
//! protocol, and dialing a cluster's endpoint.

pub mod address;
pub mod allowed_peers;
pub mod buffers;
pub mod certificate;
pub mod client_socket;
pub mod client_stream;
pub mod cluster_id;
mod connect;
pub mod dial;
pub mod dial_error;
pub mod dial_permission;
pub mod egress;
pub mod file_content;
pub mod filtered_stream;
pub mod guard;
pub mod https;
pub mod limits;
pub mod outgoing;
pub mod peer_clocks;
pub mod proxy_protocol;
mod recent_addresses;
pub mod resolver;
pub mod socket;
pub mod start_tls;
#[cfg(test)]
pub(crate) mod test_tls;
pub mod tls;
pub mod tls_error;
