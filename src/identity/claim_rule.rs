//! Evaluation of claim rules: one claim and the values it must hold. A claim that is absent or has another
//! JSON type leaves a rule undecided. An undecided rule never grants access and never lifts a restriction.

use std::fmt;

use serde_json::{Map, Value};

use crate::config::{ClaimRule, ClusterSettings};
use crate::names::printable;

/// Claims whose single string is a space-separated list (RFC 9068, section 2.2.3; `scp` is the name that
/// Entra ID and Okta use).
const SPACED: [&str; 2] = ["scope", "scp"];

/// Members that replace claims which the issuer keeps elsewhere (OpenID Connect Core 1.0, section 5.6.2).
/// Entra ID leaves out `groups` this way for a user in more than 200 groups, and writes `hasgroups` in tokens
/// of the implicit flow (Microsoft identity platform, "Access token claims reference", groups overage claim).
const ELSEWHERE: &str = "_claim_names";
const HAS_GROUPS: &str = "hasgroups";
const GROUPS: &str = "groups";

/// Longest part of a claim's name that is shown.
const MAX_SHOWN: usize = 256;

/// Result of a rule for one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    /// The rule holds.
    Holds,
    /// The rule does not hold: the claim is readable and has other values.
    Fails,
    /// The claim cannot be read.
    Undecided(ClaimDoubt),
}

/// Reason why a claim cannot be read. Strings are escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimDoubt {
    claim: String,
    why: RuleDoubt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RuleDoubt {
    Absent,
    /// The token has a claim whose name differs only in case.
    OtherCase(String),
    /// The issuer keeps the claim elsewhere.
    Elsewhere,
    /// The claim has an unusable form; the string describes it.
    Form(&'static str),
}

impl ClaimDoubt {
    /// True for the groups overage of Entra ID: the issuer left out the person's groups and says so.
    pub fn is_groups_overage(&self) -> bool {
        self.why == RuleDoubt::Elsewhere && self.claim == GROUPS
    }
}

impl fmt::Display for ClaimDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claim \"{}\" ", self.claim)?;
        match &self.why {
            RuleDoubt::Absent => f.write_str("is absent"),
            RuleDoubt::OtherCase(name) => write!(f, "is absent; \"{name}\" is another claim"),
            RuleDoubt::Elsewhere => f.write_str(
                "is not in the token, because its issuer keeps it elsewhere (_claim_names or hasgroups: the groups \
                 overage of Microsoft Entra ID)",
            ),
            RuleDoubt::Form(form) => write!(f, "is {form}"),
        }
    }
}

/// Evaluates the rules that apply to this issuer and returns `Holds` if one of them holds. `Undecided` if
/// none holds and at least one is undecided. Rules for other issuers are skipped, because group names are
/// local to an issuer.
pub fn any_of(rules: &[ClaimRule], issuer_name: &str, claims: &Map<String, Value>) -> RuleVerdict {
    let mut verdict = RuleVerdict::Fails;
    for rule in rules.iter().filter(|rule| rule.is_for(issuer_name)) {
        match (evaluate(rule, claims), &verdict) {
            (RuleVerdict::Holds, _) => return RuleVerdict::Holds,
            (undecided @ RuleVerdict::Undecided(_), RuleVerdict::Fails) => verdict = undecided,
            _ => {}
        }
    }
    verdict
}

/// Index of the group that applies to these claims; `None` in a cluster without groups. The first matching
/// group applies. An undecided group before it might be the person's; the match then counts only if it allows
/// nothing that the undecided group forbids. The error is the reason for the log.
pub fn group(
    cluster: &ClusterSettings,
    issuer_name: &str,
    claims: &Map<String, Value>,
) -> Result<Option<usize>, String> {
    if cluster.groups.is_empty() {
        return Ok(None);
    }
    let mut undecided = Vec::new();
    for (at, group) in cluster.groups.iter().enumerate() {
        match group.when.as_deref().map_or(RuleVerdict::Holds, |rules| any_of(rules, issuer_name, claims)) {
            RuleVerdict::Fails => {}
            RuleVerdict::Undecided(doubt) => undecided.push((group, doubt)),
            RuleVerdict::Holds => {
                return match undecided.into_iter().find(|(earlier, _)| !group.allows_no_more_than(earlier)) {
                    None => Ok(Some(at)),
                    Some((earlier, doubt)) => Err(format!(
                        "group {} cannot be decided for the token ({doubt}), and group {} allows more",
                        earlier.name, group.name
                    )),
                };
            }
        }
    }
    let doubts: Vec<_> = undecided.iter().map(|(_, doubt)| format!("; {doubt}")).collect();
    Err(format!("no [[cluster.group]] matches the token{}", doubts.concat()))
}

