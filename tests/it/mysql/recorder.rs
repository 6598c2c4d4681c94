//! A man in the middle whom both sides trust: records the bytes of MySQL sessions inside TLS, from the server's OK on.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_emulator::{Ca, names};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::raw::{packet, read_packet};
use crate::world::raw::{PATIENCE, trusting};
use crate::world::scripted_server::acceptor;

/// Bytes of one session behind its login.
#[derive(PartialEq, Eq)]
pub(crate) struct Recording {
    pub(crate) to_server: Vec<u8>,
    pub(crate) to_client: Vec<u8>,
}

/// The recorder. It sends each recording when its session has ended.
pub(crate) struct Recorder {
    pub(crate) addr: SocketAddr,
    recordings: mpsc::UnboundedReceiver<Recording>,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    /// Stands in front of `target`, whose certificate is of `target_ca`, with a certificate of `ca`. With `flags` the
    /// greeting has these capability flags instead of the server's.
    pub(crate) async fn start(target: SocketAddr, target_ca: &Ca, ca: &Ca, flags: Option<u32>) -> Self {
        let cert = ca.server(&["localhost", "127.0.0.1", names::MYSQL_ENDPOINT_HOST]).unwrap();
        let (acceptor, connector) =
            (acceptor(&cert, false), TlsConnector::from(Arc::new(trusting(target_ca))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, recordings) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, connector, sender) = (acceptor.clone(), connector.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Some(recording) = record(client, (target, flags), acceptor, connector).await {
                        let _ = sender.send(recording);
                    }
                });
            }
        });
        Self { addr, recordings, task }
    }

    /// The next recording.
    pub(crate) async fn next(&mut self) -> Recording {
        timeout(PATIENCE, self.recordings.recv()).await.expect("a recording").unwrap()
    }
}

/// One session. `None` if there was no login.
async fn record(
    mut client: TcpStream,
    (target, flags): (SocketAddr, Option<u32>),
    acceptor: TlsAcceptor,
    connector: TlsConnector,
) -> Option<Recording> {
    let mut server = TcpStream::connect(target).await.ok()?;
    let (number, mut greeting) = read_packet(&mut server).await?;
    if let Some(flags) = flags {
        set_flags(&mut greeting, flags);
    }
    client.write_all(&packet(number, &greeting)).await.ok()?;
    pass(&mut client, &mut server).await?; // the SSLRequest
    let (client, server) = tokio::join!(
        acceptor.accept(client),
        connector.connect(ServerName::try_from("localhost").unwrap(), server)
    );
    let (mut client, mut server) = (client.ok()?, server.ok()?);
    pass(&mut client, &mut server).await?; // the HandshakeResponse
    loop {
        let said = pass(&mut server, &mut client).await?;
        match said.first()? {
            0 => break,
            0xff => return None,
            1 if said.get(1) == Some(&3) => {} // the password was known: an OK follows
            _ => drop(pass(&mut client, &mut server).await?),
        }
    }
    let ((from_client, to_client), (from_server, to_server)) =
        (tokio::io::split(client), tokio::io::split(server));
    let (to_server, to_client) = tokio::join!(copy(from_client, to_server), copy(from_server, to_client));
    Some(Recording { to_server, to_client })
}

/// Bytes of a greeting between the version's end and the flags: the id, a part of the salt, and a NUL.
const BEFORE_FLAGS: usize = 4 + 8 + 1;

fn flags_at(greeting: &[u8]) -> usize {
    greeting.iter().position(|byte| *byte == 0).unwrap() + 1 + BEFORE_FLAGS
}

fn set_flags(greeting: &mut [u8], flags: u32) {
    let (at, [low, low_2, high, high_2]) = (flags_at(greeting), flags.to_le_bytes());
    greeting[at..at + 2].copy_from_slice(&[low, low_2]);
    greeting[at + 5..at + 7].copy_from_slice(&[high, high_2]);
}

/// Capability flags of a greeting.
pub(crate) fn flags_of(greeting: &[u8]) -> u32 {
    let at = flags_at(greeting);
    u32::from_le_bytes([greeting[at], greeting[at + 1], greeting[at + 5], greeting[at + 6]])
}

/// Passes one packet on and returns its payload.
async fn pass<A, B>(from: &mut A, to: &mut B) -> Option<Vec<u8>>
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
{
    let (number, payload) = read_packet(from).await?;
    to.write_all(&packet(number, &payload)).await.ok()?;
    to.flush().await.ok()?;
    Some(payload)
}

async fn copy<A, B>(mut from: ReadHalf<A>, mut to: WriteHalf<B>) -> Vec<u8>
where
    A: AsyncRead,
    B: AsyncWrite,
{
    let (mut recorded, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        recorded.extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    recorded
}
