//! `[profiles]` and `[sign_in]`: HTTPS pages with the profiles of `pgpassport login https://…`, and for a sign-in in a
//! browser.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::client::TokenKind;
use super::listen::networks;
use super::reader::SectionReader;
use super::readers::{name, texts_or, web_address};
use super::{Config, DatabaseProtocol, IssuerSettings, ListenSettings};
use crate::names::{DbName, Endpoint};

/// Address and certificate of an HTTPS page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageListener {
    /// Address and port to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Certificate chain, PEM.
    pub tls_cert_file: PathBuf,
    /// Private key, PEM.
    pub tls_key_file: PathBuf,
    /// Networks of load balancers that send PROXY protocol headers.
    pub proxy_protocol_from: Vec<IpNet>,
}

impl Config {
    /// The pages that are on, by their tables.
    pub fn pages(&self) -> impl Iterator<Item = (&'static str, &PageListener)> {
        let profiles = self.profiles.iter().map(|page| ("profiles", &page.listener));
        profiles.chain(self.sign_in.iter().map(|page| ("sign_in", &page.listener)))
    }
}

/// `[profiles]` with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfilesSettings {
    /// Address and certificate.
    pub listener: PageListener,
    /// The profiles, a `client.toml`.
    pub client_file: PathBuf,
}

/// `[sign_in]` with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInSettings {
    /// Address and certificate.
    pub listener: PageListener,
    /// Public address of the page, without a path.
    pub url: String,
    /// Name of the issuer that people sign in at.
    pub issuer: String,
    /// Client identifier of the page at the issuer.
    pub client_id: String,
    /// File with the client's secret; a public client has none.
    pub client_secret_file: Option<PathBuf>,
    /// Scopes of the request, in their order.
    pub scopes: Vec<String>,
    /// Value of the parameter `audience`.
    pub audience: Option<String>,
    /// Token that people get.
    pub token: TokenKind,
    /// Listeners for databases, at most one of each protocol.
    pub proxies: Vec<SignInProxy>,
    /// Databases to offer in addition to those that the clusters name.
    pub databases: Vec<String>,
    /// Authorities of the listeners' certificates, PEM, for a download.
    pub ca_file: Option<PathBuf>,
}

/// A listener for databases, and the address at which people reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInProxy {
    /// Protocol of the listener.
    pub protocol: DatabaseProtocol,
    /// Public host and port.
    pub proxy: Endpoint,
    /// Name of the listener.
    pub listener: String,
}

/// Keys of the address and of the listener's name by protocol.
const PROXY_KEYS: [(DatabaseProtocol, &str, &str); 2] = [
    (DatabaseProtocol::PostgreSql, "proxy", "listener"),
    (DatabaseProtocol::MySql, "mysql_proxy", "mysql_listener"),
];

/// Keys of `[sign_in]` besides its address.
const SIGN_IN_KEYS: [&str; 16] = [
    "tls_cert_file",
    "tls_key_file",
    "proxy_protocol_from",
    "url",
    "issuer",
    "client_id",
    "client_secret_file",
    "scopes",
    "audience",
    "token",
    "proxy",
    "listener",
    "mysql_proxy",
    "mysql_listener",
    "databases",
    "ca_file",
];

