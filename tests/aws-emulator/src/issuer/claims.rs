//! The claims of a token, built up by a test: changes when tests want another shorthand.

use serde_json::{Map, Value, json};

/// The claim that carries session tags in its nested form.
pub const TAGS_CLAIM: &str = "https://aws.amazon.com/tags";

/// A token's claims. Turns into a [`Value`] for signing.
#[derive(Clone, Debug)]
pub struct TokenClaims(pub(super) Map<String, Value>);

impl TokenClaims {
    /// Sets a claim to any JSON value.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a claim away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// Adds a session tag in the nested form that AWS documents.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        let tags = self.0.entry(TAGS_CLAIM).or_insert_with(|| json!({ "principal_tags": {} }));
        if let Some(tags) = tags.get_mut("principal_tags").and_then(Value::as_object_mut) {
            tags.insert(key.to_owned(), json!([value]));
        }
        self
    }

    /// Adds a session tag in the flattened form, for issuers that cannot make objects.
    #[must_use]
    pub fn flat_tag(self, key: &str, value: &str) -> Self {
        self.set(&format!("{TAGS_CLAIM}/principal_tags/{key}"), value)
    }

    /// Adds a claim `pad` of `length` characters, to reach a wanted token size.
    #[must_use]
    pub fn padded(self, length: usize) -> Self {
        self.set("pad", "x".repeat(length))
    }

    /// Value of a claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl From<TokenClaims> for Value {
    fn from(claims: TokenClaims) -> Self {
        Self::Object(claims.0)
    }
}
