//! `[listen]`: address, TLS and authentication of a listener; several `[[listen]]` for several addresses.

mod unix_socket;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub use self::unix_socket::{ListenAddr, PeerSettings, UnixSocketSettings};
use super::reader::SectionReader;
use super::readers::name;
use super::sections::{check_name, several};
use super::{DatabaseProtocol, IssuerSettings};
use crate::names::Issuer;

/// `[listen]`, or one `[[listen]]`
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// The operator's name for the listener, in logs. Default: its address.
    pub name: String,
    /// Protocol of its clients.
    pub protocol: DatabaseProtocol,
    /// Version in MySQL's greeting; the cluster's if absent.
    pub server_version: Option<String>,
    /// Address to listen on.
    pub addr: ListenAddr,
    /// Certificate and key; absent at a Unix socket.
    pub tls: Option<ListenTls>,
    /// Mode and group of a Unix socket.
    pub unix_socket: UnixSocketSettings,
    /// Users and groups that may use a Unix socket; all that can open it if absent.
    pub peers: Option<PeerSettings>,
    /// Requirements for client certificates; none if absent.
    pub client_certificate: Option<ClientCertificate>,
    /// True if other processes of the same user may listen on the same port (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// True if a client on the loopback interface may log in without TLS.
    pub plaintext_from_loopback: bool,
    /// Networks whose connections must begin with a PROXY protocol header, which is trusted.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Method of requesting the token.
    pub auth: ListenAuth,
}

/// Certificate and key of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
}

/// Method of requesting the client's token.
#[derive(Clone, Debug)]
pub enum ListenAuth {
    /// Cleartext password.
    Password,
    /// SASL OAUTHBEARER.
    OAuthBearer {
        /// Issuer named to clients without a token.
        issuer: Issuer,
        /// Scope named to clients.
        scope: String,
    },
    /// MySQL's plugin for OpenID Connect.
    OpenIdConnect,
}

/// Requirements for client certificates.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Certificate authorities of the clients, PEM.
    pub ca_file: PathBuf,
    /// True if a client without a certificate is rejected.
    pub required: bool,
}

/// All listeners, at least one. `issuers` is absent if they have errors.
pub(super) fn listeners(
    root: &SectionReader<'_, '_>,
    issuers: Option<&[IssuerSettings]>,
) -> Option<Vec<ListenSettings>> {
    root.record_required("listen");
    let sections = root.one_or_several("listen");
    if sections.is_empty() {
        root.reading.problem(&(0..0), "listen", "no [listen] section: add one");
    }
    several(
        &sections,
        |section| listen(section, issuers),
        |section, listener, before| {
            // Port 0 is another free port each time.
            let is_free_port = listener.addr.tcp().is_some_and(|addr| addr.port() == 0);
            if !is_free_port && before.iter().any(|other| other.addr == listener.addr) {
                let text = format!("another [[listen]] has the address {}; give each its own", listener.addr);
                section.reading.problem(&section.span, "listen", text);
            }
            if listener.name != listener.addr.to_string() {
                check_name(section, "listen", &listener.name, before.iter().map(|other| other.name.as_str()));
            }
        },
    )
}

fn listen(section: &SectionReader<'_, '_>, issuers: Option<&[IssuerSettings]>) -> Option<ListenSettings> {
    let protocol = section.choice("protocol", DatabaseProtocol::PostgreSql, &DatabaseProtocol::words());
    let addr = unix_socket::addr(section, protocol);
    let is_unix = matches!(addr, ListenAddr::Unix(_));
    let name = section.parsed("name", name).unwrap_or_else(|| addr.to_string());
    let tls = tls(section, is_unix);
    let unix_socket = unix_socket::file(section, is_unix);
    let peers = unix_socket::peers(section, is_unix);
    let client_certificate = client_certificate(section);
    let reuse_port = section.boolean("reuse_port", false);
    let plaintext_from_loopback = section.boolean("plaintext_from_loopback", false);
    let proxy_protocol_from = networks(section, "proxy_protocol_from");
    let server_version = section.parsed("server_version", server_version);
    let mysql = protocol == DatabaseProtocol::MySql;
    if mysql && plaintext_from_loopback {
        section
            .wrong("plaintext_from_loopback", "MySQL clients send a token only within TLS; remove this key");
    }
    if !mysql && server_version.is_some() {
        section.wrong("server_version", "this needs protocol = \"mysql\"");
    }
    let auth = auth(section, issuers, protocol, plaintext_from_loopback);
    if is_unix {
        unix_socket::without_tcp(section);
    }
    section.finish();
    Some(ListenSettings {
        name,
        protocol,
        server_version,
        addr,
        tls: tls?,
        unix_socket,
        peers,
        client_certificate,
        reuse_port,
        plaintext_from_loopback,
        proxy_protocol_from,
        auth: auth?,
    })
}

/// Certificate and key of a TCP listener. The outer `None` is a problem.
#[expect(clippy::option_option, reason = "absent by the address, or wrong")]
fn tls(section: &SectionReader<'_, '_>, is_unix: bool) -> Option<Option<ListenTls>> {
    if is_unix {
        let _ = (section.path("tls_cert_file"), section.path("tls_key_file")); // known, and reported elsewhere
        return Some(None);
    }
    // Not required in the schema, which does not know the kind of the address.
    let required = |key: &'static str, example| {
        if !section.has(key) {
            section.missing(key, example);
        }
        section.path(key)
    };
    let cert_file = required("tls_cert_file", "\"/etc/pgpassport/server.crt\"");
    let key_file = required("tls_key_file", "\"/etc/pgpassport/server.key\"");
    Some(Some(ListenTls { cert_file: cert_file?, key_file: key_file? }))
}

