//! The listening sockets of the agent: a Unix socket that its owner alone can use, and a TCP port on loopback.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::local_password::{LocalPasswordError, private_folder};

/// Name of PostgreSQL's socket in its folder: libpq adds it to the folder that stands for a host (`psql -h FOLDER`).
pub const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// Name of MySQL's socket in its folder. Clients are given the whole path (`mysql -S PATH`).
pub const MYSQL_SOCKET_NAME: &str = "mysql.sock";

/// Longest path of a socket, in bytes: 103 on macOS, 107 on Linux (unix(7)).
const MAX_PATH: usize = 103;

/// The sockets of one agent.
#[derive(Debug, Default)]
pub struct AgentSockets {
    unix: Option<UnixSocket>,
    tcp: Option<TcpListener>,
}

/// A Unix socket, removed on drop.
#[derive(Debug)]
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Held as long as the agent runs.
    _lock: File,
}

/// Reasons why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The folder is not private.
    #[error(transparent)]
    Folder(#[from] LocalPasswordError),
    /// Another agent runs.
    #[error("an agent already listens in {}", .0.display())]
    Running(PathBuf),
    /// The path is too long for a socket.
    #[error("{}: a socket's path has at most {MAX_PATH} bytes; choose a shorter folder with --socket FOLDER", .0.display())]
    LongPath(PathBuf),
    /// An address of a network.
    #[error("{0} is not a loopback address: other machines could connect; write 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The system's reason.
    #[error("cannot listen on {place}: {problem}")]
    Listen {
        /// The path or address.
        place: String,
        /// The reason.
        problem: io::Error,
    },
}

/// A connection of a tool.
#[derive(Debug)]
pub enum ToolStream {
    /// By the Unix socket.
    Unix {
        /// The connection.
        stream: UnixStream,
        /// True if the peer runs as the agent's own user.
        is_own: bool,
    },
    /// By the loopback port.
    Tcp(TcpStream),
}

impl AgentSockets {
    /// Listens on the socket `name` in `folder`, which is created with mode 0700 or has to be its owner's alone. A socket
    /// that a killed agent has left behind is replaced.
    pub fn listen_unix(&mut self, folder: &Path, name: &str) -> Result<PathBuf, SocketError> {
        private_folder(folder)?;
        let path = folder.join(name);
        if path.as_os_str().len() > MAX_PATH {
            return Err(SocketError::LongPath(path));
        }
        let failed = |problem| SocketError::Listen { place: path.display().to_string(), problem };
        let lock = folder.join("agent.lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock);
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SocketError::Running(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        self.unix = Some(UnixSocket { listener, path, _lock: lock });
        Ok(folder.to_owned())
    }

    /// Listens on a loopback address.
    pub async fn listen_tcp(&mut self, addr: SocketAddr) -> Result<SocketAddr, SocketError> {
        if !addr.ip().is_loopback() {
            return Err(SocketError::NotLoopback(addr));
        }
        let failed = |problem| SocketError::Listen { place: addr.to_string(), problem };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        self.tcp = Some(listener);
        Ok(addr)
    }

    /// The next connection of a tool, on either socket.
    pub(super) async fn accept(&self) -> io::Result<ToolStream> {
        tokio::select! {
            accepted = accept_unix(self.unix.as_ref()) => accepted,
            accepted = accept_tcp(self.tcp.as_ref()) => accepted,
        }
    }
}

async fn accept_unix(socket: Option<&UnixSocket>) -> io::Result<ToolStream> {
    let Some(socket) = socket else { return std::future::pending().await };
    let (stream, _) = socket.listener.accept().await?;
    let is_own = stream.peer_cred().is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw());
    Ok(ToolStream::Unix { stream, is_own })
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<ToolStream> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(ToolStream::Tcp(stream))
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // the next agent would do it
    }
}

#[cfg(test)]
mod tests;
