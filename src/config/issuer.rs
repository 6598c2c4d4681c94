//! `[[issuer]]`: whose tokens are accepted, and where their keys are.

use std::time::Duration;

use super::reader::Section;
use super::rules::rules;
use super::values::{DAY, HOUR, SECOND, claim_path, name, required_texts, texts_or, web_address};
use super::{IssuerSettings, SignatureAlgorithm};
use crate::names::Issuer;

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
    let max_token_lifetime = section.duration("max_token_lifetime", DAY, 60 * SECOND..=DAY);
    let ca_file = section.path("ca_file");
    let jwks_refresh = section.duration("jwks_refresh", 300 * SECOND, 30 * SECOND..=DAY);
    let jwks_max_stale = section.duration("jwks_max_stale", HOUR, 60 * SECOND..=DAY);
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
        require,
        user_claim,
    })
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
