//! `[cluster.user]`, or one `[[cluster.user]]` per issuer: derivation of the database user from a token. A
//! name is unique only within its issuer, so each issuer can have its own rules.

use regex::{Regex, RegexBuilder};

use super::reader::SectionReader;
use super::readers::issuers_of;
use super::readers::{claim_path, texts_or};
use super::sections::several;
use super::{ClusterSettings, IssuerSettings, PinMode};
use crate::names::DbUser;

/// Longest `regex` and its largest compiled size, both more than names need.
const MAX_PATTERN: usize = 1_024;
const MAX_COMPILED: usize = 1 << 20;

/// The rules of one cluster. Each issuer has at most one.
#[derive(Clone, Debug, PartialEq)]
pub struct UserRules(Vec<UserSettings>);

/// A `[[cluster.user]]`
#[derive(Clone, Debug, PartialEq)]
pub struct UserSettings {
    /// Names of the rule's issuers; if absent, all that no other rule names.
    pub issuers: Option<Vec<String>>,
    /// Claim that names the person: name of a member, or a path of names.
    pub claim: Vec<String>,
    /// True if `claim` is set for these issuers and overrides `issuer.user_claim`.
    pub claim_is_theirs: bool,
    /// True if the claim may be a list of exactly one string.
    pub list_of_one: bool,
    /// Pattern for the whole claim (anchors are added); its capture is the user.
    pub regex: Option<UserRegex>,
    /// True if ASCII letters are lower-cased.
    pub lowercase: bool,
    /// Prefix of the user. Users from other rules of the cluster must not begin with it.
    pub prefix: String,
    /// Scope within which names are unique.
    pub names: NameScope,
    /// Rule for the `user` of the connection string.
    pub startup_user: StartupUser,
    /// Startup users that stand for the derived user.
    pub placeholders: Vec<String>,
    /// Denied names in addition to the built-in ones; ASCII case is ignored, `x*` is a prefix.
    pub denied: Vec<String>,
}

/// A compiled `[cluster.user] regex`.
#[derive(Clone, Debug)]
pub struct UserRegex {
    /// The expression, anchored at both ends.
    pub regex: Regex,
    /// Index of the capture group with the user.
    pub group: usize,
}

impl PartialEq for UserRegex {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.group == other.group
    }
}

/// Scope within which a name identifies one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameScope {
    /// An issuer, and one tenant of it.
    Issuer,
    /// All issuers of the rule, as the operator states.
    Shared,
}

/// Rule for the `user` of the connection string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupUser {
    /// The user must be the derived user or a placeholder.
    Match,
    /// The user is ignored.
    Ignore,
}

impl UserRules {
    /// The rule for people of this issuer: the one that names the issuer, or the one that names none.
    pub fn of(&self, issuer_name: &str) -> Option<&UserSettings> {
        let names = |rule: &&UserSettings| {
            rule.issuers.as_ref().is_some_and(|names| names.iter().any(|name| name == issuer_name))
        };
        self.0.iter().find(names).or_else(|| self.0.iter().find(|rule| rule.issuers.is_none()))
    }

    /// All rules, in the order of the file.
    pub fn all(&self) -> &[UserSettings] {
        &self.0
    }

    /// Prefix of a rule other than `own` with which `user` begins.
    pub fn foreign_prefix(&self, own: &UserSettings, user: &str) -> Option<&str> {
        let others = self.0.iter().map(|rule| rule.prefix.as_str()).filter(|prefix| *prefix != own.prefix);
        others.into_iter().find(|prefix| !prefix.is_empty() && user.starts_with(prefix))
    }
}

impl UserSettings {
    /// Path of the claim that names people of an issuer with this `user_claim`.
    pub fn claim_for<'s>(&'s self, theirs: Option<&'s [String]>) -> &'s [String] {
        theirs.filter(|_| !self.claim_is_theirs).unwrap_or(&self.claim)
    }
}

