//! The part of a connection to a server that a protocol speaks in clear, before TLS.

use std::fmt;

use tokio::net::TcpStream;

/// Brings a protocol's way of asking a server for TLS.
pub trait StartTls: Sized + fmt::Debug + Send + Sync + 'static {
    /// The client's part of what is said before TLS. `()` for a protocol that says the same at each connection.
    type Hello: Clone + fmt::Debug + Send + Sync;
    /// The server's part of what is said before TLS. Nothing protects it.
    type Opening: fmt::Debug + Send;
    /// The protocol's name for people.
    const NAME: &'static str;
    /// Protocol name in TLS handshakes (ALPN, RFC 7301), if the protocol has one.
    const ALPN: Option<&'static [u8]>;

    /// Asks for TLS on a new TCP connection. With `direct`, TLS begins at once and nothing is said before.
    fn request_tls(
        tcp: &mut TcpStream,
        hello: &Self::Hello,
        direct: bool,
    ) -> impl Future<Output = Result<Self::Opening, TlsRequestError>> + Send;
}

/// Reason why a server did not agree to TLS.
#[derive(Debug)]
pub enum TlsRequestError {
    /// The server does not support TLS.
    NoTls,
    /// The server does not speak the protocol. The text follows the server's address.
    WrongProtocol(&'static str),
    /// The connection broke, or the server cannot serve another one.
    Failed(String),
}
