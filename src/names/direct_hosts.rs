//! Hosts that are reached without the proxy: the entries of `egress.no_proxy`.

use std::net::IpAddr;

use ipnet::IpNet;

/// A domain with its subdomains, or a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectHosts {
    /// Lower case, without a leading or trailing dot.
    Domain(String),
    /// Matches URLs with an IP address. Names are not resolved for it.
    Network(IpNet),
}

impl DirectHosts {
    /// Parses an entry. `acme.com` and `.acme.com` are the domain with its subdomains; `10.0.0.0/8` and
    /// `10.1.2.3` are addresses.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Some(Self::Network(network));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Network(ip.into()));
        }
        let domain = text.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (!domain.is_empty() && domain.chars().all(legal)).then_some(Self::Domain(domain))
    }

    /// True if the entry contains `host`, which is in lower case. `ip` is the host's address if it is one.
    pub fn holds(&self, host: &str, ip: Option<IpAddr>) -> bool {
        match self {
            Self::Domain(domain) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.')),
            Self::Network(network) => ip.is_some_and(|ip| network.contains(&ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", ".", "https://acme.com", "acme.com:443", "*.acme.com", "a b", "10.0.0.0/33"] {
            assert_eq!(DirectHosts::parse(text), None, "{text}");
        }
    }
}
