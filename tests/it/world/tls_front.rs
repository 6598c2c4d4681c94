//! TLS in front of a stand-in that speaks plain HTTP: an issuer or an STS as they are elsewhere.

use std::net::SocketAddr;

use aws_emulator::certs::ServerCert;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::scripted_server::acceptor;

/// Stops on drop.
pub(crate) struct TlsFront {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// Shows `cert` and carries everything to `to`.
    pub(crate) async fn start(cert: &ServerCert, to: SocketAddr) -> Self {
        let acceptor = acceptor(cert, false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                // Who does not trust the certificate breaks off.
                tokio::spawn(async move {
                    let mut tls = acceptor.accept(tcp).await?;
                    copy_bidirectional(&mut tls, &mut TcpStream::connect(to).await?).await
                });
            }
        });
        Self { addr, task }
    }

    /// Listening address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address by name, without a path.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}
