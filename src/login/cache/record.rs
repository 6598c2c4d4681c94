//! Tokens as the cache keeps them: one JSON object, bound to the profile that they were given for.

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::config::client::TokenKind;
use crate::login::Profile;
use crate::login::tokens::{ClientToken, RefreshToken, TokenSet};

const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    issuer: String,
    client_id: String,
    scopes: Vec<String>,
    audience: Option<String>,
    token: String,
    current: String,
    expires_at: u64,
    refresh: Option<String>,
}

fn kind(token: TokenKind) -> &'static str {
    match token {
        TokenKind::Access => "access",
        TokenKind::Id => "id",
    }
}

/// The text of the cache.
pub(super) fn write(tokens: &TokenSet, profile: &Profile) -> Zeroizing<Vec<u8>> {
    let mut record = json!({
        "version": VERSION,
        "issuer": profile.issuer,
        "client_id": profile.client_id,
        "scopes": profile.scopes,
        "audience": profile.audience,
        "token": kind(profile.token),
        "current": tokens.current.expose(),
        "expires_at": tokens.current.expires_at(),
        "refresh": tokens.refresh.as_ref().map(RefreshToken::expose),
    });
    let text = Zeroizing::new(record.to_string().into_bytes());
    for name in ["current", "refresh"] {
        if let Some(serde_json::Value::String(secret)) = record.get_mut(name) {
            zeroize::Zeroize::zeroize(secret);
        }
    }
    text
}

/// Reads what [`write()`] wrote; the error never holds content. None for another profile's tokens.
pub(super) fn read(text: &[u8], profile: &Profile) -> Result<Option<TokenSet>, String> {
    let record: Record = serde_json::from_slice(text).map_err(|error| {
        format!("no record of this program (line {}, column {})", error.line(), error.column())
    })?;
    if record.version != VERSION {
        return Err(format!("version {} is not known", record.version));
    }
    let current = ClientToken::new(record.current, record.expires_at);
    let refresh = record.refresh.map(RefreshToken::new);
    let is_ours = record.issuer == profile.issuer
        && record.client_id == profile.client_id
        && record.scopes == profile.scopes
        && record.audience == profile.audience
        && record.token == kind(profile.token);
    Ok(is_ours.then_some(TokenSet { current, refresh }))
}
