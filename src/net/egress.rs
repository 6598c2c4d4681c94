//! HTTP proxy for outgoing requests, and the hosts that are reached without it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use crate::names::direct_hosts::DirectHosts;

/// Routing of outgoing requests. Without a proxy every host is reached directly. The environment
/// (`HTTPS_PROXY`) is not read.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    proxy: Option<EgressProxy>,
    direct: Vec<DirectHosts>,
}

/// A proxy that supports `CONNECT` (RFC 9110, section 9.3.6).
#[derive(Clone, Debug)]
pub struct EgressProxy {
    /// `http://host:port`
    pub uri: Uri,
    /// `Proxy-Authorization`; never printed.
    pub authorization: Option<HeaderValue>,
}

impl EgressProxy {
    /// Adds `user:password` for Basic authentication (RFC 7617). `None` if the credentials contain a control
    /// character.
    pub fn with_credentials(mut self, credentials: &str) -> Option<Self> {
        if credentials.chars().any(char::is_control) || !credentials.contains(':') {
            return None;
        }
        let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(credentials)));
        let mut value = HeaderValue::from_str(&basic).ok()?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Some(self)
    }
}

impl Egress {
    /// Routes requests through `proxy`, except those to `direct`.
    pub fn through(proxy: EgressProxy, direct: Vec<DirectHosts>) -> Self {
        Self { proxy: Some(proxy), direct }
    }

    /// The proxy for requests to `target`. Loopback is always reached directly.
    pub fn proxy_for(&self, target: &Uri) -> Option<&EgressProxy> {
        let host = target.host()?.trim_end_matches('.').to_ascii_lowercase();
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let is_this_machine = host == "localhost" || ip.is_some_and(|ip| ip.to_canonical().is_loopback());
        if is_this_machine || self.direct.iter().any(|direct| direct.holds(&host, ip)) {
            return None;
        }
        self.proxy.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> EgressProxy {
        EgressProxy { uri: Uri::from_static("http://proxy:3128"), authorization: None }
    }

    #[test]
    fn direct_hosts_are_domains_with_what_is_below_them_and_networks() {
        let direct = ["acme.com", ".Example.org", "10.0.0.0/8", "192.168.1.1", "2001:db8::/32"];
        let direct = direct.into_iter().map(|text| DirectHosts::parse(text).unwrap()).collect();
        let egress = Egress::through(proxy(), direct);
        for (url, through) in [
            ("https://acme.com/x", false),
            ("https://sso.ACME.com.", false),
            ("https://notacme.com", true),
            ("https://acme.com.evil.example", true),
            ("https://example.org", false),
            ("https://a.b.example.org:8443", false),
            ("https://10.255.0.1", false),
            ("https://11.0.0.1", true),
            ("https://192.168.1.1", false),
            ("https://192.168.1.2", true),
            ("https://[2001:db8::1]", false),
            ("https://[2001:db9::1]", true),
            ("http://127.0.0.1:8080", false),
            ("http://localhost:8080", false),
            ("https://[::1]", false),
            ("https://sts.eu-central-1.amazonaws.com", true),
        ] {
            assert_eq!(egress.proxy_for(&url.parse().unwrap()).is_some(), through, "{url}");
        }
        assert!(Egress::default().proxy_for(&Uri::from_static("https://acme.com")).is_none());
    }

    #[test]
    fn credentials_are_basic_and_are_not_printed() {
        let with = proxy().with_credentials("Aladdin:open sesame").unwrap(); // RFC 7617, section 2
        assert_eq!(with.authorization.as_ref().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{with:?}").contains("QWxh"), "{with:?}");
        assert!(
            proxy().with_credentials("no colon").is_none()
                && proxy().with_credentials("a:b\r\nX: y").is_none()
        );
    }
}
