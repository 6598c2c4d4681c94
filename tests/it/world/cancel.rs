//! Helpers of tests of cancels: a secret for replicas, a statement to cancel, the request.

use aws_emulator::Postgres;
use base64::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::admin::until;
use super::{World, WorldBuilder, log, raw};

/// A secret file as replicas share it, and the line of `[cancel]` that names it.
pub(crate) fn shared_secret() -> (tempfile::NamedTempFile, String) {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), base64::engine::general_purpose::STANDARD.encode(bytes)).unwrap();
    let keys = format!("secret_file = \"{}\"", file.path().display());
    (file, keys)
}

/// Until a session of `postgres` sleeps for so long; each test has a time of its own.
pub(crate) async fn until_asleep(postgres: &Postgres, seconds: u32) {
    let sql = format!(
        "select count(*) from pg_stat_activity where query = 'select pg_sleep({seconds})' and state = 'active'"
    );
    until(&format!("a session sleeps for {seconds} s"), async || {
        let (postgres, sql) = (postgres.clone(), sql.clone());
        tokio::task::spawn_blocking(move || postgres.sql(&sql)).await.unwrap() == "1"
    })
    .await;
}

impl WorldBuilder {
    /// Keys of `[cancel]`.
    pub(crate) fn cancel(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.cancel);
        self
    }
}

impl World {
    /// Sends a CancelRequest in clear, as drivers do, and waits for the end; there is no other answer. Gives what
    /// the audit record says of it.
    pub(crate) async fn cancel(&self, key: &[u8]) -> String {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        // The port may have been another client's before; its record stands further up.
        let (addr, from) = (tcp.local_addr().unwrap(), log::start());
        tcp.write_all(&raw::cancel(key)).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty(), "a cancel was answered: {answer:?}");
        let record = log::audit(from, &self.listeners, "client", addr.to_string()).await;
        assert_eq!(record["outcome"], "cancel", "{record}");
        record["reason"].as_str().unwrap().to_owned()
    }
}
