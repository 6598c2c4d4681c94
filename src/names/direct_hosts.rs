//! Hosts that are reached without the proxy: the entries of `egress.no_proxy`.

use std::net::IpAddr;

use ipnet::IpNet;

/// A domain with everything below it, or a network of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectHosts {
    /// In lower case, without a dot at either end.
    Domain(String),
    /// For URLs that hold an address. Names are not resolved for this.
    Network(IpNet),
}

impl DirectHosts {
    /// `acme.com` and `.acme.com` are the domain and everything below it; `10.0.0.0/8` and `10.1.2.3` are addresses.
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

    /// Whether `host`, in lower case, is one of them; `ip` is its address, where it is one.
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
