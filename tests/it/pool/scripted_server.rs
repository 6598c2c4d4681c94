//! A scripted server that answers the commands of a reset as PostgreSQL does, unless a test changes its answers.

use std::collections::HashMap;

use aws_emulator::Ca;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::world::raw::{PATIENCE, message};
use crate::world::scripted_server::{Script, ScriptedServer, welcome};

/// A server and its connections, in the order of their logins.
pub(super) struct WarmServer {
    pub(super) scripted: ScriptedServer,
    connections: mpsc::UnboundedReceiver<TlsStream<TcpStream>>,
}

/// One session of the server.
pub(super) struct WarmSession {
    stream: TlsStream<TcpStream>,
    /// Answer to SHOW.
    pub(super) shows: HashMap<String, String>,
}

impl WarmServer {
    pub(super) async fn start(ca: &Ca) -> Self {
        let (to, connections) = mpsc::unbounded_channel();
        Self { scripted: ScriptedServer::start(ca, Script::ThenHand(welcome(), to)).await, connections }
    }

    pub(super) async fn session(&mut self) -> WarmSession {
        let stream = timeout(PATIENCE, self.connections.recv()).await.expect("nobody logs in").unwrap();
        WarmSession { stream, shows: HashMap::new() }
    }
}

impl WarmSession {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends as much of it as the peer reads.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// The next message; `None` at the end.
    pub(super) async fn receive(&mut self) -> Option<(u8, String)> {
        timeout(PATIENCE, self.read()).await.expect("neither a message nor an end")
    }

    async fn read(&mut self) -> Option<(u8, String)> {
        let tag = self.stream.read_u8().await.ok()?;
        let length = self.stream.read_u32().await.ok()?;
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((tag, String::from_utf8(body).unwrap().trim_end_matches('\0').to_owned()))
    }

    /// Answers the check of a login that is given this connection, telling it `news` first.
    pub(super) async fn is_checked(&mut self, news: &[u8]) {
        assert_eq!(self.receive().await, Some((b'S', String::new())), "a Sync");
        self.send(&[news, &message(b'Z', b"I")].concat()).await;
    }

    /// Answers so many queries; gives them.
    pub(super) async fn answer_all(&mut self, queries: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for _ in 0..queries {
            let (tag, sql) = self.receive().await.expect("a query");
            assert_eq!(tag, b'Q', "{sql}");
            let answer = self.answer(&sql);
            self.send(&answer).await;
            heard.push(sql);
        }
        heard
    }

    fn answer(&self, sql: &str) -> Vec<u8> {
        let row = sql.strip_prefix("SHOW ").map(|name| {
            let value = &self.shows[name.trim_matches('"')];
            let length = u32::try_from(value.len()).unwrap().to_be_bytes();
            message(b'D', &[&[0, 1], &length[..], value.as_bytes()].concat())
        });
        let tag = sql.split(' ').next().unwrap();
        let tag = if sql == "DISCARD ALL" { sql } else { tag };
        let done = message(b'C', format!("{tag}\0").as_bytes());
        [row.unwrap_or_default(), done, message(b'Z', b"I")].concat()
    }
}
