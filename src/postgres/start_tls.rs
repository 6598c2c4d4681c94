//! The request for TLS to a server.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::negotiate::SSL_REQUEST;
use super::{ALPN, Postgres};
use crate::net::buffers::has_early_bytes;
use crate::net::start_tls::{StartTls, TlsRequestError};

/// Predicate for a server that gives an invalid answer, or premature bytes after it.
const ANOTHER_PROTOCOL: &str = "does not answer an SSLRequest as PostgreSQL does";

impl StartTls for Postgres {
    type Hello = ();
    type Opening = ();
    const NAME: &'static str = "PostgreSQL";
    const ALPN: Option<&'static [u8]> = Some(ALPN.as_bytes());

    async fn request_tls(tcp: &mut TcpStream, (): &(), direct: bool) -> Result<(), TlsRequestError> {
        if direct {
            return Ok(());
        }
        let failed = |error: std::io::Error| TlsRequestError::Failed(error.to_string());
        tcp.write_all(&[8_u32, SSL_REQUEST].map(u32::to_be_bytes).concat()).await.map_err(failed)?;
        match tcp.read_u8().await.map_err(failed)? {
            b'S' if has_early_bytes(tcp).await => Err(TlsRequestError::WrongProtocol(ANOTHER_PROTOCOL)),
            b'S' => Ok(()),
            b'N' => Err(TlsRequestError::NoTls),
            // The server cannot serve another connection. Its message is not protected by TLS and not read.
            b'E' => {
                Err(TlsRequestError::Failed("the server answers the SSLRequest with an error".to_owned()))
            }
            _ => Err(TlsRequestError::WrongProtocol(ANOTHER_PROTOCOL)),
        }
    }
}
