//! Addresses to which an issuer's name may resolve: never cloud metadata services, private addresses only if
//! allowed.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::resolver::Resolver;

/// Azure's `WireServer`, a public address that every virtual machine on Azure can reach (Azure documentation,
/// "What is IP address 168.63.129.16?").
const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// A resolver that filters out forbidden addresses.
#[derive(Clone, Debug)]
pub struct GuardedResolver {
    resolver: Resolver,
    private_network: bool,
}

impl GuardedResolver {
    /// `private_network` allows private and loopback addresses.
    pub fn new(resolver: Resolver, private_network: bool) -> Self {
        Self { resolver, private_network }
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    /// Always ready; the resolver's limits apply in the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolver, private_network) = (self.resolver.clone(), self.private_network);
        Box::pin(async move {
            let found = resolver.look_up(name.as_str(), 0).await.map_err(io::Error::other)?;
            let allowed: Vec<_> =
                found.into_iter().filter(|addr| is_allowed(addr.ip(), private_network)).collect();
            if allowed.is_empty() {
                let text = "the name has no permitted address; see private_network";
                return Err(io::Error::other(text));
            }
            Ok(allowed.into_iter())
        })
    }
}

/// True if requests to `ip` are permitted. Cloud metadata services are never permitted; private addresses
/// only with `private_network`.
pub fn is_allowed(ip: IpAddr, private_network: bool) -> bool {
    let ip = match ip.to_canonical() {
        IpAddr::V6(v6) => embedded(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    let never = match ip {
        IpAddr::V4(ip) => {
            ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.octets()[0] >= 240 // reserved, and the broadcast address
                || ip == AZURE_WIRE_SERVER
        }
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast() || is_ec2_metadata(ip)
        }
    };
    let private = match ip {
        // RFC 6890: this network, shared address space, protocol assignments, benchmarking.
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || matches!((a, b, c), (0, _, _) | (100, 64..128, _) | (192, 0, 0) | (198, 18..20, _))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || is_site_local(ip),
    };
    !never && (!private || private_network)
}

/// The IPv4 address embedded in an IPv6 address: NAT64 (RFC 6052, `64:ff9b::/96`) or 6to4 (RFC 3056,
/// `2002::/16`).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// `fd00:ec2::/32`, EC2's instance services over IPv6 (EC2 user guide, "Instance metadata").
fn is_ec2_metadata(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0xfd00, 0x0ec2, ..])
}

/// `fec0::/10`, private before RFC 3879.
fn is_site_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfec0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p5_metadata_is_never_asked_and_private_addresses_by_leave_only() {
        let ask = |ip: &str, private| is_allowed(ip.parse().unwrap(), private);
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "168.63.129.16",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "::ffff:169.254.1.1",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "240.0.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(!ask(ip, false) && !ask(ip, true), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "0.1.2.3",
            "::1",
            "fd12::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
        ] {
            assert!(!ask(ip, false) && ask(ip, true), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "192.0.2.1",
            "2606:4700::1111",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(ask(ip, false) && ask(ip, true), "{ip}");
        }
    }
}
