//! `client.toml`: the profiles that a person signs in with, as checked settings.

use std::fmt;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::DatabaseProtocol;
use super::problems::ConfigProblems;
use super::reader::{FileReader, SectionReader};
use super::readers::{claim_path, name, texts_or, web_address};
use super::sections::{check_name, several};
use crate::names::{DbName, DbUser, Endpoint};

/// Most redirect addresses of a profile, and so most ports that a sign-in tries.
const MAX_REDIRECTS: usize = 8;

/// Distance of the local agent's port from that of a server, for a profile that names none.
const AGENT_PORT_OFFSET: u16 = 10_000;

/// The profiles of `client.toml`.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// The profile that commands use without `--profile`; the only one when absent.
    pub default: Option<String>,
    /// No two with the same name.
    pub profiles: Vec<Profile>,
}

/// A `[[profile]]`: an issuer, a client registered there, and a proxy that takes its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The person's own name for it.
    pub name: String,
    /// Issuer URL, exactly as the issuer writes it in `iss`.
    pub issuer: String,
    /// Client identifier of the public client at the issuer.
    pub client_id: String,
    /// Scopes of the request, in their order.
    pub scopes: Vec<String>,
    /// Value of the parameter `audience`, which Auth0 asks for.
    pub audience: Option<String>,
    /// Value of the parameter `prompt` of a sign-in in a browser (OpenID Connect Core 1.0, section 3.1.2.1).
    pub prompt: Option<String>,
    /// Token that the proxy takes.
    pub token: TokenKind,
    /// Redirect addresses, in the order in which their ports are tried; at least one.
    pub redirects: Vec<RedirectAddress>,
    /// True if a sign-in by device code is allowed.
    pub device: bool,
    /// PEM file with the authorities of the issuer's certificate; the system's when absent.
    pub issuer_ca_file: Option<PathBuf>,
    /// True if the issuer may have a private or loopback address.
    pub private_network: bool,
    /// Wire protocol of the proxy's listener.
    pub protocol: DatabaseProtocol,
    /// Host and port of the proxy.
    pub proxy: Endpoint,
    /// PEM file with the authorities of the proxy's certificate; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Databases to offer; commands use the first one when none is named.
    pub databases: Vec<DbName>,
    /// Loopback port of the local agent, fixed so that tools can save it.
    pub agent_port: u16,
    /// Database user of the connection string.
    pub user: UserName,
    /// Place of the tokens between two commands.
    pub cache: CacheKind,
}

/// The token that is sent as the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `access_token`
    Access,
    /// `id_token`
    Id,
}

/// Source of the database user's name on the client's side. The proxy derives the real one from the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// A fixed name.
    Fixed(DbUser),
    /// The text of this claim of the token.
    Claim(Vec<String>),
}

/// Place of the tokens between two commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// A file that its owner alone can read.
    File,
    /// A program `docker-credential-NAME`; holds NAME.
    Helper(String),
    /// None: every command signs in.
    None,
}

/// A loopback redirect URI (RFC 8252, section 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectAddress {
    /// Host of the URI.
    pub host: LoopbackHost,
    /// Port of the URI; a free one when absent.
    pub port: Option<u16>,
    /// Path of the URI; begins with a slash.
    pub path: String,
}

/// The hosts that a redirect may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopbackHost {
    /// `127.0.0.1`
    V4,
    /// `[::1]`
    V6,
    /// `localhost`: both addresses.
    Localhost,
}

impl fmt::Display for RedirectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.host.as_str())?;
        match self.port {
            Some(port) => write!(f, ":{port}{}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

impl LoopbackHost {
    /// The host as a URI has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1",
            Self::V6 => "[::1]",
            Self::Localhost => "localhost",
        }
    }
}

impl ClientConfig {
    /// Reads `text`, the content of `file`; every problem is found in one run. Paths in it are relative to the folder
    /// of `file`. No file is opened.
    pub fn from_toml(text: &str, file: impl AsRef<Path>) -> Result<Self, ConfigProblems> {
        let file = file.as_ref();
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        let reading = FileReader::new(text, folder);
        let config = reading.read(&reading.parse(text), whole);
        config.ok_or_else(|| {
            ConfigProblems::new(file.display().to_string(), reading.problems.into_inner(), Vec::new())
        })
    }
}

fn whole(root: &SectionReader<'_, '_>) -> Option<ClientConfig> {
    let default = root.parsed("default", name);
    let sections = root.sections("profile");
    let profiles = several(&sections, profile, |section, profile: &Profile, before| {
        check_name(section, "profile", &profile.name, before.iter().map(|other| other.name.as_str()));
        let clash = before.iter().find(|other| other.agent_port == profile.agent_port);
        if let Some(other) = clash.filter(|_| section.has("agent_port")) {
            section.wrong("agent_port", format!("profile {:?} has the same port", other.name));
        }
    });
    root.finish();
    Some(ClientConfig { default, profiles: profiles? })
}

