//! `[[issuer]]`: accepted issuers and the source of their keys.

use std::path::PathBuf;
use std::time::Duration;

use super::ClaimRule;
use super::reader::SectionReader;
use super::readers::{DAY, HOUR, SECOND, claim_path, name, required_texts, texts_or, web_address};
use super::rules::rules;
use super::sections::{check_name, several};
use crate::names::Issuer;

/// Signature algorithms that STS also accepts (API reference, `AssumeRoleWithWebIdentity`,
/// `WebIdentityToken`). A token with another one could not log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of RFC 7518, section 3.1")]
pub enum SignatureAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
}

impl SignatureAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 6] = [Self::Rs256, Self::Rs384, Self::Rs512, Self::Es256, Self::Es384, Self::Es512];

    /// The name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// The algorithm with this name, compared byte for byte.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl std::fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An `[[issuer]]`
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerSettings {
    /// The operator's name for the issuer, in logs.
    pub name: String,
    /// The exact `iss`, or its template if `tenants` is set. The discovery document is below it.
    pub issuer: Issuer,
    /// Tenant ids, lower-case, that may replace [`TENANT`](IssuerSettings::TENANT) in `issuer`; empty without
    /// a template.
    pub tenants: Vec<String>,
    /// URL of the key set, instead of discovery.
    pub jwks_url: Option<url::Url>,
    /// Accepted `aud` values, at least one.
    pub audience: Vec<String>,
    /// Accepted signature algorithms, at least one.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Accepted values of `typ` in the header, lower-case. An absent `typ` is always accepted.
    pub token_types: Vec<String>,
    /// Tolerated clock difference for `exp`, `nbf` and `iat`, at most 300 s.
    pub leeway: Duration,
    /// Longest accepted `exp - iat`.
    pub max_token_lifetime: Duration,
    /// Certificate authorities of the issuer, PEM; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// True if the issuer may have a private or loopback address (and plain HTTP on loopback).
    pub private_network: bool,
    /// Refresh interval of the key set.
    pub jwks_refresh: Duration,
    /// Longest use of the last good key set while fetching fails.
    pub jwks_max_stale: Duration,
    /// Longest time for one request for the discovery document or the key set.
    pub jwks_timeout: Duration,
    /// Longest discovery document and longest key set, in bytes.
    pub jwks_max_bytes: usize,
    /// Least time between two fetches caused by tokens with unknown keys or bad signatures.
    pub jwks_refetch_interval: Duration,
    /// Rules that must all hold for a token.
    pub require: Vec<ClaimRule>,
    /// Path of the claim that names the person in this issuer's tokens, instead of the cluster's.
    pub user_claim: Option<Vec<String>>,
}

/// An accepted `iss`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedIssuer {
    /// The `iss`, byte for byte.
    pub issuer: Issuer,
    /// The tenant in it, for a template.
    pub tenant: Option<String>,
}

impl IssuerSettings {
    /// Placeholder for a tenant id in `issuer`, as in the discovery document of Entra ID for all tenants
    /// (Microsoft identity platform, "Access tokens", validate the issuer).
    pub const TENANT: &str = "{tenantid}";

    /// Matches `iss` with `issuer`, or with its template and one of the listed tenants.
    pub fn accepts(&self, iss: &str) -> Option<AcceptedIssuer> {
        let tenant = match self.issuer.as_str().split_once(Self::TENANT) {
            None if self.issuer.as_str() == iss => None,
            None => return None,
            Some((before, after)) => {
                let tenant = iss.strip_prefix(before)?.strip_suffix(after)?;
                Some(self.tenants.iter().find(|known| *known == tenant)?.clone())
            }
        };
        Some(AcceptedIssuer { issuer: Issuer::new(iss), tenant })
    }

    /// All accepted values of `iss`.
    pub fn accepted(&self) -> Vec<AcceptedIssuer> {
        let (url, of_tenant) = (self.issuer.as_str(), |tenant: &String| AcceptedIssuer {
            issuer: Issuer::new(in_place_of_tenant(self.issuer.as_str(), tenant)),
            tenant: Some(tenant.clone()),
        });
        match self.tenants.as_slice() {
            [] => vec![AcceptedIssuer { issuer: Issuer::new(url), tenant: None }],
            tenants => tenants.iter().map(of_tenant).collect(),
        }
    }

    /// Base URL of the discovery document. For a template it is the one for all tenants, which Entra ID calls
    /// `common`.
    pub fn discovery_base(&self) -> String {
        in_place_of_tenant(self.issuer.as_str(), "common")
    }
}

impl AcceptedIssuer {
    /// True if a key may sign tokens of this issuer. `key_issuer` is the member `issuer` of the key, which
    /// limits the key to that issuer's tokens; only the keys for all tenants of a template have it (Microsoft
    /// identity platform, "Access tokens", validate the issuer).
    pub fn trusts_key_of(&self, key_issuer: Option<&str>) -> bool {
        match (&self.tenant, key_issuer) {
            (None, _) | (_, None) => true,
            (Some(tenant), Some(named)) => in_place_of_tenant(named, tenant) == self.issuer.as_str(),
        }
    }
}

fn in_place_of_tenant(template: &str, tenant: &str) -> String {
    template.replace(IssuerSettings::TENANT, tenant)
}

/// Most tenants of one issuer. Ours: each login searches them linearly.
const MAX_TENANTS: usize = 256;