pub(super) fn user_rules(cluster: &SectionReader<'_, '_>, pin: PinMode) -> Option<UserRules> {
    let sections = cluster.one_or_several("user");
    several(&sections, |section| user(section, pin), compare).map(UserRules)
}

/// Reports a rule that could apply to the same person as one `before` it.
fn compare(section: &SectionReader<'_, '_>, rule: &UserSettings, before: &[UserSettings]) {
    for other in before {
        let twice = match (&rule.issuers, &other.issuers) {
            (Some(own), Some(theirs)) => own.iter().any(|name| theirs.contains(name)),
            (None, None) => true,
            _ => false,
        };
        if twice {
            let text = "another [[cluster.user]] is for the same issuer; give each the names of its own, and at most \
                        one none";
            section.wrong("issuer", text);
        }
        let (own, theirs) = (&rule.prefix, &other.prefix);
        let both = !own.is_empty() && !theirs.is_empty();
        if both && (own.starts_with(theirs.as_str()) || theirs.starts_with(own.as_str())) {
            let text = format!(
                "the prefix of another [[cluster.user]] is {theirs:?}, so that a name could belong to either; choose \
                 prefixes that do not begin with each other"
            );
            section.wrong("prefix", text);
        }
    }
}

fn user(section: &SectionReader<'_, '_>, pin: PinMode) -> Option<UserSettings> {
    let issuers = issuers_of(section);
    let has_claim = section.has("claim");
    let claim = if has_claim { claim_path(section, "claim") } else { Some(vec!["sub".to_owned()]) };
    let list_of_one = section.boolean("list_of_one", false);
    let regex = section.text("regex").map(|item| (user_regex(item.value), item));
    let lowercase = section.boolean("lowercase", false);
    let prefix = section.parsed("prefix", prefix).unwrap_or_default();
    let names =
        if section.boolean("issuers_share_names", false) { NameScope::Shared } else { NameScope::Issuer };
    let startup_user = section.choice(
        "startup_user",
        StartupUser::Match,
        &[("match", StartupUser::Match), ("ignore", StartupUser::Ignore)],
    );
    let placeholders = texts_or(section, "placeholders", &["token"]);
    let denied = texts_or(section, "denied", &[]);
    if pin.by_tag() && (regex.is_some() || lowercase || !prefix.is_empty()) {
        let text = "regex, lowercase and prefix cannot be set with pin = \"session-tag\" or \"both\": AWS compares the \
                    token's tag with the database user byte for byte, so nothing may change the claim on the way";
        section.reading.problem(&section.span, "cluster.user", text);
    }
    let regex = match regex {
        None => None,
        Some((Ok(regex), _)) => Some(regex),
        Some((Err(text), item)) => {
            section.reading.problem(&item.span, &item.key, text);
            None
        }
    };
    section.finish();
    let claim_is_theirs = has_claim && issuers.is_some();
    Some(UserSettings {
        issuers,
        claim: claim?,
        claim_is_theirs,
        list_of_one,
        regex,
        lowercase,
        prefix,
        names,
        startup_user,
        placeholders,
        denied,
    })
}

fn prefix(text: &str) -> Result<String, String> {
    DbUser::parse(text).map(|_| text.to_owned()).map_err(|error| {
        format!("{text:?} cannot begin a database user: {error}; write it as in \"partner_\"")
    })
}

fn user_regex(pattern: &str) -> Result<UserRegex, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("the pattern has {} bytes; at most {MAX_PATTERN} are allowed", pattern.len()));
    }
    // Compiled without anchors first: a pattern such as "a)(b" must not become valid because of the anchors.
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
    compile(pattern).map_err(|error| format!("invalid regular expression: {}", reason(&error)))?;
    let regex = compile(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())?;
    let named = regex.capture_names().position(|name| name == Some("user"));
    match (named, regex.captures_len()) {
        (Some(group), _) => Ok(UserRegex { regex, group }),
        (None, 2) => Ok(UserRegex { regex, group: 1 }),
        (None, groups) => Err(format!(
            "the pattern has {} capture groups; write one around the user, or name one (?<user>…)",
            groups - 1
        )),
    }
}

