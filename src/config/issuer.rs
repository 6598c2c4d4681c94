//! `[[issuer]]`: whose tokens are accepted, and where their keys are.

use std::time::Duration;

use super::IssuerSettings;
use super::reader::Section;
use super::rules::rules;
use super::values::{DAY, HOUR, SECOND, claim_path, name, required_texts, texts_or, web_address};
use crate::names::Issuer;

/// Signature algorithms that STS accepts too (API reference, `AssumeRoleWithWebIdentity`, `WebIdentityToken`);
/// a token with another one could never log in.
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
    /// All of them.
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

    /// The algorithm of this name, byte for byte.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl std::fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

pub(super) fn issuers(root: &Section<'_, '_>) -> Option<Vec<IssuerSettings>> {
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
    let max_token_lifetime = section.duration("max_token_lifetime", DAY, 60 * SECOND..=7 * DAY);
    let ca_file = section.path("ca_file");
    let jwks_refresh = section.duration("jwks_refresh", 300 * SECOND, 30 * SECOND..=DAY);
    let jwks_max_stale = section.duration("jwks_max_stale", HOUR, 60 * SECOND..=DAY);
    let jwks_timeout = section.duration("jwks_timeout", 10 * SECOND, SECOND..=60 * SECOND);
    let jwks_max_bytes = section.count("jwks_max_bytes", 512 * 1024, 16 * 1024..=16 * 1024 * 1024);
    let jwks_refetch_interval = section.duration("jwks_refetch_interval", 2 * SECOND, SECOND..=300 * SECOND);
    let require = rules(section, "require").unwrap_or_default();
    let user_claim = claim_path(section, "user_claim");
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
        jwks_timeout,
        jwks_max_bytes,
        jwks_refetch_interval,
        require,
        user_claim,
    })
}

fn algorithms(section: &Section<'_, '_>) -> Vec<SignatureAlgorithm> {
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
