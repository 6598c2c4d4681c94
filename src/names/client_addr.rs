//! Address of a client: of TCP, or a process of this machine at a Unix socket.

use std::fmt;
use std::net::SocketAddr;

/// Address of a client, for limits, logs, and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddr {
    /// Address and port.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix(PeerProcess),
}

/// Process at the other end of a Unix socket, as the kernel recorded it when the process connected (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id. Supplementary groups are not part of it.
    pub gid: u32,
    /// Process id; absent for a process outside the PID namespace of this one.
    pub pid: Option<i32>,
}

impl ClientAddr {
    /// Address and port of a TCP client.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for ClientAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(PeerProcess { uid, pid: Some(pid), .. }) => write!(f, "unix:uid={uid},pid={pid}"),
            Self::Unix(PeerProcess { uid, pid: None, .. }) => write!(f, "unix:uid={uid}"),
        }
    }
}