pub(super) fn issuers(root: &SectionReader<'_, '_>) -> Option<Vec<IssuerSettings>> {
    root.record_required("issuer");
    let sections = root.sections("issuer");
    if sections.is_empty() {
        root.reading.problem(&(0..0), "issuer", "no [[issuer]] section: add at least one");
    }
    several(&sections, issuer, |section, issuer: &IssuerSettings, before| {
        check_name(section, "issuer", &issuer.name, before.iter().map(|other| other.name.as_str()));
        let accepted = issuer.accepted();
        let same = |other: &IssuerSettings| {
            other.issuer == issuer.issuer
                || accepted.iter().any(|accepted| other.accepts(accepted.issuer.as_str()).is_some())
        };
        if before.iter().any(same) {
            let text = "another [[issuer]] has the same url, or the same tenant; give each its own";
            section.wrong("url", text);
        }
    })
}

fn issuer(section: &SectionReader<'_, '_>) -> Option<IssuerSettings> {
    let name = section.required("name", "\"okta\"", name);
    let private_network = section.boolean("private_network", false);
    let web = |text: &str| web_address(text, private_network).map(|_| Issuer::new(text));
    let issuer = section.required("url", "\"https://acme.okta.com/oauth2/default\"", web);
    let tenants = tenants(section, issuer.as_ref());
    let jwks_url = section.parsed("jwks_url", |text| web_address(text, private_network));
    let audience = required_texts(section, "audience", "[\"api://aurora\"]");
    let algorithms = algorithms(section);
    let token_types = texts_or(section, "token_types", &["JWT", "at+jwt"]);
    let leeway = section.duration("leeway", 30 * SECOND, Duration::ZERO..=300 * SECOND);
    let max_token_lifetime = section.duration("max_token_lifetime", DAY, 60 * SECOND..=7 * DAY);
    let ca_file = section.path("ca_file");
    let jwks_refresh = section.duration("jwks_refresh", 300 * SECOND, 30 * SECOND..=DAY);
    let jwks_max_stale = section.duration("jwks_max_stale", HOUR, 60 * SECOND..=DAY);
    let jwks_timeout = section.duration("jwks_timeout", 10 * SECOND, SECOND..=60 * SECOND);
    let jwks_max_bytes = section.count("jwks_max_bytes", 512 * 1024, 16 * 1024..=16 * 1024 * 1024);
    let jwks_refetch_interval = section.duration("jwks_refetch_interval", 2 * SECOND, SECOND..=300 * SECOND);
    let require = rules(section, "require").unwrap_or_default();
    if require.iter().any(|rule| rule.issuers.is_some()) {
        section.wrong("require", "these rules are for this issuer already; leave issuer out of them");
    }
    let user_claim = claim_path(section, "user_claim");
    section.finish();
    Some(IssuerSettings {
        name: name?,
        issuer: issuer?,
        tenants: tenants?,
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
        jwks_timeout,
        jwks_max_bytes,
        jwks_refetch_interval,
        require,
        user_claim,
    })
}

/// `tenants`, required with a template in `url`.
fn tenants(section: &SectionReader<'_, '_>, issuer: Option<&Issuer>) -> Option<Vec<String>> {
    let places = issuer.map_or(0, |issuer| issuer.as_str().matches(IssuerSettings::TENANT).count());
    let items = section.texts("tenants");
    let example = "tenants = [\"11111111-2222-3333-4444-555555555555\"]";
    match (&items, places) {
        (None, 0) => return Some(Vec::new()),
        (None, _) => {
            section.wrong("url", format!("a template for tenants needs the list of yours: {example}"));
            return None;
        }
        (Some(items), 1) if (1..=MAX_TENANTS).contains(&items.value.len()) => {}
        (Some(items), 1) => {
            section.reading.problem(
                &items.span,
                &items.key,
                format!("write 1 to {MAX_TENANTS}, as in {example}"),
            );
            return None;
        }
        (Some(items), _) => {
            let text = format!(
                "this needs {0} once in url, as in \"https://login.microsoftonline.com/{0}/v2.0\"",
                IssuerSettings::TENANT
            );
            section.reading.problem(&items.span, &items.key, text);
            return None;
        }
    }
    let mut tenants = Vec::new();
    for item in items.into_iter().flat_map(|items| items.value) {
        let tenant = item.value.to_ascii_lowercase();
        if !is_guid(&tenant) {
            let text = format!(
                "{:?} is not a tenant id; write it as in \"tid\" of the tokens, a GUID. common, organizations and \
                 domain names are none",
                item.value
            );
            section.reading.problem(&item.span, &item.key, text);
        } else if tenants.contains(&tenant) {
            section.reading.problem(&item.span, &item.key, "this tenant is listed twice");
        }
        tenants.push(tenant);
    }
    Some(tenants)
}

/// True for a GUID: 8, 4, 4, 4 and 12 hexadecimal digits (RFC 9562, section 4).
fn is_guid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    lengths.eq([8, 4, 4, 4, 12]) && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn algorithms(section: &SectionReader<'_, '_>) -> Vec<SignatureAlgorithm> {
    let words = SignatureAlgorithm::ALL.map(SignatureAlgorithm::name);
    section.record("algorithms", || super::schema::forms::texts(Some(&words)));
    let Some(items) = section.texts("algorithms") else { return SignatureAlgorithm::ALL.to_vec() };
    let mut chosen = Vec::new();
    for item in &items.value {
        match SignatureAlgorithm::named(item.value) {
            Some(algorithm) => chosen.push(algorithm),
            None => {
                let text = format!(
                    "{:?} cannot be used: AWS STS accepts RS256, RS384, RS512, ES256, ES384 and ES512 only",
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

#[cfg(test)]
mod tests;