/// The sign-in page; `None` if it is off. `issuers` and `listeners` are absent if they have errors.
pub(super) fn sign_in(
    section: &SectionReader<'_, '_>,
    issuers: Option<&[IssuerSettings]>,
    listeners: Option<&[ListenSettings]>,
) -> Option<SignInSettings> {
    let addr = addr(section);
    let path = |key, example| match addr {
        Some(_) => section.required_path(key, example),
        None => section.path(key),
    };
    let tls_cert_file = path("tls_cert_file", "\"/etc/pgpassport/sign-in.crt\"");
    let tls_key_file = path("tls_key_file", "\"/etc/pgpassport/sign-in.key\"");
    let proxy_protocol_from = networks(section, "proxy_protocol_from");
    let url = required(section, addr, "url", "\"https://sign-in.acme.com\"", origin);
    let client_id = required(section, addr, "client_id", "\"0oa1b2c3d4\"", visible_text);
    let issuer = section.parsed("issuer", name);
    let proxies = proxies(section, addr, listeners);
    let client_secret_file = section.path("client_secret_file");
    let scopes = texts_or(section, "scopes", &["openid"]);
    let audience = section.parsed("audience", visible_text);
    let words = [("access", TokenKind::Access), ("id", TokenKind::Id)];
    let token = section.choice("token", TokenKind::Access, &words);
    let databases = texts_or(section, "databases", &[]);
    let ca_file = section.path("ca_file");
    unused_without_addr(section, &SIGN_IN_KEYS);
    section.finish();
    let addr = addr?;
    if scopes.iter().any(|scope| visible_text(scope).is_err()) {
        section.wrong("scopes", "a scope is a word without spaces");
    }
    if databases.iter().any(|name| DbName::parse(name).is_err()) {
        section.wrong("databases", "write names of databases, as in [\"orders\"]");
    }
    let issuer = issuer_of(section, issuer.as_deref(), issuers?)?;
    let (tls_cert_file, tls_key_file) = (tls_cert_file?, tls_key_file?);
    let listener = PageListener { addr, tls_cert_file, tls_key_file, proxy_protocol_from };
    Some(SignInSettings {
        listener,
        url: url?,
        issuer,
        client_id: client_id?,
        client_secret_file,
        scopes,
        audience,
        token,
        proxies: proxies?,
        databases,
        ca_file,
    })
}

/// A value that a page needs if it is on.
fn required<V>(
    section: &SectionReader<'_, '_>,
    addr: Option<SocketAddr>,
    key: &'static str,
    example: &str,
    parse: impl FnOnce(&str) -> Result<V, String>,
) -> Option<V> {
    match addr {
        Some(_) => section.required(key, example, parse),
        None => section.parsed(key, parse),
    }
}

fn origin(text: &str) -> Result<String, String> {
    let url = web_address(text, false)?;
    match url.path() {
        "/" => Ok(url.origin().ascii_serialization()),
        _ => Err("write only https, host and port, as in \"https://sign-in.acme.com\"".into()),
    }
}

fn visible_text(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("write at most 512 visible ASCII characters without spaces".into());
    }
    Ok(text.to_owned())
}

/// The named issuer, or the only one.
fn issuer_of(
    section: &SectionReader<'_, '_>,
    named: Option<&str>,
    issuers: &[IssuerSettings],
) -> Option<String> {
    let found = match (named, issuers) {
        (None, [only]) => only,
        (None, _) => {
            section.missing("issuer", "\"<the name of one [[issuer]]>\"");
            return None;
        }
        (Some(name), issuers) => match issuers.iter().find(|issuer| issuer.name == name) {
            Some(issuer) => issuer,
            None => {
                section.wrong("issuer", format!("there is no [[issuer]] with the name {name:?}"));
                return None;
            }
        },
    };
    if !found.tenants.is_empty() {
        let text = format!(
            "people cannot sign in at a template for tenants ({}): name an [[issuer]] of one",
            found.name
        );
        section.wrong("issuer", text);
        return None;
    }
    Some(found.name.clone())
}

/// The listeners for databases, each with its public address; at least one is required with `addr`.
fn proxies(
    section: &SectionReader<'_, '_>,
    addr: Option<SocketAddr>,
    listeners: Option<&[ListenSettings]>,
) -> Option<Vec<SignInProxy>> {
    let read = PROXY_KEYS.map(|(protocol, address, listener)| {
        let endpoint = section.parsed(address, |text| {
            let wrong = || format!("{text:?} is not a host and port, as in \"db.acme.com:5432\"");
            Endpoint::parse(text).ok_or_else(wrong)
        });
        (protocol, (address, endpoint), (listener, section.parsed(listener, name)))
    });
    let _: SocketAddr = addr?;
    if !PROXY_KEYS.iter().any(|(_, address, _)| section.has(address)) {
        section.missing("proxy", "\"db.acme.com:5432\"");
        return None;
    }
    let mut found = Vec::new();
    for (protocol, (address, endpoint), (key, named)) in read {
        if section.has(address) {
            let listener = listener_of(section, protocol, (key, named.as_deref()), listeners?)?;
            found.push(SignInProxy { protocol, proxy: endpoint?, listener });
        } else if section.has(key) {
            section.warn(key, format!("{} is not set, so this key has no effect", section.key(address)));
        }
    }
    Some(found)
}

