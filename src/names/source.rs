//! Source of a connection for limits.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::client_addr::ClientAddr;

/// Source of a connection for limits: an address, or a user of this machine at a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(Origin);

/// IPv6 addresses are reduced to their /64, because a host can choose any address within it (RFC 4291, section 2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Origin {
    Ip(IpAddr),
    Uid(u32),
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        Self(Origin::Ip(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (!0 << 64))),
            v4 @ IpAddr::V4(_) => v4,
        }))
    }
}

impl From<ClientAddr> for Source {
    fn from(addr: ClientAddr) -> Self {
        match addr {
            ClientAddr::Tcp(addr) => addr.ip().into(),
            ClientAddr::Unix(peer) => Self(Origin::Uid(peer.uid)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Origin::Ip(IpAddr::V6(ip)) => write!(f, "{ip}/64"),
            Origin::Uid(uid) => write!(f, "unix:uid={uid}"),
        }
    }
}
