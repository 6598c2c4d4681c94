//! The request for TLS to a server: its greeting, and the SSLRequest.

use tokio::net::TcpStream;

use super::Mysql;
use super::greeting::ServerGreeting;
use super::packet::WireError;
use super::response::ClientFeatures;
use super::server_login::{self, GreetingError};
use crate::net::start_tls::{StartTls, TlsRequestError};

/// Predicate for a server that greets in another way.
const ANOTHER_PROTOCOL: &str = "does not greet as MySQL does";

/// Predicate for a server of MySQL before 5.5.
const TOO_OLD: &str = "does not support authentication plugins";

impl StartTls for Mysql {
    type Hello = ClientFeatures;
    type Opening = ServerGreeting;
    const NAME: &'static str = "MySQL";
    const ALPN: Option<&'static [u8]> = None;

    /// `direct` has no effect: MySQL has no direct TLS, and the configuration rejects it.
    async fn request_tls(
        tcp: &mut TcpStream,
        features: &ClientFeatures,
        _direct: bool,
    ) -> Result<ServerGreeting, TlsRequestError> {
        let ask = server_login::request_tls(tcp, |of_server| features.ssl_request(of_server));
        ask.await.map(|(greeting, _)| greeting).map_err(|why| match why {
            GreetingError::NoTls => TlsRequestError::NoTls,
            GreetingError::TooOld => TlsRequestError::WrongProtocol(TOO_OLD),
            GreetingError::Wire(WireError::Closed | WireError::Io(_)) | GreetingError::Refused(_) => {
                TlsRequestError::Failed(why.to_string())
            }
            GreetingError::Wire(_) => TlsRequestError::WrongProtocol(ANOTHER_PROTOCOL),
        })
    }
}
