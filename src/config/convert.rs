//! From tables of TOML to what the program believes: meaning, defaults and limits of every key but the
//! cluster's.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use toml::de::DeTable;

use super::cluster::the_cluster;
use super::problem::{Problem, Problems};
use super::reader::{Item, Reading, Section};
use super::{
    Config, IssuerSettings, LimitSettings, ListenSettings, LogFormat, LogLevel, LogSettings,
    SignatureAlgorithm,
};
use crate::names::Issuer;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl Config {
    /// Reads `text`, the content of `file`; every problem is found in one run. Paths in it are relative to
    /// the folder of `file`. No file is opened.
    pub fn from_toml(text: &str, file: impl AsRef<Path>) -> Result<Self, Problems> {
        let file = file.as_ref();
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        let reading = Reading { text, folder, problems: RefCell::default() };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let whole = error.message().lines().collect::<Vec<_>>().join(", ");
            reading.problem(&error.span().unwrap_or(0..0), "", format!("this is not TOML: {whole}"));
        }
        let config =
            if reading.problems.borrow().is_empty() { whole(&Section::root(&reading, &root)) } else { None };
        let mut list: Vec<Problem> = reading.problems.into_inner();
        list.sort_by_key(|problem| (problem.line, problem.column));
        match config {
            Some(config) if list.is_empty() => Ok(config),
            _ => Err(Problems { file: file.display().to_string(), list }),
        }
    }
}

fn whole(root: &Section<'_, '_>) -> Option<Config> {
    let listen = listen(&root.section("listen"));
    let limits = limits(&root.section("limits"));
    let log = log(&root.section("log"));
    let issuers = issuers(root);
    let cluster = the_cluster(root);
    root.finish();
    Some(Config { listen: listen?, limits, log, issuers: issuers?, cluster: cluster? })
}

fn listen(section: &Section<'_, '_>) -> Option<ListenSettings> {
    let addr = section.parsed("addr", |text| {
        text.parse()
            .map_err(|_| format!("{text:?} is not an address; write \"0.0.0.0:5432\" or \"[::]:5432\""))
    });
    let tls_cert_file = section.required_path("tls_cert_file", "\"/etc/pgpassport/server.crt\"");
    let tls_key_file = section.required_path("tls_key_file", "\"/etc/pgpassport/server.key\"");
    let plaintext_from_loopback = section.boolean("plaintext_from_loopback", false);
    section.finish();
    Some(ListenSettings {
        addr: addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 5432))),
        tls_cert_file: tls_cert_file?,
        tls_key_file: tls_key_file?,
        plaintext_from_loopback,
    })
}

fn limits(section: &Section<'_, '_>) -> LimitSettings {
    let limits = LimitSettings {
        client_login_timeout: section.duration("client_login_timeout", 15 * SECOND, SECOND..=HOUR),
        login_timeout: section.duration("login_timeout", 60 * SECOND, SECOND..=HOUR),
        server_connect_timeout: section.duration("server_connect_timeout", 10 * SECOND, SECOND..=HOUR),
        max_client_conn: section.count("max_client_conn", 1_000, 1..=1_000_000),
        shutdown_timeout: section.duration("shutdown_timeout", 30 * SECOND, Duration::ZERO..=DAY),
    };
    for (name, time) in [
        ("client_login_timeout", limits.client_login_timeout),
        ("server_connect_timeout", limits.server_connect_timeout),
    ] {
        if time > limits.login_timeout {
            let text =
                "it is longer than login_timeout, which covers the whole login; shorten it or raise that";
            section.reading.problem(&section.span, &format!("limits.{name}"), text);
        }
    }
    section.finish();
    limits
}

fn log(section: &Section<'_, '_>) -> LogSettings {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let log = LogSettings {
        level: section.choice("level", LogLevel::Info, &levels),
        format: section.choice(
            "format",
            LogFormat::Text,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        ),
    };
    section.finish();
    log
}

fn issuers(root: &Section<'_, '_>) -> Option<Vec<IssuerSettings>> {
    let sections = root.sections("issuer");
    if sections.is_empty() {
        root.reading.problem(&(0..0), "issuer", "there is no [[issuer]]: whose tokens are to be accepted?");
    }
    let mut issuers: Vec<IssuerSettings> = Vec::new();
    let mut whole = true;
    for section in &sections {
        let Some(issuer) = issuer(section) else {
            whole = false;
            continue;
        };
        if issuers.iter().any(|other| other.issuer == issuer.issuer || other.name == issuer.name) {
            let text = "another [[issuer]] has the same url or name; give each its own";
            root.reading.problem(&section.span, "issuer", text);
        }
        issuers.push(issuer);
    }
    whole.then_some(issuers)
}

