//! Profiles that an administrator publishes at `https://…/.well-known/pgpassport`. Nothing in them is secret. They are used
//! once the person has accepted them, and again after a change only when the person has accepted the change.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use url::Url;

use super::SignInError;
use super::folders::ClientFolders;
use crate::config::DatabaseProtocol;
use crate::config::client::{ClientConfig, Profile, TokenKind, UserName};
use crate::names::printable;
use crate::net::https::HttpsLimits;
use crate::net::outgoing::Outgoing;

const LIMITS: HttpsLimits = HttpsLimits {
    body: 256 * 1024,
    connect: Duration::from_secs(10),
    request: Duration::from_secs(20),
    connections: 1,
};

const VERSION: u32 = 1;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedProfiles {
    version: u32,
    profiles: Vec<PublishedProfile>,
}

/// A profile: the keys of `client.toml` that an administrator decides, and certificates in the place of their files.
/// `cache` is none of them, because it can name a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedProfile {
    name: String,
    issuer: String,
    client_id: String,
    proxy: String,
    /// Left out for PostgreSQL, so that older versions of the program read the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    databases: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_claim: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_network: Option<bool>,
    /// PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_ca: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    issuer_ca_file: Option<String>,
}

/// A document that the person has accepted, and its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedProfiles {
    url: String,
    document: PublishedProfiles,
}

/// The `[[profile]]` tables of a document, as `client.toml` has them.
#[derive(Serialize)]
struct ProfileTables {
    profile: Vec<PublishedProfile>,
}

impl PublishedProfiles {
    /// The document of the profiles in a `client.toml`; their certificate files are read.
    pub fn of(config: &ClientConfig) -> Result<Self, SignInError> {
        let profiles = config.profiles.iter().map(PublishedProfile::of).collect::<Result<_, _>>()?;
        Ok(Self { version: VERSION, profiles })
    }

    /// The document as it is published.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() // texts and lists are always JSON
    }

    /// The document at `url`, an address without a path. Nothing is accepted by this.
    pub async fn fetch(url: &str, outgoing: &Outgoing) -> Result<AcceptedProfiles, SignInError> {
        let wrong = || SignInError::Profile(format!("{url:?} is not an address such as https://db.acme.com"));
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let plain = parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty();
        if parsed.scheme() != "https" || parsed.path() != "/" || parsed.password().is_some() || !plain {
            return Err(wrong());
        }
        let origin = parsed.origin().ascii_serialization();
        let https = outgoing.client(None, true, LIMITS)?;
        let answer = https.get(&format!("{origin}/.well-known/pgpassport"), "application/json").await;
        let answer = answer.map_err(|error| SignInError::unreachable(&origin, &error))?;
        if answer.status != StatusCode::OK {
            let problem = format!("it answers {}", answer.status);
            return Err(SignInError::Unreachable { issuer: origin, problem });
        }
        let document: Self = serde_json::from_slice(&answer.body).map_err(|error| {
            SignInError::Profile(format!(
                "the profiles of {origin} cannot be read: {}",
                printable(&error.to_string(), 300)
            ))
        })?;
        if document.version != VERSION {
            return Err(SignInError::Profile(format!(
                "the profiles of {origin} have version {}",
                document.version
            )));
        }
        let found = AcceptedProfiles { url: origin, document };
        found.tables()?; // every rule of client.toml holds for them
        Ok(found)
    }
}

impl PublishedProfile {
    fn of(profile: &Profile) -> Result<Self, SignInError> {
        let pem = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let (user, user_claim) = match &profile.user {
            UserName::Fixed(user) => (Some(user.as_str().to_owned()), None),
            UserName::Claim(path) => (None, Some(path.clone())),
        };
        let redirect = profile.redirects.iter().map(ToString::to_string).collect();
        Ok(Self {
            name: profile.name.clone(),
            issuer: profile.issuer.clone(),
            client_id: profile.client_id.clone(),
            proxy: profile.proxy.to_string(),
            protocol: (profile.protocol != DatabaseProtocol::PostgreSql)
                .then(|| profile.protocol.word().to_owned()),
            scopes: Some(profile.scopes.clone()),
            audience: profile.audience.clone(),
            prompt: profile.prompt.clone(),
            token: Some(if profile.token == TokenKind::Id { "id" } else { "access" }.to_owned()),
            redirect: Some(redirect),
            device: Some(profile.device),
            databases: Some(profile.databases.iter().map(|name| name.as_str().to_owned()).collect()),
            agent_port: Some(profile.agent_port),
            user,
            user_claim,
            private_network: Some(profile.private_network),
            ca: pem(&profile.ca_file)?,
            issuer_ca: pem(&profile.issuer_ca_file)?,
            ..Self::default()
        })
    }
}

