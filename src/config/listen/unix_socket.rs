//! Address of a listener, and the keys that only Unix sockets have.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::DatabaseProtocol;
use crate::config::named_principal::{NamedPrincipal, PrincipalKind};
use crate::config::reader::{SectionReader, SpannedValue};

/// Beginning of the address of a Unix socket.
const PREFIX: &str = "unix:";

/// Longest path of a Unix socket, in bytes (unix(7)).
const MAX_PATH: usize = 107;

/// Mode of the socket file: the service's user and the socket's group may connect.
const DEFAULT_MODE: u32 = 0o660;

/// Beginning of the names of sockets that libpq finds, before the port.
const LIBPQ_NAME: &str = ".s.PGSQL.";

/// Address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// Address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddr {
    /// Address and port of TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "{PREFIX}{}", path.display()),
        }
    }
}

/// Mode and group of a socket file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocketSettings {
    /// Mode of the file.
    pub mode: u32,
    /// Group of the file, by name or number; that of the process if absent.
    pub group: Option<String>,
}

impl Default for UnixSocketSettings {
    fn default() -> Self {
        Self { mode: DEFAULT_MODE, group: None }
    }
}

/// Users and groups of this machine that may use a socket, by name or number. One match is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Users.
    pub users: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
}

/// The address of a listener.
pub(super) fn addr(section: &SectionReader<'_, '_>, protocol: DatabaseProtocol) -> ListenAddr {
    let port = protocol.default_port();
    let parsed = section.parsed("addr", |text| parse(text, port));
    let addr = parsed.unwrap_or_else(|| ListenAddr::Tcp(SocketAddr::from(([0, 0, 0, 0], port))));
    if let ListenAddr::Unix(path) = &addr {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let port = name.strip_prefix(LIBPQ_NAME).and_then(|port| port.parse::<u16>().ok());
        if protocol == DatabaseProtocol::PostgreSql && port.is_none() {
            let text = format!(
                "libpq (psql, psycopg) finds a socket only by the name {LIBPQ_NAME}<port>, as in \
                 unix:/run/pgpassport/.s.PGSQL.5432"
            );
            section.warn("addr", text);
        }
    }
    addr
}

fn parse(text: &str, port: u16) -> Result<ListenAddr, String> {
    let example = "\"unix:/run/pgpassport/.s.PGSQL.5432\"";
    let Some(path) = text.strip_prefix(PREFIX) else {
        return text.parse().map(ListenAddr::Tcp).map_err(|_| {
            format!("{text:?} is not an address; write \"0.0.0.0:{port}\" or \"[::]:{port}\", or {example} for a Unix socket")
        });
    };
    let is_file = path.starts_with('/') && !path.ends_with('/') && !path.contains('\0');
    if !is_file {
        return Err(format!("write the whole path of the socket, as in {example}"));
    }
    if path.len() > MAX_PATH {
        return Err(format!(
            "the path of a socket has at most {MAX_PATH} bytes; this one has {}",
            path.len()
        ));
    }
    Ok(ListenAddr::Unix(path.into()))
}

/// Mode and group of the socket file. The keys are problems at a TCP listener.
pub(super) fn file(section: &SectionReader<'_, '_>, is_unix: bool) -> UnixSocketSettings {
    let mode = section.parsed("socket_mode", mode).unwrap_or(DEFAULT_MODE);
    let group = section.parsed("socket_group", principal);
    if let (Some(name), Some(item)) = (&group, section.text("socket_group")) {
        record(section, PrincipalKind::Group, name, &item);
    }
    only_unix(section, &["socket_mode", "socket_group"], is_unix);
    UnixSocketSettings { mode, group }
}

/// Users and groups that may use the socket; `None` without a list.
pub(super) fn peers(section: &SectionReader<'_, '_>, is_unix: bool) -> Option<PeerSettings> {
    let users = principals(section, "peer_users", PrincipalKind::User);
    let groups = principals(section, "peer_groups", PrincipalKind::Group);
    only_unix(section, &["peer_users", "peer_groups"], is_unix);
    if users.is_none() && groups.is_none() {
        return None;
    }
    Some(PeerSettings { users: users.unwrap_or_default(), groups: groups.unwrap_or_default() })
}

/// Keys of TCP that mean nothing at a Unix socket.
pub(super) fn without_tcp(section: &SectionReader<'_, '_>) {
    for key in ["tls_cert_file", "tls_key_file", "client_tls_ca_file"] {
        if section.has(key) {
            section
                .wrong(key, "a Unix socket has no TLS: its bytes never leave this machine; remove this key");
        }
    }
    if section.has("proxy_protocol_from") {
        section.wrong("proxy_protocol_from", "no load balancer connects to a Unix socket; remove this key");
    }
    for key in ["reuse_port", "plaintext_from_loopback"] {
        if section.has(key) {
            section.wrong(key, "this is for TCP; remove this key");
        }
    }
}

fn only_unix(section: &SectionReader<'_, '_>, keys: &[&'static str], is_unix: bool) {
    for key in keys.iter().copied().filter(|key| !is_unix && section.has(key)) {
        section.wrong(key, "this needs a Unix socket: addr = \"unix:/run/pgpassport/.s.PGSQL.5432\"");
    }
}

/// A mode in octal digits. Without a right of its owner, the service's own user could not connect.
fn mode(text: &str) -> Result<u32, String> {
    let parsed = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600);
    parsed.filter(|_| text.len() == 4).ok_or_else(|| "write four octal digits, as in \"0660\"".to_owned())
}

/// Name or number of a user or group.
fn principal(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '$' | '\\' | '+');
    let legal = (1..=255).contains(&text.len()) && text.chars().all(legal);
    legal.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is neither a name nor a number"))
}

/// Records a name with its place, so that it can be looked up later.
fn record(section: &SectionReader<'_, '_>, kind: PrincipalKind, name: &str, item: &SpannedValue<&str>) {
    let place = section.reading.at(&item.span, &item.key, String::new());
    section.reading.principals.borrow_mut().push(NamedPrincipal::new(kind, name.to_owned(), place));
}

fn principals(
    section: &SectionReader<'_, '_>,
    key: &'static str,
    kind: PrincipalKind,
) -> Option<Vec<String>> {
    let items = section.texts(key)?;
    let mut names = Vec::new();
    for item in &items.value {
        match principal(item.value) {
            Ok(name) => {
                record(section, kind, &name, item);
                names.push(name);
            }
            Err(text) => section.reading.problem(&item.span, &item.key, text),
        }
    }
    Some(names)
}
