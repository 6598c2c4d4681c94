//! Policy variables and wildcards: how one string of a policy is compared with one string of a request.

use std::collections::BTreeMap;

/// The values of condition keys. Keys are compared without regard to case, as IAM does.
#[derive(Clone, Debug, Default)]
pub struct RequestContext(BTreeMap<String, Vec<String>>);

impl RequestContext {
    /// Adds a value to a key.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_lowercase()).or_default().push(value.into());
    }

    /// A key's values; none if the request does not have the key.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(&key.to_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The value of a key that has exactly one.
    pub fn single(&self, key: &str) -> Option<&str> {
        match self.values(key) {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// A string of a policy, split at its variables and wildcards.
#[derive(Clone, Debug)]
pub(super) struct PolicyPattern(Vec<PatternPart>);

#[derive(Clone, Debug)]
enum PatternPart {
    Text(char),
    /// `*`, or just that character where wildcards mean nothing.
    Many,
    /// `?`, likewise.
    One,
    Variable(String),
}

impl PolicyPattern {
    pub(super) fn new(text: &str, variables: bool) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if variables
                && let Some((name, after)) = rest.strip_prefix("${").and_then(|inner| inner.split_once('}'))
            {
                parts.push(match name {
                    "*" | "?" | "$" => PatternPart::Text(name.chars().next().unwrap_or('$')),
                    _ => PatternPart::Variable(name.to_owned()),
                });
                rest = after;
                continue;
            }
            parts.push(match next {
                '*' => PatternPart::Many,
                '?' => PatternPart::One,
                other => PatternPart::Text(other),
            });
            rest = &rest[next.len_utf8()..];
        }
        Self(parts)
    }

    /// As in `Resource` and `StringLike`. What a variable stands for is compared letter by letter, so that no one
    /// whose name is `*` becomes everybody.
    pub(super) fn matches_with_wildcards(&self, text: &str, context: &RequestContext) -> bool {
        self.resolved(context, true).is_some_and(|parts| glob(&parts, &text.chars().collect::<Vec<_>>()))
    }

    /// As in `StringEquals`, where `*` and `?` are ordinary characters.
    pub(super) fn equals(&self, text: &str, context: &RequestContext) -> bool {
        self.resolved(context, false).is_some_and(|parts| glob(&parts, &text.chars().collect::<Vec<_>>()))
    }

    /// The text without variables and wildcards, for values such as addresses.
    pub(super) fn literal(&self) -> Option<String> {
        self.0.iter().map(|part| if let PatternPart::Text(one) = part { Some(*one) } else { None }).collect()
    }

    /// The same pattern in lower case, for comparisons without case.
    pub(super) fn lower(&self) -> Self {
        let lower = |part: &PatternPart| match part {
            PatternPart::Text(one) => one.to_lowercase().map(PatternPart::Text).collect(),
            other => vec![other.clone()],
        };
        Self(self.0.iter().flat_map(lower).collect())
    }

    /// Puts the values in. `None` when the request lacks one: then nothing matches.
    fn resolved(&self, context: &RequestContext, wildcards: bool) -> Option<Vec<PatternPiece>> {
        let mut pieces = Vec::new();
        for part in &self.0 {
            match part {
                PatternPart::Many if wildcards => pieces.push(PatternPiece::Many),
                PatternPart::One if wildcards => pieces.push(PatternPiece::One),
                PatternPart::Many => pieces.push(PatternPiece::Exactly('*')),
                PatternPart::One => pieces.push(PatternPiece::Exactly('?')),
                PatternPart::Text(one) => pieces.push(PatternPiece::Exactly(*one)),
                PatternPart::Variable(name) => {
                    pieces.extend(context.single(name)?.chars().map(PatternPiece::Exactly));
                }
            }
        }
        Some(pieces)
    }
}

#[derive(Clone, Copy)]
enum PatternPiece {
    Exactly(char),
    One,
    Many,
}

/// True if the pieces match the whole text. Keeps the set of pieces that can be next, so it is never slow.
fn glob(pieces: &[PatternPiece], text: &[char]) -> bool {
    let close = |open: &mut Vec<bool>| {
        for (at, piece) in pieces.iter().enumerate() {
            if open.get(at) == Some(&true)
                && matches!(piece, PatternPiece::Many)
                && let Some(next) = open.get_mut(at + 1)
            {
                *next = true;
            }
        }
    };
    let mut open = vec![false; pieces.len() + 1];
    if let Some(first) = open.first_mut() {
        *first = true;
    }
    close(&mut open);
    for seen in text {
        let mut next = vec![false; pieces.len() + 1];
        for (at, piece) in pieces.iter().enumerate().filter(|(at, _)| open.get(*at) == Some(&true)) {
            let target = match piece {
                PatternPiece::Many => at,
                PatternPiece::One => at + 1,
                PatternPiece::Exactly(one) if one == seen => at + 1,
                PatternPiece::Exactly(_) => continue,
            };
            if let Some(slot) = next.get_mut(target) {
                *slot = true;
            }
        }
        open = next;
        close(&mut open);
    }
    open.last() == Some(&true)
}

/// Action names, which have wildcards but no variables and no case.
pub(super) fn glob_ignoring_case(pattern: &str, text: &str) -> bool {
    PolicyPattern::new(&pattern.to_lowercase(), false)
        .matches_with_wildcards(&text.to_lowercase(), &RequestContext::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(pattern: &str, text: &str) -> bool {
        PolicyPattern::new(pattern, true).matches_with_wildcards(text, &RequestContext::default())
    }

    #[test]
    fn wildcards_match_as_in_iam() {
        assert!(
            like("*", "")
                && like("a*c", "abbc")
                && like("a*c", "ac")
                && like("a?c", "abc")
                && like("**", "x")
        );
        assert!(!like("a?c", "ac") && !like("a*c", "abcd") && !like("", "a") && !like("abc", "ab"));
        assert!(like("a${*}c", "a*c") && !like("a${*}c", "abc"));
    }

    #[test]
    fn the_value_of_a_variable_is_no_wildcard() {
        let mut context = RequestContext::default();
        context.add("aws:PrincipalTag/dbuser", "*");
        let pattern = PolicyPattern::new("dbuser/${aws:principaltag/DBUSER}", true);
        assert!(pattern.matches_with_wildcards("dbuser/*", &context));
        assert!(!pattern.matches_with_wildcards("dbuser/bob", &context));
    }

    #[test]
    fn a_variable_without_a_value_matches_nothing() {
        assert!(!like("dbuser/${aws:PrincipalTag/dbuser}", "dbuser/"));
        let old = PolicyPattern::new("${aws:PrincipalTag/dbuser}", false);
        assert!(old.matches_with_wildcards("${aws:PrincipalTag/dbuser}", &RequestContext::default()));
    }
}