fn issuer(section: &Section<'_, '_>) -> Option<IssuerSettings> {
    let name = section.required("name", "\"okta\"", name);
    let private_network = section.boolean("private_network", false);
    let web = |text: &str| web_address(text, private_network).map(|_| Issuer::new(text));
    let issuer = section.required("url", "\"https://acme.okta.com/oauth2/default\"", web);
    let jwks_url = section.parsed("jwks_url", |text| web_address(text, private_network));
    let audience = required_texts(section, "audience", "[\"api://aurora\"]");
    let algorithms = algorithms(section);
    let token_types = texts_or(section, "token_types", &["JWT", "at+jwt"]);
    let leeway = section.duration("leeway", 30 * SECOND, Duration::ZERO..=300 * SECOND);
    let max_token_lifetime = section.duration("max_token_lifetime", DAY, 60 * SECOND..=DAY);
    let ca_file = section.path("ca_file");
    let jwks_refresh = section.duration("jwks_refresh", 300 * SECOND, 30 * SECOND..=DAY);
    let jwks_max_stale = section.duration("jwks_max_stale", HOUR, 60 * SECOND..=DAY);
    section.finish();
    Some(IssuerSettings {
        name: name?,
        issuer: issuer?,
        jwks_url,
        audience: audience?,
        algorithms,
        token_types: token_types.iter().map(|name| name.to_ascii_lowercase()).collect(),
        leeway,
        max_token_lifetime,
        ca_file,
        private_network,
        jwks_refresh,
        jwks_max_stale,
    })
}

pub(super) fn name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 63 || !text.chars().all(legal) {
        return Err("write a name of at most 63 letters, digits, '-', '_' and '.'".into());
    }
    Ok(text.to_owned())
}

/// Tokens and keys travel to this address: https, or http to this very machine.
pub(super) fn web_address(text: &str, private_network: bool) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(domain)) => domain == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback && private_network => {}
        "http" if loopback => {
            return Err("http to this machine is for trying things; it needs private_network = true".into());
        }
        _ => return Err("write an address that begins with https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user or password in it is not used; leave them out".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("leave out everything from '?' or '#' on".into());
    }
    Ok(url)
}

fn algorithms(section: &Section<'_, '_>) -> Vec<SignatureAlgorithm> {
    use SignatureAlgorithm::{Es256, Es384, Rs256, Rs384, Rs512};
    let all = [("RS256", Rs256), ("RS384", Rs384), ("RS512", Rs512), ("ES256", Es256), ("ES384", Es384)];
    let default = || all.iter().map(|(_, algorithm)| *algorithm).collect();
    let Some(items) = section.texts("algorithms") else { return default() };
    let mut chosen = Vec::new();
    for item in &items.value {
        match all.iter().find(|(word, _)| *word == item.value) {
            Some((_, algorithm)) => chosen.push(*algorithm),
            None => {
                let text = format!(
                    "{:?} cannot be used: AWS STS accepts RS256, RS384, RS512, ES256 and ES384 only",
                    item.value
                );
                section.reading.problem(&item.span, &item.key, text);
            }
        }
    }
    if items.value.is_empty() {
        section.reading.problem(
            &items.span,
            &items.key,
            "write at least one algorithm, or leave the key out",
        );
    }
    chosen
}

fn required_texts(section: &Section<'_, '_>, key: &'static str, example: &str) -> Option<Vec<String>> {
    let Some(items) = section.texts(key) else {
        section.missing(key, example);
        return None;
    };
    let texts: Vec<String> =
        items.value.iter().map(|item| item.value.to_owned()).filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        section.reading.problem(&items.span, &items.key, format!("write at least one, as in {example}"));
        return None;
    }
    Some(texts)
}

pub(super) fn texts_or(section: &Section<'_, '_>, key: &'static str, default: &[&str]) -> Vec<String> {
    match section.texts(key) {
        Some(Item { value, .. }) => value.into_iter().map(|item| item.value.to_owned()).collect(),
        None => default.iter().map(|text| (*text).to_owned()).collect(),
    }
}
