//! The PROXY protocol, version 2 (HAProxy, `doc/proxy-protocol.txt`): a load balancer in front of the proxy
//! names the client of a connection. Trusted only from configured networks, and required from them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::limits;
use crate::names::client_addr::ClientAddr;

/// The first 12 bytes of a header (section 2.2 of the specification).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Length of signature, version and command, family and transport, and length field.
const FIXED: usize = 16;

/// Version 2 and its two commands.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// TCP over IPv4 and IPv6. Datagrams, UNIX sockets and UNSPEC name no client with a TCP address.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOrigin {
    /// The client itself.
    Direct(ClientAddr),
    /// A load balancer on its own behalf (command LOCAL): a health check.
    Balancer(SocketAddr),
    /// A client behind a load balancer.
    Proxied {
        /// Client address that the load balancer named.
        client: SocketAddr,
        /// Address of the load balancer.
        balancer: SocketAddr,
    },
}

impl ClientOrigin {
    /// Client address for limits, logs and records.
    pub fn client(&self) -> ClientAddr {
        match self {
            Self::Direct(client) => *client,
            Self::Balancer(client) | Self::Proxied { client, .. } => ClientAddr::Tcp(*client),
        }
    }

    /// The load balancer, if any.
    pub fn via(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct(_) => None,
            Self::Balancer(balancer) | Self::Proxied { balancer, .. } => Some(*balancer),
        }
    }

    /// True if the client is certainly on this machine and uses TCP. False for any connection through a load balancer,
    /// whatever address it has or names.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Self::Direct(ClientAddr::Tcp(client)) if client.ip().is_loopback())
    }

    /// True for a client at a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Direct(ClientAddr::Unix(_)))
    }
}

/// Fault of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There is no header of version 2: the client bypassed the load balancer, or the load balancer sends
    /// none or version 1.
    #[error("a peer in proxy_protocol_from sent no PROXY protocol header of version 2")]
    Signature,
    /// The version or command is unknown. Version 2 has two commands.
    #[error("PROXY protocol header with unknown version or command {0:#04x}")]
    Command(u8),
    /// The client has no TCP address.
    #[error("PROXY protocol header of family {0:#04x}, which is not TCP over IPv4 or IPv6")]
    Family(u8),
    /// The header is too long, or too short for its addresses.
    #[error("PROXY protocol header with the invalid length {0}")]
    Length(u16),
}

/// Reason why the origin of a connection is unknown.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The peer closed before it sent anything.
    #[error("the peer closed without sending anything")]
    Silent,
    /// The header is missing or wrong.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Determines the origin of `stream`. A peer in one of `networks` has to send a header first, of which
/// exactly its bytes are read. From other peers, and from a Unix socket, nothing is read.
pub async fn origin<S>(
    stream: &mut S,
    peer: ClientAddr,
    networks: &[IpNet],
) -> Result<ClientOrigin, OriginError>
where
    S: AsyncRead + Unpin,
{
    let ClientAddr::Tcp(peer) = peer else { return Ok(ClientOrigin::Direct(peer)) };
    let peer = canonical(peer);
    if !networks.iter().any(|network| network.contains(&peer.ip())) {
        return Ok(ClientOrigin::Direct(peer.into()));
    }
    let (command, family, length) = parse_fixed(read_fixed(stream).await?)?;
    let mut block = [0; limits::MAX_PROXY_HEADER - FIXED];
    let block = block.get_mut(..usize::from(length)).ok_or(HeaderError::Length(length))?;
    stream.read_exact(block).await?;
    Ok(match command {
        ProxyCommand::Local => ClientOrigin::Balancer(peer),
        ProxyCommand::Proxy => {
            ClientOrigin::Proxied { client: canonical(source(family, block)?), balancer: peer }
        }
    })
}

/// Skips an optional header, for services that do not use the client's address. Returns the bytes that were read in place of
/// a header; none after a header. An address block of any family is skipped.
pub async fn skip_header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, OriginError> {
    let mut fixed = [0; FIXED];
    let mut filled = 0;
    while let Some(rest) = fixed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 if filled == 0 => return Err(OriginError::Silent),
            0 => break,
            read => filled += read,
        }
        if !has_signature(&fixed, filled) {
            break;
        }
    }
    if filled < FIXED || !has_signature(&fixed, filled) {
        return Ok(fixed.iter().take(filled).copied().collect());
    }
    let [.., command, _, high, low] = fixed;
    if command != LOCAL && command != PROXY {
        return Err(HeaderError::Command(command).into());
    }
    let length = u16::from_be_bytes([high, low]);
    let mut block = [0; limits::MAX_PROXY_HEADER - FIXED];
    let block = block.get_mut(..usize::from(length)).ok_or(HeaderError::Length(length))?;
    stream.read_exact(block).await?;
    Ok(Vec::new())
}

/// True if the first `filled` bytes can begin a header.
fn has_signature(fixed: &[u8; FIXED], filled: usize) -> bool {
    fixed.iter().take(filled).zip(&SIGNATURE).all(|(got, expected)| got == expected)
}

/// Maps an IPv4-mapped IPv6 address to IPv4.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Reads the fixed part and stops at the first byte that does not belong to a header: other input may be
/// shorter than a header, and its sender may be waiting.
async fn read_fixed<S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; FIXED], OriginError> {
    let mut fixed = [0; FIXED];
    let mut filled = 0;
    while let Some(rest) = fixed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 if filled == 0 => return Err(OriginError::Silent),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => filled += read,
        }
        if !has_signature(&fixed, filled) {
            return Err(HeaderError::Signature.into());
        }
    }
    Ok(fixed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyCommand {
    Local,
    Proxy,
}

/// Parses the fixed part: command, family, and length of the rest.
fn parse_fixed(fixed: [u8; FIXED]) -> Result<(ProxyCommand, u8, u16), HeaderError> {
    let [.., command, family, high, low] = fixed;
    let length = u16::from_be_bytes([high, low]);
    if !fixed.starts_with(&SIGNATURE) {
        return Err(HeaderError::Signature);
    }
    if FIXED + usize::from(length) > limits::MAX_PROXY_HEADER {
        return Err(HeaderError::Length(length));
    }
    match command {
        LOCAL => Ok((ProxyCommand::Local, family, length)),
        PROXY if family == TCP4 || family == TCP6 => Ok((ProxyCommand::Proxy, family, length)),
        PROXY => Err(HeaderError::Family(family)),
        other => Err(HeaderError::Command(other)),
    }
}

/// The source address at the beginning of the address block. Destination and extensions (TLVs) are not used.
fn source(family: u8, block: &[u8]) -> Result<SocketAddr, HeaderError> {
    let length = || HeaderError::Length(u16::try_from(block.len()).unwrap_or(u16::MAX));
    let (ip, port): (IpAddr, [u8; 2]) = if family == TCP4 {
        let (addresses, _) = block.split_first_chunk::<12>().ok_or_else(length)?;
        let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
        ([a, b, c, d].into(), [high, low])
    } else {
        let (addresses, _) = block.split_first_chunk::<36>().ok_or_else(length)?;
        let (ip, rest) = addresses.split_first_chunk::<16>().ok_or_else(length)?;
        let (port, _) =
            rest.split_at_checked(16).and_then(|(_, ports)| ports.split_first_chunk()).ok_or_else(length)?;
        ((*ip).into(), *port)
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests;
