//! The operator's view: health, metrics, and a changed configuration.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::World;

/// Asks for `path`; gives the status and the body.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until `done`; the limit is for a broken build.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..3_000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

impl World {
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.admin_addr, path).await
    }

    /// The value of one series, as it stands in the text before it.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no series {series} in\n{text}")).parse().unwrap()
    }

    /// Waits until a series has a value.
    pub(crate) async fn metric_is(&self, series: &str, value: f64) {
        until(&format!("{series} {value}"), async || (self.metric(series).await - value).abs() < 0.5).await;
    }

    /// Changes the configuration file.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let old = std::fs::read_to_string(self.config_file()).unwrap();
        assert!(old.contains(from), "{from} is not in {old}");
        std::fs::write(self.config_file(), old.replace(from, to)).unwrap();
    }

    /// Has the configuration read again; says whether it was taken.
    pub(crate) async fn reloaded(&self) -> bool {
        let count = async |outcome: &str| {
            self.metric(&format!("pgpassport_reloads_total{{outcome=\"{outcome}\"}}")).await
        };
        let (applied, refused) = (count("applied").await, count("refused").await);
        self.reload.notify_one();
        until("a reload", async || count("applied").await + count("refused").await > applied + refused).await;
        count("applied").await > applied
    }
}