fn profile(section: &SectionReader<'_, '_>) -> Option<Profile> {
    let private_network = section.boolean("private_network", false);
    let name = section.required("name", "\"acme\"", name);
    let issuer = section.required("issuer", "\"https://acme.okta.com/oauth2/default\"", |text| {
        web_address(text, private_network).map(|_| text.to_owned())
    });
    let client_id = section.required("client_id", "\"0oa1b2c3d4\"", visible_text);
    let scopes = texts_or(section, "scopes", &["openid", "offline_access"]);
    if scopes.iter().any(|scope| !is_scope(scope)) {
        section.wrong("scopes", "a scope is a word without spaces, quotes and backslashes");
    }
    let audience = section.parsed("audience", visible_text);
    let prompt = section.parsed("prompt", prompt);
    let words = [("access", TokenKind::Access), ("id", TokenKind::Id)];
    let token = section.choice("token", TokenKind::Access, &words);
    let redirects = redirects(section);
    let device = section.boolean("device", true);
    let issuer_ca_file = section.path("issuer_ca_file");
    let protocol = section.choice("protocol", DatabaseProtocol::PostgreSql, &DatabaseProtocol::words());
    let port = protocol.default_port();
    let example = format!("\"db.acme.com:{port}\"");
    let proxy = section.required("proxy", &example, |text| {
        Endpoint::parse_with_port(text, port)
            .ok_or_else(|| format!("{text:?} is not a host and port, as in {example}"))
    });
    let ca_file = section.path("ca_file");
    let databases = databases(section);
    let default_agent_port = protocol.default_port() + AGENT_PORT_OFFSET;
    let agent_port = section.count("agent_port", usize::from(default_agent_port), 1..=usize::from(u16::MAX));
    let user = user(section);
    let cache = section.parsed("cache", cache).unwrap_or(CacheKind::File);
    section.finish();
    Some(Profile {
        name: name?,
        issuer: issuer?,
        client_id: client_id?,
        scopes,
        audience,
        prompt,
        token,
        redirects: redirects?,
        device,
        issuer_ca_file,
        private_network,
        protocol,
        proxy: proxy?,
        ca_file,
        databases: databases?,
        agent_port: u16::try_from(agent_port).unwrap_or(default_agent_port),
        user: user?,
        cache,
    })
}

fn visible_text(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("write at most 512 visible ASCII characters without spaces".into());
    }
    Ok(text.to_owned())
}

/// A person answers each of these; `none` would forbid that.
fn prompt(text: &str) -> Result<String, String> {
    if text.split(' ').all(|word| ["consent", "login", "select_account"].contains(&word)) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not known; write \"consent\", \"login\", \"select_account\", or several with a space"
    ))
}

/// RFC 6749, section 3.3.
fn is_scope(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    !text.is_empty() && text.len() <= 512 && text.bytes().all(legal)
}

fn redirects(section: &SectionReader<'_, '_>) -> Option<Vec<RedirectAddress>> {
    let texts = texts_or(section, "redirect", &["http://127.0.0.1/callback"]);
    if texts.is_empty() || texts.len() > MAX_REDIRECTS {
        section.wrong("redirect", format!("write 1 to {MAX_REDIRECTS} addresses"));
        return None;
    }
    let read: Result<Vec<_>, String> = texts.iter().map(|text| redirect(text)).collect();
    read.map_err(|text| section.wrong("redirect", text)).ok()
}

fn redirect(text: &str) -> Result<RedirectAddress, String> {
    let wanted = "write an address of this machine, as in \"http://127.0.0.1/callback\" or \
                  \"http://localhost:8400/callback\"";
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL ({error}); {wanted}"))?;
    let host = match url.host() {
        Some(Host::Ipv4(ip)) if ip.octets() == [127, 0, 0, 1] => LoopbackHost::V4,
        Some(Host::Ipv6(ip)) if ip.is_loopback() => LoopbackHost::V6,
        Some(Host::Domain("localhost")) => LoopbackHost::Localhost,
        _ => return Err(format!("{text:?} leads to another machine; {wanted}")),
    };
    let extra = url.query().is_some() || url.fragment().is_some() || !url.username().is_empty();
    if url.scheme() != "http" || extra || url.password().is_some() {
        return Err(format!("{text:?} has more than http, host, port and path; {wanted}"));
    }
    if url.port() == Some(0) {
        return Err("leave the port out to use any free one".into());
    }
    // The URL type leaves port 80 out, since it is the default of http; as a text it stands there.
    let is_80 = text
        .split_once("//")
        .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|a| a.ends_with(":80")));
    let port = url.port().or(is_80.then_some(80));
    Ok(RedirectAddress { host, port, path: url.path().to_owned() })
}

fn databases(section: &SectionReader<'_, '_>) -> Option<Vec<DbName>> {
    let texts = texts_or(section, "databases", &[]);
    let read: Result<Vec<_>, String> = texts
        .iter()
        .map(|text| DbName::parse(text).map_err(|error| format!("{text:?} is no database: {error}")))
        .collect();
    read.map_err(|text| section.wrong("databases", text)).ok()
}

/// The default is a placeholder that every proxy takes (`placeholders` in `proxy.toml`).
fn user(section: &SectionReader<'_, '_>) -> Option<UserName> {
    let fixed = section.parsed("user", |text| DbUser::parse(text).map_err(|error| error.to_string()));
    let claim = claim_path(section, "user_claim");
    if section.has("user") && section.has("user_claim") {
        section.wrong("user_claim", "write user or user_claim, not both");
    }
    match (fixed, claim) {
        (_, Some(claim)) => Some(UserName::Claim(claim)),
        (Some(user), None) => Some(UserName::Fixed(user)),
        (None, None) => DbUser::parse("token").ok().map(UserName::Fixed),
    }
}

fn cache(text: &str) -> Result<CacheKind, String> {
    match (text, text.strip_prefix("helper:")) {
        ("file", _) => Ok(CacheKind::File),
        ("none", _) => Ok(CacheKind::None),
        (_, Some(helper)) if name(helper).is_ok() && !helper.starts_with(['.', '-']) => {
            Ok(CacheKind::Helper(helper.to_owned()))
        }
        _ => Err(format!(
            "{text:?} is not known; write \"file\", \"none\" or \"helper:NAME\" for a program docker-credential-NAME"
        )),
    }
}

#[cfg(test)]
mod tests;
