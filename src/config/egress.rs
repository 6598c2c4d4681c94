//! `[egress]`: the HTTP proxy for requests to issuers and STS.

use std::path::PathBuf;

use super::reader::SectionReader;
use crate::names::direct_hosts::DirectHosts;

/// `[egress]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EgressSettings {
    /// `http://host:port`; if absent, hosts are reached directly.
    pub proxy: Option<url::Url>,
    /// File with the proxy's credentials, `user:password`.
    pub proxy_credentials_file: Option<PathBuf>,
    /// Hosts that are reached directly despite the proxy.
    pub no_proxy: Vec<DirectHosts>,
}

pub(super) fn egress(section: &SectionReader<'_, '_>) -> EgressSettings {
    let proxy = section.parsed("proxy", proxy);
    let proxy_credentials_file = section.path("proxy_credentials_file");
    let mut no_proxy = Vec::new();
    for item in section.texts("no_proxy").into_iter().flat_map(|items| items.value) {
        match DirectHosts::parse(item.value) {
            Some(hosts) => no_proxy.push(hosts),
            None => {
                let text = "write a domain, an address or a network, as in \"acme.com\" or \"10.0.0.0/8\"";
                section.reading.problem(&item.span, &item.key, text);
            }
        }
    }
    if proxy.is_none() && !section.has("proxy") {
        for key in ["proxy_credentials_file", "no_proxy"] {
            if section.has(key) {
                section.wrong(key, "this needs egress.proxy, which is not set");
            }
        }
    }
    section.finish();
    EgressSettings { proxy, proxy_credentials_file, no_proxy }
}

fn proxy(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(
            "write an address that begins with http://, as in \"http://proxy.acme.com:3128\"; what goes \
                    through it is encrypted with HTTPS end to end"
                .into(),
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put user and password into a file, and its name into proxy_credentials_file".into());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("remove everything after host and port".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{problem, read, with};

    #[test]
    fn a_proxy_is_http_and_nothing_but_host_and_port() {
        let proxy = |text: &str| format!("proxy = \"{text}\"");
        assert_eq!(read(&with(&[])).unwrap().egress, EgressSettings::default());
        let on = with(&[
            ("proxy", &proxy("http://proxy.acme.com:3128")),
            ("no_proxy", "no_proxy = [\"acme.com\"]"),
        ]);
        let settings = read(&on).unwrap().egress;
        assert_eq!(settings.proxy.unwrap().as_str(), "http://proxy.acme.com:3128/");
        assert_eq!(settings.no_proxy, [DirectHosts::Domain("acme.com".into())]);
        for wrong in [
            "proxy.acme.com:3128",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://u:p@proxy",
            "http://proxy/x",
        ] {
            assert!(problem(&[("proxy", &proxy(wrong))]).contains("egress.proxy"), "{wrong}");
        }
        let told =
            problem(&[("proxy", &proxy("http://proxy")), ("no_proxy", "no_proxy = [\"https://acme.com\"]")]);
        assert!(told.contains("egress.no_proxy"), "{told}");
        let told = problem(&[("no_proxy", "no_proxy = [\"acme.com\"]")]);
        assert!(told.contains("egress.no_proxy") && told.contains("egress.proxy"), "{told}");
    }
}
