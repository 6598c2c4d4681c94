//! Session tags and source identity inside a token, in both forms that AWS documents, and their limits.

use serde_json::{Map, Value};

use super::answer::ApiError;
use crate::issuer::TAGS_CLAIM;

const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";

/// Session tags that a token requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestedTags {
    pub(super) tags: Vec<(String, String)>,
    pub(super) transitive: Vec<String>,
    pub(super) source_identity: Option<String>,
}

/// Reads the tags out of the claims. Refuses what is malformed or over AWS's limits.
pub(super) fn read(claims: &Map<String, Value>) -> Result<RequestedTags, ApiError> {
    let mut asked = RequestedTags::default();
    if let Some(nested) = claims.get(TAGS_CLAIM) {
        nested_form(nested, &mut asked).ok_or_else(|| malformed(TAGS_CLAIM))?;
    }
    let prefix = format!("{TAGS_CLAIM}/principal_tags/");
    for (name, value) in claims {
        if let Some(key) = name.strip_prefix(&prefix) {
            let value = value.as_str().or_else(|| single(value)).ok_or_else(|| malformed(name))?;
            asked.tags.push((key.to_owned(), value.to_owned()));
        }
    }
    let flat_transitive = format!("{TAGS_CLAIM}/transitive_tag_keys");
    if let Some(keys) = claims.get(&flat_transitive) {
        asked.transitive.extend(strings(keys).ok_or_else(|| malformed(&flat_transitive))?);
    }
    if let Some(identity) = claims.get(SOURCE_IDENTITY) {
        asked.source_identity = Some(identity.as_str().ok_or_else(|| malformed(SOURCE_IDENTITY))?.to_owned());
    }
    limits(&asked)?;
    Ok(asked)
}

fn nested_form(nested: &Value, asked: &mut RequestedTags) -> Option<()> {
    let nested = nested.as_object()?;
    if let Some(tags) = nested.get("principal_tags") {
        for (key, value) in tags.as_object()? {
            asked.tags.push((key.clone(), single(value)?.to_owned()));
        }
    }
    if let Some(keys) = nested.get("transitive_tag_keys") {
        asked.transitive.extend(strings(keys)?);
    }
    Some(())
}

/// A tag's value is a list of exactly one string.
fn single(value: &Value) -> Option<&str> {
    match value.as_array()?.as_slice() {
        [Value::String(one)] => Some(one),
        _ => None,
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect()
}

fn limits(asked: &RequestedTags) -> Result<(), ApiError> {
    if asked.tags.len() > 50 {
        return Err(ApiError::validation("more than 50 session tags"));
    }
    for (at, (key, value)) in asked.tags.iter().enumerate() {
        let lower = key.to_lowercase();
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(ApiError::validation("a session tag is empty or too long"));
        }
        if lower.starts_with("aws:") {
            return Err(ApiError::validation("session tags that start with aws: are reserved"));
        }
        if !key.chars().chain(value.chars()).all(allowed) {
            return Err(ApiError::validation("a session tag has a character that is not allowed"));
        }
        if asked.tags.iter().skip(at + 1).any(|(other, _)| other.to_lowercase() == lower) {
            return Err(ApiError::validation(format!("Duplicate tag keys found: {key}")));
        }
    }
    let known = |wanted: &String| asked.tags.iter().any(|(key, _)| key == wanted);
    if !asked.transitive.iter().all(known) {
        return Err(ApiError::validation("a transitive tag key names no tag"));
    }
    Ok(())
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]`.
fn allowed(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

fn malformed(claim: &str) -> ApiError {
    ApiError::invalid_token(format!("The claim {claim} is malformed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tags(claims: &Value) -> Result<Vec<(String, String)>, String> {
        read(claims.as_object().unwrap()).map(|asked| asked.tags).map_err(|error| error.code)
    }

    fn one(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), value.to_owned())]
    }

    #[test]
    fn both_forms_are_read() {
        let nested = json!({ TAGS_CLAIM: { "principal_tags": { "dbuser": ["alice"] }, "transitive_tag_keys": ["dbuser"] } });
        assert_eq!(tags(&nested), Ok(one("dbuser", "alice")));
        let flat = json!({ "https://aws.amazon.com/tags/principal_tags/dbuser": "alice" });
        assert_eq!(tags(&flat), Ok(one("dbuser", "alice")));
        assert_eq!(tags(&json!({ "sub": "alice" })), Ok(Vec::new()));
    }

    #[test]
    fn malformed_tags_make_the_token_invalid() {
        for bad in [
            json!("alice"),
            json!({ "principal_tags": { "dbuser": "alice" } }),
            json!({ "principal_tags": { "dbuser": ["a", "b"] } }),
            json!({ "principal_tags": { "dbuser": [] } }),
            json!({ "principal_tags": { "dbuser": [7] } }),
            json!({ "principal_tags": [{ "dbuser": ["alice"] }] }),
        ] {
            assert_eq!(tags(&json!({ TAGS_CLAIM: bad })), Err("InvalidIdentityToken".to_owned()), "{bad}");
        }
    }

    #[test]
    fn tags_over_the_limits_are_refused() {
        let many: Map<String, Value> = (0..51).map(|n| (format!("k{n}"), json!(["v"]))).collect();
        for bad in [
            json!(many),
            json!({ "k".repeat(129): ["v"] }),
            json!({ "k": ["v".repeat(257)] }),
            json!({ "aws:k": ["v"] }),
            json!({ "Key": ["v"], "key": ["v"] }),
            json!({ "k": ["a;b"] }),
            json!({ "": ["v"] }),
        ] {
            let claims = json!({ TAGS_CLAIM: { "principal_tags": bad } });
            assert_eq!(tags(&claims), Err("ValidationError".to_owned()), "{bad}");
        }
        let both = json!({ TAGS_CLAIM: { "principal_tags": { "k": ["a"] } },
            "https://aws.amazon.com/tags/principal_tags/k": "b" });
        assert_eq!(tags(&both), Err("ValidationError".to_owned()));
    }
}
