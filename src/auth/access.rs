//! Whether verified claims fit a rule: one claim, and the values it must hold.

use serde_json::Value;

use crate::auth::claims::VerifiedClaims;
use crate::config::ClaimRule;

/// Claims whose one text is a list with spaces between its values (RFC 9068, section 2.2.3; `scp` is Entra's and
/// Okta's name for it).
const SPACED: [&str; 2] = ["scope", "scp"];

/// Whether one of the rules holds.
pub fn fits_any(rules: &[ClaimRule], claims: &VerifiedClaims) -> bool {
    rules.iter().any(|rule| fits(rule, |path| claims.claim(path)))
}

/// Whether the claim that the rule names holds what it must. A claim that is absent holds nothing.
pub(super) fn fits<'v>(rule: &ClaimRule, claim: impl FnOnce(&[String]) -> Option<&'v Value>) -> bool {
    let Some(value) = claim(&rule.claim) else { return false };
    let spaced = rule.claim.last().is_some_and(|name| SPACED.contains(&name.as_str()));
    let holds = |wanted: &String| holds(value, wanted, spaced);
    (rule.any.is_empty() || rule.any.iter().any(holds)) && rule.all.iter().all(holds)
}

/// Texts are compared byte for byte; a truth value is `true` or `false`, a whole number its digits.
fn holds(value: &Value, wanted: &str, spaced: bool) -> bool {
    match value {
        Value::String(text) if spaced => text.split(' ').any(|word| word == wanted),
        Value::String(text) => text == wanted,
        Value::Bool(truth) => wanted == if *truth { "true" } else { "false" },
        Value::Number(number) => number.is_u64() && number.to_string() == wanted,
        Value::Array(values) => {
            values.iter().any(|value| !value.is_array() && !value.is_object() && holds(value, wanted, false))
        }
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(claim: &str, any: &[&str], all: &[&str]) -> ClaimRule {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ClaimRule { claim: vec![claim.to_owned()], any: texts(any), all: texts(all) }
    }

    #[test]
    fn a_rule_holds_for_the_values_it_names_and_no_others() {
        let claims = json!({
            "groups": ["analysts", "db users", 7, ["nested"]],
            "scope": "openid db",
            "team": "db users",
            "verified": true,
            "level": 3,
            "odd": {"a": 1},
        });
        let fits = |rule: ClaimRule| fits(&rule, |path| claims.get(&path[0]));
        for good in [
            rule("groups", &["x", "analysts"], &[]),
            rule("groups", &[], &["analysts", "db users"]),
            rule("groups", &["7"], &[]),
            rule("scope", &["db"], &[]),
            rule("team", &["db users"], &[]),
            rule("verified", &["true"], &[]),
            rule("level", &["3"], &[]),
        ] {
            assert!(fits(good.clone()), "{good:?}");
        }
        for bad in [
            rule("groups", &["analyst"], &[]),
            rule("groups", &["Analysts"], &[]),
            rule("groups", &["db"], &[]),
            rule("groups", &["nested"], &[]),
            rule("groups", &["analysts"], &["x"]),
            rule("scope", &["openid db"], &[]),
            rule("team", &["db"], &[]),
            rule("verified", &["false"], &[]),
            rule("level", &["30"], &[]),
            rule("odd", &["a"], &[]),
            rule("absent", &["a"], &[]),
        ] {
            assert!(!fits(bad.clone()), "{bad:?}");
        }
    }
}