impl AcceptedProfiles {
    /// Names of the profiles.
    pub fn names(&self) -> Vec<&str> {
        self.document.profiles.iter().map(|profile| profile.name.as_str()).collect()
    }

    /// The address of the document.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The document accepted before from the same address.
    pub fn before(&self, folders: &ClientFolders) -> Result<Option<Self>, SignInError> {
        Ok(accepted(folders)?.into_iter().find(|one| one.url == self.url))
    }

    /// Lines that a person reads before accepting: all of them, or those that differ from `before`.
    pub fn lines(&self, before: Option<&Self>) -> Vec<String> {
        let all = |one: &Self| -> Vec<String> {
            let text = serde_json::to_string_pretty(&one.document.profiles).unwrap_or_default();
            text.lines()
                .map(|line| printable(line, 400).replace("\\\"", "\"").replace("\\\\n", " "))
                .collect()
        };
        let (new, old) = (all(self), before.map(all).unwrap_or_default());
        if before.is_none() {
            return new;
        }
        let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
        let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
        gone.chain(come).collect()
    }

    /// Keeps the document as accepted.
    pub fn accept(&self, folders: &ClientFolders) -> Result<(), SignInError> {
        let folder = folder(folders);
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        for (name, pem) in self.certificates() {
            write(&folder.join(name), pem)?;
        }
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        write(&folder.join(format!("{}.json", self.stem())), &text)
    }

    /// The profiles. Their certificate files are those that [`AcceptedProfiles::accept`] wrote.
    fn profiles(&self, folders: &ClientFolders) -> Result<Vec<Profile>, SignInError> {
        Ok(ClientConfig::from_toml(&self.tables()?, folder(folders).join(format!("{}.json", self.stem())))?
            .profiles)
    }

    /// The text of a `client.toml` with these profiles.
    fn tables(&self) -> Result<String, SignInError> {
        let file = |profile: &PublishedProfile, kind: &str| self.certificate_name(&profile.name, kind);
        let tables = self.document.profiles.iter().map(|profile| PublishedProfile {
            ca: None,
            issuer_ca: None,
            ca_file: profile.ca.as_ref().map(|_| file(profile, "ca")),
            issuer_ca_file: profile.issuer_ca.as_ref().map(|_| file(profile, "issuer-ca")),
            ..profile.clone()
        });
        let text = toml::to_string(&ProfileTables { profile: tables.collect() });
        let text = text.map_err(|error| SignInError::Profile(error.to_string()))?;
        ClientConfig::from_toml(&text, &self.url)?;
        Ok(text)
    }

    fn certificates(&self) -> Vec<(String, &str)> {
        let of = |profile: &'_ PublishedProfile, kind: &str| self.certificate_name(&profile.name, kind);
        let mut all = Vec::new();
        for profile in &self.document.profiles {
            all.extend(profile.ca.as_deref().map(|pem| (of(profile, "ca"), pem)));
            all.extend(profile.issuer_ca.as_deref().map(|pem| (of(profile, "issuer-ca"), pem)));
        }
        all
    }

    /// Names hold no slash: the rules of client.toml are checked first.
    fn certificate_name(&self, profile: &str, kind: &str) -> String {
        format!("{}.{profile}.{kind}.pem", self.stem())
    }

    fn stem(&self) -> String {
        let host = self.url.trim_start_matches("https://");
        host.chars().map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' }).collect()
    }
}

/// Every accepted document.
pub fn accepted(folders: &ClientFolders) -> Result<Vec<AcceptedProfiles>, SignInError> {
    let folder = folder(folders);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(&folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(&folder))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let one: AcceptedProfiles = serde_json::from_str(&read(&path)?)
                .map_err(|error| SignInError::File { path, problem: error.to_string() })?;
            found.push(one);
        }
    }
    Ok(found)
}

/// The profiles of every accepted document, after those of the person's own file, which come first.
pub fn add_to(config: &mut ClientConfig, folders: &ClientFolders) -> Result<(), SignInError> {
    for document in accepted(folders)? {
        for profile in document.profiles(folders)? {
            if config.profiles.iter().all(|own| own.name != profile.name) {
                config.profiles.push(profile);
            }
        }
    }
    Ok(())
}

fn folder(folders: &ClientFolders) -> PathBuf {
    folders.config.join("published")
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> SignInError {
    move |error| SignInError::File { path: path.to_owned(), problem: error.to_string() }
}

fn read(path: &Path) -> Result<String, SignInError> {
    fs::read_to_string(path).map_err(failed(path))
}

/// Replaces a file as a whole.
fn write(path: &Path, text: &str) -> Result<(), SignInError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    fs::write(&new, text).map_err(failed(&new))?;
    fs::rename(&new, path).map_err(failed(path))
}