/// The named listener of a protocol, or the first one.
fn listener_of(
    section: &SectionReader<'_, '_>,
    protocol: DatabaseProtocol,
    (key, named): (&'static str, Option<&str>),
    listeners: &[ListenSettings],
) -> Option<String> {
    let mut able = listeners.iter().filter(|listener| listener.protocol == protocol);
    let found = match named {
        Some(name) => able.find(|listener| listener.name == name),
        None => able.next(),
    };
    if found.is_none() {
        let which = if named.is_some() { " with this name" } else { "" };
        section.wrong(key, format!("there is no [[listen]] with protocol = \"{}\"{which}", protocol.word()));
    }
    found.map(|listener| listener.name.clone())
}

/// The page of profiles; `None` if it is off.
pub(super) fn profiles(section: &SectionReader<'_, '_>) -> Option<ProfilesSettings> {
    let addr = addr(section);
    let required = |key, example| match addr {
        Some(_) => section.required_path(key, example),
        None => section.path(key),
    };
    let tls_cert_file = required("tls_cert_file", "\"/etc/pgpassport/profiles.crt\"");
    let tls_key_file = required("tls_key_file", "\"/etc/pgpassport/profiles.key\"");
    let client_file = required("client_file", "\"/etc/pgpassport/client.toml\"");
    let proxy_protocol_from = networks(section, "proxy_protocol_from");
    unused_without_addr(section, &["tls_cert_file", "tls_key_file", "client_file", "proxy_protocol_from"]);
    section.finish();
    let (addr, tls_cert_file, tls_key_file) = (addr?, tls_cert_file?, tls_key_file?);
    let listener = PageListener { addr, tls_cert_file, tls_key_file, proxy_protocol_from };
    Some(ProfilesSettings { listener, client_file: client_file? })
}

/// The address, which turns a page on.
fn addr(section: &SectionReader<'_, '_>) -> Option<SocketAddr> {
    section.parsed("addr", |text| {
        text.parse().map_err(|_| format!("{text:?} is not an address; write \"0.0.0.0:443\" or \"[::]:443\""))
    })
}

/// Warns about keys of a page that is off.
fn unused_without_addr(section: &SectionReader<'_, '_>, keys: &[&'static str]) {
    if !section.has("addr")
        && let Some(key) = keys.iter().find(|key| section.has(key))
    {
        section.warn(key, format!("{} is not set, so this page is off", section.key("addr")));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{REFERENCE, read};

    #[test]
    fn the_sign_in_page_is_off_without_an_address_and_names_what_is_missing() {
        let with =
            |keys: &str| read(&REFERENCE.replacen("\n[sign_in]\n", &format!("\n[sign_in]\n{keys}\n"), 1));
        assert!(with("").unwrap().sign_in.is_none());
        let off = with("client_id = \"c\"").unwrap();
        assert!(off.sign_in.is_none() && off.warnings.iter().any(|text| text.contains("sign_in.addr")));
        let told = with("addr = \"0.0.0.0:443\"").unwrap_err().to_string();
        for key in ["tls_cert_file", "tls_key_file", "url", "client_id", "proxy"] {
            assert!(told.contains(&format!("sign_in.{key}")), "{key}: {told}");
        }
        let needed = "addr = \"0.0.0.0:443\"\ntls_cert_file = \"c\"\ntls_key_file = \"k\"\nclient_id = \"c\"\n\
                      proxy = \"db.acme.com:5432\"\n";
        let on = with(&format!("{needed}url = \"https://sign-in.acme.com/\"")).unwrap().sign_in.unwrap();
        assert_eq!((&*on.url, &*on.issuer), ("https://sign-in.acme.com", "okta"));
        assert_eq!(
            (on.scopes, on.token),
            (vec!["openid".to_owned()], crate::config::client::TokenKind::Access)
        );
        for (bad, key) in [
            ("url = \"https://sign-in.acme.com/x\"", "url"),
            ("url = \"http://sign-in.acme.com\"", "url"),
            ("url = \"https://a.example\"\nissuer = \"x\"", "issuer"),
            ("url = \"https://a.example\"\nlistener = \"x\"", "listener"),
            ("url = \"https://a.example\"\nmysql_proxy = \"db.acme.com:3306\"", "mysql_listener"),
            ("url = \"https://a.example\"\nscopes = [\"a b\"]", "scopes"),
            ("url = \"https://a.example\"\ntoken = \"x\"", "token"),
        ] {
            let told = with(&format!("{needed}{bad}")).unwrap_err().to_string();
            assert!(told.contains(&format!("sign_in.{key}")), "{bad}: {told}");
        }
    }

    #[test]
    fn the_sign_in_page_is_for_listeners_of_either_protocol() {
        let mysql = "\n[[listen]]\nname = \"my\"\nprotocol = \"mysql\"\naddr = \"0.0.0.0:3306\"\ntls_cert_file = \"c\"\n\
                     tls_key_file = \"k\"\n";
        let reference = REFERENCE.replacen("\n[listen]\n", "\n[[listen]]\nname = \"pg\"\n", 1) + mysql;
        let with = |keys: &str| {
            let page = "addr = \"0.0.0.0:443\"\ntls_cert_file = \"c\"\ntls_key_file = \"k\"\nclient_id = \"c\"\n\
                        url = \"https://a.example\"";
            read(&reference.replacen("\n[sign_in]\n", &format!("\n[sign_in]\n{page}\n{keys}\n"), 1))
        };
        let (pg, my) = ("proxy = \"db.acme.com:5432\"\n", "mysql_proxy = \"db.acme.com:3306\"\n");
        for (keys, expected) in
            [(pg.to_owned(), &["pg"][..]), (my.to_owned(), &["my"]), (format!("{my}{pg}"), &["pg", "my"])]
        {
            let page = with(&keys).unwrap_or_else(|problem| panic!("{keys}: {problem}")).sign_in.unwrap();
            let names: Vec<_> = page.proxies.iter().map(|proxy| proxy.listener.as_str()).collect();
            assert_eq!(names, expected, "{keys}");
        }
        for (keys, key) in [
            (format!("{pg}listener = \"my\""), "sign_in.listener"),
            (format!("{my}mysql_listener = \"pg\""), "sign_in.mysql_listener"),
            (String::new(), "sign_in.proxy"),
        ] {
            let told = with(&keys).unwrap_err().to_string();
            assert!(told.contains(key), "{keys}: {told}");
        }
        let unused = with(&format!("{pg}mysql_listener = \"my\"")).unwrap();
        assert!(
            unused.warnings.iter().any(|text| text.contains("sign_in.mysql_proxy")),
            "{:?}",
            unused.warnings
        );
    }

    #[test]
    fn profiles_are_off_without_an_address_and_need_all_keys_with_one() {
        let with =
            |keys: &str| read(&REFERENCE.replacen("\n[profiles]\n", &format!("\n[profiles]\n{keys}\n"), 1));
        let files = "tls_cert_file = \"c\"\ntls_key_file = \"k\"\nclient_file = \"client.toml\"";
        let off = with(files).unwrap();
        assert!(off.profiles.is_none());
        assert!(
            off.warnings.iter().any(|text| text.contains("profiles.addr is not set")),
            "{:?}",
            off.warnings
        );
        let on = with(&format!("addr = \"[::]:443\"\n{files}")).unwrap().profiles.unwrap();
        assert_eq!(on.listener.addr.to_string(), "[::]:443");
        assert_eq!(on.client_file, std::path::Path::new("/etc/pgpassport/client.toml"));
        let told = with("addr = \"0.0.0.0:443\"").unwrap_err().to_string();
        for key in ["profiles.tls_cert_file", "profiles.tls_key_file", "profiles.client_file"] {
            assert!(told.contains(key), "{key}: {told}");
        }
        let told = with("addr = \"db.acme.com\"").unwrap_err().to_string();
        assert!(told.contains("is not an address"), "{told}");
    }
}
