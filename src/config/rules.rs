//! Rules about claims: what a token must hold to be accepted, to reach a cluster, to belong to a group.

use super::reader::Section;
use super::values::claim_path;

/// Most rules of one list and most values of one rule. Ours: they are looked at at every login.
const MAX_RULES: usize = 256;

/// One claim and what it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// A member's name, or a path of names.
    pub claim: Vec<String>,
    /// At least one of these must be among the claim's values; not looked at when empty.
    pub any: Vec<String>,
    /// And every one of these.
    pub all: Vec<String>,
    /// Whether the claim is an object whose keys are its values, as Zitadel writes roles.
    pub keys: bool,
}

/// The rules under `key`: inline tables, or one.
pub(super) fn rules(section: &Section<'_, '_>, key: &'static str) -> Option<Vec<ClaimRule>> {
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

fn rule(section: &Section<'_, '_>) -> Option<ClaimRule> {
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
    let keys = section.boolean("keys", false);
    section.finish();
    Some(ClaimRule { claim: claim?, any, all, keys })
}