/// Last line of the regex crate's text: the lines before draw the pattern, which the problem itself shows.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A rule, and an issuer to which it applies.
type Use<'c> = (&'c UserSettings, &'c IssuerSettings);

/// Warns about issuers whose people share a rule although names are unique only within an issuer: `alice` of
/// one would be `alice` of the other. Also warns about issuers without a rule.
pub(super) fn warn_of_shared_names(
    section: &SectionReader<'_, '_>,
    cluster: &ClusterSettings,
    issuers: &[IssuerSettings],
) {
    let mut shared: Vec<(&[String], Vec<Use<'_>>)> = Vec::new();
    for issuer in issuers.iter().filter(|issuer| cluster.admits(issuer)) {
        let Some(rule) = cluster.user.of(&issuer.name) else {
            let text = format!(
                "people of issuer {:?} are refused: no [[cluster.user]] applies to them. Write one, or name the others in \
                 cluster.issuers",
                issuer.name
            );
            section.warn("user", text);
            continue;
        };
        let claim = rule.claim_for(issuer.user_claim.as_deref());
        let same = |(theirs, uses): &&mut (&[String], Vec<Use<'_>>)| {
            let does_the_same =
                |other: &UserSettings| *theirs == claim && other.makes_the_same_of_a_claim(rule);
            uses.iter().any(|(other, _)| std::ptr::eq(*other, rule) || does_the_same(other))
        };
        match shared.iter_mut().find(same) {
            Some((_, uses)) => uses.push((rule, issuer)),
            None => shared.push((claim, vec![(rule, issuer)])),
        }
    }
    for (_, uses) in shared {
        // Each tenant of an issuer has its own names.
        let name_spaces: usize = uses.iter().map(|(_, issuer)| issuer.tenants.len().max(1)).sum();
        if name_spaces < 2 || uses.iter().all(|(rule, _)| rule.names == NameScope::Shared) {
            continue;
        }
        let names: Vec<_> = uses.iter().map(|(_, issuer)| who(issuer)).collect();
        let one = uses.iter().all(|(rule, _)| uses.iter().all(|(other, _)| std::ptr::eq(*rule, *other)));
        let text = format!(
            "people of {} become database users by {}: the same name at two of them is one user. Write a \
             [[cluster.user]] with issuer and prefix for each (a tenant can be an [[issuer]] of its own), or \
             issuers_share_names = true if a name is the same person at all of them",
            names.join(" and "),
            if one { "one rule" } else { "rules that do the same" },
        );
        section.warn("user", text);
    }
}

/// Description of the issuers and tenants whose people use `cluster`; `None` if there is only one, or if
/// every rule states that they share names.
pub(super) fn shared_by(cluster: &ClusterSettings, issuers: &[IssuerSettings]) -> Option<String> {
    let admitted: Vec<_> = issuers.iter().filter(|issuer| cluster.admits(issuer)).collect();
    let name_spaces: usize = admitted.iter().map(|issuer| issuer.tenants.len().max(1)).sum();
    let shares = |issuer: &&IssuerSettings| {
        cluster.user.of(&issuer.name).is_some_and(|rule| rule.names == NameScope::Shared)
    };
    let apart = name_spaces > 1 && !admitted.iter().all(shares);
    apart.then(|| admitted.iter().map(|issuer| who(issuer)).collect::<Vec<_>>().join(" and "))
}

fn who(issuer: &IssuerSettings) -> String {
    match issuer.tenants.len() {
        0 | 1 => format!("issuer {:?}", issuer.name),
        tenants => format!("the {tenants} tenants of issuer {:?}", issuer.name),
    }
}

impl UserSettings {
    fn makes_the_same_of_a_claim(&self, other: &Self) -> bool {
        (&self.regex, self.lowercase, &self.prefix) == (&other.regex, other.lowercase, &other.prefix)
    }
}

#[cfg(test)]
mod tests;