fn client_certificate(section: &SectionReader<'_, '_>) -> Option<ClientCertificate> {
    let ca_file = section.path("client_tls_ca_file");
    let required = section.choice("client_tls_certificate", true, &[("require", true), ("request", false)]);
    let word = section.text("client_tls_certificate");
    match (ca_file, word) {
        (Some(ca_file), _) => Some(ClientCertificate { ca_file, required }),
        (None, Some(word)) => {
            let text = "this needs client_tls_ca_file, the authorities that sign the clients' certificates";
            section.reading.problem(&word.span, &word.key, text);
            None
        }
        (None, None) => None,
    }
}

/// Longest issuer and scope together. libpq accepts no message over 2,000 bytes with them; the rest is the
/// JSON around them.
const MAX_DISCOVERY: usize = 1_800;

/// Values of `listen.auth`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AuthWord {
    Password,
    OAuthBearer,
    OpenIdConnect,
}

/// Longest version in a MySQL greeting (`SERVER_VERSION_LENGTH`, `mysql_com.h`).
const MAX_SERVER_VERSION: usize = 60;

/// A version as drivers read it: three numbers first, as in `8.0.39` or `10.11.6-MariaDB`.
fn server_version(text: &str) -> Result<String, String> {
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let parts: Vec<_> = numbers.split('.').collect();
    let legal = parts.len() == 3
        && parts.iter().all(|part| !part.is_empty() && part.len() <= 3)
        && text.len() <= MAX_SERVER_VERSION
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if legal { Ok(text.to_owned()) } else { Err("write three numbers first, as in \"8.0.39\"".into()) }
}

fn auth(
    section: &SectionReader<'_, '_>,
    issuers: Option<&[IssuerSettings]>,
    protocol: DatabaseProtocol,
    plaintext_from_loopback: bool,
) -> Option<ListenAuth> {
    let words = [
        ("password", AuthWord::Password),
        ("oauthbearer", AuthWord::OAuthBearer),
        ("openid-connect", AuthWord::OpenIdConnect),
    ];
    let word = section.choice("auth", AuthWord::Password, &words);
    match (protocol, word) {
        (DatabaseProtocol::MySql, AuthWord::OAuthBearer) => {
            section.wrong("auth", "MySQL has no OAUTHBEARER; write \"password\" or \"openid-connect\"");
        }
        (DatabaseProtocol::PostgreSql, AuthWord::OpenIdConnect) => {
            section.wrong("auth", "\"openid-connect\" needs protocol = \"mysql\"");
        }
        _ => {}
    }
    let bearer = word == AuthWord::OAuthBearer && protocol == DatabaseProtocol::PostgreSql;
    let scope = section.parsed("oauth_scope", scope);
    let named = section.text("oauth_issuer");
    if !bearer {
        for key in ["oauth_scope", "oauth_issuer"] {
            if let Some(item) = section.text(key) {
                section.reading.problem(&item.span, &item.key, "this needs auth = \"oauthbearer\"");
            }
        }
        return Some(match word {
            AuthWord::OpenIdConnect => ListenAuth::OpenIdConnect,
            AuthWord::Password | AuthWord::OAuthBearer => ListenAuth::Password,
        });
    }
    if plaintext_from_loopback {
        let text = "auth = \"oauthbearer\" requires TLS for every login; remove this key";
        section.wrong("plaintext_from_loopback", text);
    }
    let scope = scope.unwrap_or_else(|| "openid".to_owned());
    let issuer = match (named, issuers?) {
        (None, [only]) => only,
        (None, _) => {
            section.missing("oauth_issuer", "\"<the name of one [[issuer]]>\"");
            return None;
        }
        (Some(item), issuers) => match issuers.iter().find(|issuer| issuer.name == item.value) {
            Some(issuer) => issuer,
            None => {
                let text = format!("there is no [[issuer]] with the name {:?}", item.value);
                section.reading.problem(&item.span, &item.key, text);
                return None;
            }
        },
    };
    if !issuer.tenants.is_empty() {
        let text = format!(
            "clients cannot be sent to a template for tenants ({}): name an [[issuer]] of one tenant",
            issuer.name
        );
        section.wrong(if section.has("oauth_issuer") { "oauth_issuer" } else { "auth" }, text);
        return None;
    }
    if issuer.issuer.as_str().len() + scope.len() > MAX_DISCOVERY {
        let text = format!("issuer and oauth_scope together have more than {MAX_DISCOVERY} bytes");
        section.wrong("oauth_scope", text);
    }
    Some(ListenAuth::OAuthBearer { issuer: issuer.issuer.clone(), scope })
}

/// Scope tokens in the alphabet of RFC 6749 (section 3.3), separated by single spaces.
fn scope(text: &str) -> Result<String, String> {
    let legal = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.split(' ').all(|word| !word.is_empty() && word.bytes().all(legal)) {
        return Ok(text.to_owned());
    }
    Err("write scopes with one space between two, as in \"openid email\"".into())
}

pub(super) fn networks(section: &SectionReader<'_, '_>, key: &'static str) -> Vec<IpNet> {
    let Some(items) = section.texts(key) else { return Vec::new() };
    let mut networks = Vec::new();
    for item in &items.value {
        match network(item.value) {
            Ok(network) => networks.push(network),
            Err(text) => section.reading.problem(&item.span, &item.key, text),
        }
    }
    networks
}

fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse().map_err(|_| {
            format!("{text:?} is not a network; write \"10.0.0.0/16\", \"fd00::/8\" or one address")
        })?,
    };
    if network != network.trunc() {
        return Err(format!("{text:?} names an address inside a network; write \"{}\"", network.trunc()));
    }
    Ok(network)
}

#[cfg(test)]
mod tests;
