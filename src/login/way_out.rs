//! The HTTP proxy of a person's machine, from `HTTPS_PROXY` and `NO_PROXY`, as curl reads them.

use std::ffi::OsString;

use hyper::Uri;
use percent_encoding::percent_decode_str;
use url::Url;

use super::SignInError;
use crate::names::direct_hosts::DirectHosts;
use crate::net::egress::{Egress, EgressProxy};
use crate::net::outgoing::Outgoing;
use crate::net::resolver::Resolver;

/// The way to issuers, by the process's environment.
pub fn of_environment() -> Result<Outgoing, SignInError> {
    let egress = egress(|name| std::env::var_os(name))?;
    Ok(Outgoing::new(Resolver::system(), egress))
}

fn egress(variable: impl Fn(&str) -> Option<OsString>) -> Result<Egress, SignInError> {
    let text = |names: [&str; 2]| {
        let found = names.into_iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        found.and_then(|value| value.into_string().ok())
    };
    let Some(proxy) = text(["https_proxy", "HTTPS_PROXY"]) else { return Ok(Egress::default()) };
    let direct = text(["no_proxy", "NO_PROXY"]).unwrap_or_default();
    if direct.trim() == "*" {
        return Ok(Egress::default());
    }
    let direct = direct.split(',').filter_map(|entry| DirectHosts::parse(entry.trim())).collect();
    // The value can hold a password, so it is not shown.
    let wrong =
        || SignInError::Profile("HTTPS_PROXY is not an address such as http://proxy.acme.com:3128".into());
    let url = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
    let url = Url::parse(&url).map_err(|_| wrong())?;
    let host = url.host_str().filter(|_| url.scheme() == "http").ok_or_else(wrong)?;
    let uri: Uri = format!("http://{host}:{}", url.port_or_known_default().unwrap_or(80))
        .parse()
        .map_err(|_| wrong())?;
    let mut to = EgressProxy { uri, authorization: None };
    if !url.username().is_empty() {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials =
            format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
        to = to.with_credentials(&credentials).ok_or_else(wrong)?;
    }
    Ok(Egress::through(to, direct))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_of_the_environment_is_used_but_for_named_hosts() {
        let of = |proxy: &'static str, direct: &'static str| {
            egress(move |name| match name {
                "HTTPS_PROXY" => Some(proxy.into()),
                "NO_PROXY" => Some(direct.into()),
                _ => None,
            })
        };
        let used =
            |egress: &Egress, url: &str| egress.proxy_for(&url.parse().unwrap()).map(|to| to.uri.to_string());
        let egress = of("http://a%40b:p@proxy.acme.com:3128", "intra.acme.com, 10.0.0.0/8").unwrap();
        assert_eq!(used(&egress, "https://idp.example").as_deref(), Some("http://proxy.acme.com:3128/"));
        assert!(egress.proxy_for(&"https://idp.example".parse().unwrap()).unwrap().authorization.is_some());
        assert_eq!(used(&egress, "https://x.intra.acme.com"), None);
        assert_eq!(used(&of("proxy:3128", "").unwrap(), "https://i").as_deref(), Some("http://proxy:3128/"));
        assert_eq!(used(&of("proxy:3128", "*").unwrap(), "https://i"), None);
        assert_eq!(used(&of("", "").unwrap(), "https://i"), None);
        let error = of("socks5://user:secret@proxy", "").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
