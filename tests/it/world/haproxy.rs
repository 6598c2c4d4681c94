//! HAProxy, a real balancer, in TCP mode.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A running HAProxy with one frontend and one backend, `replicas`. It does not outlive the test.
pub(crate) struct HaProxy {
    process: Child,
    /// Address for clients.
    pub(crate) addr: SocketAddr,
    commands: PathBuf,
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl HaProxy {
    /// Starts one with the lines of its backend.
    pub(crate) fn start(folder: &Path, backend: &str) -> Self {
        let config = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout check 10s\n  timeout client 1m\n  timeout server 1m\n\
             frontend clients\n  bind fd@0\n  default_backend replicas\n\
             backend replicas\n  balance roundrobin\n{backend}\n"
        );
        Self::with_config(folder, &config)
    }

    /// Starts one with the whole configuration but for `global`; its backend is `replicas`. It is given its listening socket
    /// as standard input (`bind fd@0`), so that no port has to be guessed.
    pub(crate) fn with_config(folder: &Path, config: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (file, commands) = (folder.join("haproxy.cfg"), folder.join("haproxy.sock"));
        let socket = commands.display();
        let config = format!("global\n  nbthread 1\n  stats socket {socket} level admin\n{config}\n");
        fs::write(&file, config).unwrap();
        let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let process = Command::new(program.unwrap_or("haproxy"))
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .expect("HAProxy starts; scripts/need-packages haproxy installs it");
        Self { process, addr, commands }
    }

    /// True if it answers commands.
    pub(crate) fn is_up(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.commands).is_ok()
    }

    /// Carries out a command of its runtime interface; gives the answer.
    pub(crate) async fn command(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.commands).await.unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The status of a server by its health checks: `UP`, `DOWN`, `no check` or a transition between two.
    pub(crate) async fn status(&self, server: &str) -> String {
        let table = self.command("show stat").await;
        let row = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut lines = table.lines();
        let column = row(lines.next().unwrap()).iter().position(|name| name == "status").unwrap();
        let found =
            lines.map(row).find(|row| row.first().is_some_and(|name| name == "replicas") && row[1] == server);
        found.unwrap_or_else(|| panic!("no server {server} in\n{table}"))[column].clone()
    }
}
