//! Claim rules: requirements of a token for acceptance, for a cluster, or for a group.

use super::reader::SectionReader;
use super::readers::claim_path;
use super::readers::issuers_of;
use super::user::shared_by;
use super::{ClusterSettings, IssuerSettings};

/// Most rules of a list and most values of a rule. Ours: every login evaluates them.
const MAX_RULES: usize = 256;

/// A claim and its required values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// Name of a member, or a path of names.
    pub claim: Vec<String>,
    /// The claim must have at least one of these values; ignored if empty.
    pub any: Vec<String>,
    /// The claim must have all of these values.
    pub all: Vec<String>,
    /// Names of the issuers to whose tokens the rule applies; all if absent.
    pub issuers: Option<Vec<String>>,
    /// True if the claim is an object whose keys are the values, as in Zitadel's roles.
    pub keys: bool,
}

impl ClaimRule {
    /// True if the rule applies to tokens of this issuer.
    pub fn is_for(&self, issuer_name: &str) -> bool {
        self.issuers.as_ref().is_none_or(|names| names.iter().any(|name| name == issuer_name))
    }
}

/// Reads the rules under `key`: one inline table or a list.
pub(super) fn rules(section: &SectionReader<'_, '_>, key: &'static str) -> Option<Vec<ClaimRule>> {
    if !section.has(key) {
        return None;
    }
    let sections = section.one_or_several(key);
    if sections.is_empty() || sections.len() > MAX_RULES {
        let text =
            format!("write 1 to {MAX_RULES} rules, as in [{{ claim = \"groups\", any = [\"analysts\"] }}]");
        section.wrong(key, text);
    }
    Some(sections.iter().filter_map(rule).collect())
}

fn rule(section: &SectionReader<'_, '_>) -> Option<ClaimRule> {
    section.record_required("claim");
    let claim = claim_path(section, "claim");
    if !section.has("claim") {
        section.missing("claim", "\"groups\"");
    }
    let values = |key: &'static str| -> Vec<String> {
        let items = section.texts(key);
        items.into_iter().flat_map(|items| items.value).map(|item| item.value.to_owned()).collect()
    };
    let (any, all) = (values("any"), values("all"));
    if (any.is_empty() && all.is_empty()) || any.len() + all.len() > MAX_RULES {
        let text = format!("write 1 to {MAX_RULES} values, as in any = [\"analysts\", \"engineers\"]");
        section.wrong("any", text);
    }
    let issuers = issuers_of(section);
    let keys = section.boolean("keys", false);
    section.finish();
    Some(ClaimRule { claim: claim?, any, all, issuers, keys })
}

/// Reports issuer names in the rules under `key` that have no `[[issuer]]`.
pub(super) fn check_names(
    section: &SectionReader<'_, '_>,
    key: &'static str,
    rules: Option<&Vec<ClaimRule>>,
    is_known: impl Fn(&str) -> bool,
) {
    let Some(rules) = rules else { return };
    for (rule, section) in rules.iter().zip(section.one_or_several(key)) {
        check_issuers(&section, rule.issuers.as_ref(), &is_known);
    }
}

/// Reports names under `issuer` that have no `[[issuer]]`.
pub(super) fn check_issuers(
    section: &SectionReader<'_, '_>,
    names: Option<&Vec<String>>,
    is_known: impl Fn(&str) -> bool,
) {
    for name in names.into_iter().flatten().filter(|name| !is_known(name)) {
        let text = format!("there is no [[issuer]] with the name {name:?}");
        section.wrong("issuer", text);
    }
}

/// Warns about rules of `cluster` that apply to several issuers, although each issuer decides on its own who
/// is in its groups.
pub(super) fn warn_of_shared_rules(
    section: &SectionReader<'_, '_>,
    cluster: &ClusterSettings,
    issuers: &[IssuerSettings],
) {
    let Some(people) = shared_by(cluster, issuers) else { return };
    let groups = cluster.groups.iter().filter_map(|group| group.when.as_ref());
    for (key, rules) in
        cluster.allow.iter().map(|rules| ("allow", rules)).chain(groups.map(|rules| ("group", rules)))
    {
        if let Some(rule) = rules.iter().find(|rule| rule.issuers.is_none()) {
            let text = format!(
                "a rule on claim {:?} applies to people of {people} alike, but each of them decides on its own who is \
                 in its groups. Write issuer = \"…\" into the rule, or issuers_share_names = true into every \
                 [[cluster.user]] if all take their people from one directory",
                rule.claim.join(".")
            );
            section.warn(key, text);
            return;
        }
    }
}
