//! The PROXY protocol, version 2 (HAProxy, `doc/proxy-protocol.txt`): a balancer in front of us says whose
//! connection it passes on. Believed from configured networks only, and demanded from them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::limits;

/// The first 12 bytes of a header (section 2.2 of the specification).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length of what follows.
const FIXED: usize = 16;

/// Version 2 and its two commands.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Families of TCP: over IPv4 and IPv6. Datagrams, UNIX sockets and UNSPEC name no client of ours.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOrigin {
    /// From the client itself.
    Direct(SocketAddr),
    /// From a balancer on its own behalf (command LOCAL): a health check.
    Balancer(SocketAddr),
    /// From a client by way of a balancer.
    Proxied {
        /// The client, as the balancer says.
        client: SocketAddr,
        /// The balancer.
        balancer: SocketAddr,
    },
}

impl ClientOrigin {
    /// Whose connection it is: the address of limits, logs and records.
    pub fn client(&self) -> SocketAddr {
        match self {
            Self::Direct(client) | Self::Balancer(client) | Self::Proxied { client, .. } => *client,
        }
    }

    /// The balancer in between, if any.
    pub fn via(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct(_) => None,
            Self::Balancer(balancer) | Self::Proxied { balancer, .. } => Some(*balancer),
        }
    }

    /// Whether the client is certainly on this machine. What comes through a balancer is not, whatever
    /// address the balancer has or names.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Self::Direct(client) if client.ip().is_loopback())
    }
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is not one: a client that reached us without the balancer, or a balancer that sends none or
    /// version 1.
    #[error("a peer in proxy_protocol_from sent no PROXY protocol header of version 2")]
    Signature,
    /// Version 2 knows two commands.
    #[error("PROXY protocol header with unknown version or command {0:#04x}")]
    Command(u8),
    /// A client that has no TCP address.
    #[error("PROXY protocol header of family {0:#04x}, which is not TCP over IPv4 or IPv6")]
    Family(u8),
    /// Too long, or too short for its addresses.
    #[error("PROXY protocol header with an impossible length of {0}")]
    Length(u16),
}

/// Why the origin of a connection is unknown.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The peer closed before it sent anything.
    #[error("the peer closed without a word")]
    Silent,
    /// The header is missing or wrong.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Finds out whose connection `stream` is. A peer in one of `networks` has to send a header first, which is
/// read to its last byte and no further; from all others nothing is read.
pub async fn origin<S>(
    stream: &mut S,
    peer: SocketAddr,
    networks: &[IpNet],
) -> Result<ClientOrigin, OriginError>
where
    S: AsyncRead + Unpin,
{
    let peer = canonical(peer);
    if !networks.iter().any(|network| network.contains(&peer.ip())) {
        return Ok(ClientOrigin::Direct(peer));
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

/// Reads a header from a peer that may send one and need not, for services that do not use the client's address. Gives
/// the bytes that stand at the beginning of the stream in place of a header; after a header there are none. The address
/// block is skipped whatever family it has.
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

/// Whether the first `filled` bytes of a fixed part can be those of a header.
fn has_signature(fixed: &[u8; FIXED], filled: usize) -> bool {
    fixed.iter().take(filled).zip(&SIGNATURE).all(|(got, expected)| got == expected)
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Reads the fixed part, and gives up at the first byte that no header has there: what is no header may be
/// shorter than one, and its sender may be waiting.
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

/// The fixed part: command, family, and how many bytes follow.
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

/// The source address at the beginning of the address block; destination and extensions (TLVs) are not used.
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
