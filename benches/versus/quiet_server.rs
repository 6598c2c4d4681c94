//! A server that speaks just enough of PostgreSQL's protocol, over TLS, to hold thousands of sessions: PostgreSQL itself
//! needs a process for each.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aws_emulator::{Ca, names};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::ground::{BenchServer, Engine};

/// Bytes of the one column of the one row that every query gets.
pub(crate) const ROW_BYTES: usize = 40_000;

/// Ends when this is dropped.
pub(crate) struct QuietServer {
    pub(crate) server: BenchServer,
    _runtime: Runtime,
}

impl QuietServer {
    /// Its certificate is for everyone's name of the server; its authority's file is written to `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let ca = Ca::new().expect("a certificate authority");
        let folder = folder.join("quiet-ca");
        std::fs::create_dir_all(&folder).expect("a folder");
        let ca_file = ca.write(&folder).expect("ca.pem");
        let cert = ca.server(&["localhost", names::ENDPOINT_HOST]).expect("a certificate");
        let chain = vec![CertificateDer::from_pem_slice(cert.cert_pem.as_bytes()).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let tls = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let addr: SocketAddr = listener.local_addr().expect("its address");
        runtime.spawn(async move {
            loop {
                if let Ok((tcp, _)) = listener.accept().await {
                    let tls = tls.clone();
                    tokio::spawn(async move { drop(serve(tcp, &tls).await) }); // who leaves, leaves
                }
            }
        });
        Self { server: BenchServer { engine: Engine::Postgres, addr, ca_file }, _runtime: runtime }
    }
}

async fn serve(mut tcp: TcpStream, tls: &TlsAcceptor) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    tcp.read_exact(&mut [0; 8]).await?; // SSLRequest
    tcp.write_all(b"S").await?;
    let mut stream = tls.accept(tcp).await?;
    body(&mut stream).await?; // StartupMessage
    stream.write_all(&message(b'R', &3_u32.to_be_bytes())).await?; // a cleartext password, please
    stream.flush().await?;
    stream.read_u8().await?;
    body(&mut stream).await?; // any will do
    let mut greeting = message(b'R', &[0; 4]);
    for (name, value) in [("server_version", "15.0"), ("client_encoding", "UTF8"), ("DateStyle", "ISO, MDY")]
    {
        greeting.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    greeting.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]));
    greeting.extend(message(b'Z', b"I"));
    stream.write_all(&greeting).await?;
    stream.flush().await?;
    loop {
        match stream.read_u8().await? {
            b'Q' => {
                let query = body(&mut stream).await?;
                stream.write_all(&answer(&query)).await?;
                stream.flush().await?;
            }
            b'X' => return Ok(()),
            _ => drop(body(&mut stream).await?),
        }
    }
}

/// A row for what looks like a query, and just the end of it for what does not, as PgBouncer's `DISCARD ALL`.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    if query.starts_with(b"select") {
        let column =
            [b"\0\x01v\0", &[0; 6][..], &25_u32.to_be_bytes(), b"\xff\xff\xff\xff\xff\xff", &[0; 2]].concat();
        answer.extend(message(b'T', &column));
        let length = u32::try_from(ROW_BYTES).expect("a row is small");
        let row = [&b"\0\x01"[..], &length.to_be_bytes(), &vec![b'x'; ROW_BYTES]].concat();
        answer.extend(message(b'D', &row));
    }
    answer.extend(message(b'C', b"SELECT 1\0"));
    answer.extend(message(b'Z', b"I"));
    answer
}

async fn body(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?.saturating_sub(4);
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("messages are small");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}
