//! An HTTP proxy as companies have it between themselves and the internet: it takes CONNECT, and it alone knows where
//! the names lead.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Stops on drop.
pub(crate) struct ConnectProxy {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ConnectProxy {
    /// Leads each of `names` to its address; other names are refused with 403.
    pub(crate) async fn start(names: HashMap<&'static str, SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (names, written) = (Arc::new(names), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (names, written) = (Arc::clone(&names), Arc::clone(&written));
                // Either side may break off.
                tokio::spawn(async move { carry(client, &names, &written).await });
            }
        });
        Self { addr, heads, task }
    }

    /// Value of `egress.proxy`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn carry(
    mut client: TcpStream,
    names: &HashMap<&'static str, SocketAddr>,
    written: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let name = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(':').next()).unwrap_or_default();
    let to = names.get(name).copied();
    written.lock().unwrap().push(head);
    match to {
        Some(to) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            copy_bidirectional(&mut client, &mut TcpStream::connect(to).await?).await.map(drop)
        }
        None => client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await,
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