/// True if the token says that it leaves out its owner's groups.
pub fn has_groups_overage(claims: &Map<String, Value>) -> bool {
    is_elsewhere(claims, GROUPS)
}

/// Evaluates one rule against the claims.
pub(crate) fn evaluate(rule: &ClaimRule, claims: &Map<String, Value>) -> RuleVerdict {
    let (values, doubt) = values(rule, claims);
    let holds = |wanted: &String| values.contains(wanted);
    let any = rule.any.is_empty() || rule.any.iter().any(holds);
    if any && rule.all.iter().all(holds) {
        return RuleVerdict::Holds;
    }
    doubt.map_or(RuleVerdict::Fails, |why| {
        let claim = printable(&rule.claim.join("."), MAX_SHOWN);
        RuleVerdict::Undecided(ClaimDoubt { claim, why })
    })
}

/// Values of the rule's claim, and the reason why the claim may have more. Strings are taken byte for byte; a
/// boolean becomes `true` or `false`, an integer its digits.
fn values(rule: &ClaimRule, claims: &Map<String, Value>) -> (Vec<String>, Option<RuleDoubt>) {
    let first = rule.claim.first().map(String::as_str).unwrap_or_default();
    let elsewhere = is_elsewhere(claims, first).then_some(RuleDoubt::Elsewhere);
    let Some(value) = find(claims, &rule.claim) else {
        return (Vec::new(), Some(elsewhere.unwrap_or_else(|| absent(claims, first))));
    };
    let of_form = |form| (Vec::new(), Some(RuleDoubt::Form(form)));
    let spaced = rule.claim.last().is_some_and(|name| SPACED.contains(&name.as_str()));
    let (values, doubt) = match value {
        Value::Object(members) if rule.keys => (members.keys().cloned().collect(), None),
        _ if rule.keys => of_form("not an object, and the rule asks for its keys"),
        Value::Object(_) => of_form("an object; a rule with keys = true takes its keys"),
        Value::Null => of_form("null"),
        Value::String(text) if spaced => (text.split(' ').map(str::to_owned).collect(), None),
        Value::String(text) => (vec![text.clone()], joined(text)),
        Value::Array(list) => {
            let known: Vec<_> = list.iter().filter_map(plain).collect();
            let doubt = (known.len() < list.len())
                .then_some(RuleDoubt::Form("a list with elements other than strings"));
            (known, doubt)
        }
        Value::Bool(_) | Value::Number(_) => (
            plain(value).into_iter().collect(),
            plain(value).is_none().then_some(RuleDoubt::Form("not an unsigned integer")),
        ),
    };
    (values, doubt.or(elsewhere))
}

/// The value of a string, boolean or unsigned integer.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => number.is_u64().then(|| number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A single string that may encode several values.
fn joined(text: &str) -> Option<RuleDoubt> {
    let separator = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|');
    text.contains(separator).then_some(RuleDoubt::Form("one string that may encode several values"))
}

fn absent(claims: &Map<String, Value>, name: &str) -> RuleDoubt {
    let similar = claims.keys().find(|other| *other != name && other.eq_ignore_ascii_case(name));
    similar.map_or(RuleDoubt::Absent, |other| RuleDoubt::OtherCase(printable(other, MAX_SHOWN)))
}

fn is_elsewhere(claims: &Map<String, Value>, name: &str) -> bool {
    let has_groups = || match claims.get(HAS_GROUPS) {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    claims.get(ELSEWHERE).is_some_and(|names| names.get(name).is_some()) || (name == GROUPS && has_groups())
}

/// The value at a dotted path.
pub(super) fn find<'c>(claims: &'c Map<String, Value>, path: &[String]) -> Option<&'c Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.get(name))
}

#[cfg(test)]
mod tests;
