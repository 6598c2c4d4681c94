//! Verification of a token by STS: signature, issuer, audience, times.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Map, Value};

use super::answer::ApiError;
use crate::encoding::from_base64url;
use crate::http;
use crate::keys::{key_type, verify};
use crate::sync::lock;

/// Time limit of AWS for an identity provider.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most keys of one type that AWS reads.
const MOST_KEYS: usize = 100;
/// The oldest `iat` that AWS takes, as seen in the field.
const OLDEST: i64 = 24 * 3600;

const NOT_A_JWT: &str =
    "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)";
const NO_KEY: &str = "Couldn't retrieve verification key from your identity provider, please reference \
                      AssumeRoleWithWebIdentity documentation for requirements";

/// An issuer that the account trusts.
#[derive(Clone, Debug)]
pub struct OidcProvider {
    /// The issuer URL, exactly as in `iss`.
    pub url: String,
    /// The audiences that are registered.
    pub audiences: Vec<String>,
    /// Address of the issuer's pages, if not its URL: in a network where it has another name.
    pub fetch_url: Option<String>,
}

/// A provider with the keys read from it.
pub(super) struct KnownProvider {
    pub(super) provider: OidcProvider,
    keys: Mutex<Vec<Value>>,
}

/// Claims of a good token.
#[derive(Debug)]
pub(super) struct WebIdentity {
    pub(super) issuer: String,
    pub(super) subject: String,
    /// `azp` if the token has one, else the registered audience.
    pub(super) audience: String,
    pub(super) claims: Map<String, Value>,
}

/// A token in three parts, decoded but not yet believed.
pub(super) struct UnverifiedToken<'a> {
    message: &'a str,
    signature: Vec<u8>,
    alg: String,
    kid: Option<String>,
    pub(super) issuer: String,
    claims: Map<String, Value>,
}

impl<'a> UnverifiedToken<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, ApiError> {
        let not_a_jwt = || ApiError::invalid_token(NOT_A_JWT);
        let (message, signature) = token.rsplit_once('.').ok_or_else(not_a_jwt)?;
        let (header, payload) = message.split_once('.').ok_or_else(not_a_jwt)?;
        let object = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&from_base64url(part)?).ok()
        };
        let header = object(header).ok_or_else(not_a_jwt)?;
        let claims = object(payload).ok_or_else(not_a_jwt)?;
        let text =
            |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            message,
            signature: from_base64url(signature).ok_or_else(not_a_jwt)?,
            alg: text(&header, "alg").filter(|alg| key_type(alg).is_some()).ok_or_else(|| {
                ApiError::invalid_token(
                    "The token is not signed with RS256, RS384, RS512, ES256, ES384 or ES512",
                )
            })?,
            kid: text(&header, "kid"),
            issuer: text(&claims, "iss").ok_or_else(|| missing("iss"))?,
            claims,
        })
    }

    fn verifies_with(&self, keys: &[Value]) -> TrustDecision {
        let fits = |key: &&Value| {
            let kid = key.get("kid").and_then(Value::as_str);
            key.get("kty").and_then(Value::as_str) == key_type(&self.alg)
                && self.kid.as_deref().is_none_or(|wanted| kid == Some(wanted))
        };
        let mut candidates = keys.iter().filter(fits).peekable();
        if candidates.peek().is_none() {
            return TrustDecision::NoKey;
        }
        let message = self.message.as_bytes();
        if candidates.any(|key| verify(&self.alg, key, message, &self.signature)) {
            TrustDecision::Good
        } else {
            TrustDecision::Bad
        }
    }
}

#[derive(PartialEq, Eq)]
enum TrustDecision {
    Good,
    Bad,
    NoKey,
}

impl KnownProvider {
    pub(super) fn new(provider: OidcProvider) -> Self {
        Self { provider, keys: Mutex::default() }
    }

    /// Forgets the keys, as AWS does after some time.
    pub(super) fn forget_keys(&self) {
        lock(&self.keys).clear();
    }

    /// Believes the token or says why not.
    pub(super) async fn verify(&self, token: UnverifiedToken<'_>, now: i64) -> Result<WebIdentity, ApiError> {
        let known = lock(&self.keys).clone();
        let mut verdict = token.verifies_with(&known);
        if verdict == TrustDecision::NoKey {
            let fresh = self.fetch().await?;
            verdict = token.verifies_with(&fresh);
            *lock(&self.keys) = fresh;
        }
        match verdict {
            TrustDecision::Good => self.claims(token, now),
            TrustDecision::Bad => Err(ApiError::invalid_token("The token's signature is not valid")),
            TrustDecision::NoKey => Err(ApiError::invalid_token(NO_KEY)),
        }
    }

    fn claims(&self, token: UnverifiedToken<'_>, now: i64) -> Result<WebIdentity, ApiError> {
        let UnverifiedToken { issuer, claims, .. } = token;
        let audience = self.audience(&claims)?;
        let date = |name: &str| {
            claims.get(name).ok_or_else(|| missing(name)).and_then(|value| {
                value
                    .as_i64()
                    .ok_or_else(|| ApiError::invalid_token(format!("The claim {name} is not an integer")))
            })
        };
        let (expiry, issued) = (date("exp")?, date("iat")?);
        if expiry <= now {
            let message = format!(
                "Token expired: current date/time {now} must be before the expiration date/time {expiry}"
            );
            return Err(ApiError::new(400, "ExpiredTokenException", message));
        }
        if now - issued > OLDEST {
            let message = format!("Token too old: {}", now - issued);
            return Err(ApiError::new(400, "ExpiredTokenException", message));
        }
        let subject = claims.get("sub").and_then(Value::as_str).filter(|sub| (1..=255).contains(&sub.len()));
        let subject = subject.ok_or_else(|| missing("sub"))?.to_owned();
        Ok(WebIdentity { issuer, subject, audience, claims })
    }

    /// `azp` comes before `aud`: that is how AWS does it, and what surprises users of some issuers.
    fn audience(&self, claims: &Map<String, Value>) -> Result<String, ApiError> {
        let wrong = || ApiError::invalid_token("Incorrect token audience");
        let asked = match claims.get("azp") {
            Some(azp) => vec![azp.as_str().ok_or_else(wrong)?.to_owned()],
            None => audiences(claims),
        };
        asked.into_iter().find(|one| self.provider.audiences.contains(one)).ok_or_else(wrong)
    }

    async fn fetch(&self) -> Result<Vec<Value>, ApiError> {
        let no_key = || ApiError::invalid_token(NO_KEY);
        tokio::time::timeout(PATIENCE, self.read_keys()).await.map_err(|_| no_key())?
    }

    async fn read_keys(&self) -> Result<Vec<Value>, ApiError> {
        let no_key = || ApiError::invalid_token(NO_KEY);
        let url = self.provider.url.trim_end_matches('/');
        let base = self.provider.fetch_url.as_deref().unwrap_or(url).trim_end_matches('/');
        let page = http::get(&format!("{base}/.well-known/openid-configuration")).await.ok_or_else(no_key)?;
        let document: Value = serde_json::from_str(&page).unwrap_or_default();
        let field = |name: &str| document.get(name).and_then(Value::as_str);
        let Some(jwks_uri) = field("jwks_uri").filter(|_| field("issuer") == Some(&self.provider.url)) else {
            return Err(ApiError::invalid_token(format!(
                "Please check .well-known/openid-configuration of provider: {} is valid",
                self.provider.url
            )));
        };
        let jwks_uri =
            jwks_uri.strip_prefix(url).map_or_else(|| jwks_uri.to_owned(), |path| format!("{base}{path}"));
        let page = http::get(&jwks_uri).await.ok_or_else(no_key)?;
        let set: Value = serde_json::from_str(&page).map_err(|_| no_key())?;
        let keys =
            set.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty()).ok_or_else(no_key)?;
        for kind in ["RSA", "EC"] {
            if keys.iter().filter(|key| key.get("kty").and_then(Value::as_str) == Some(kind)).count()
                > MOST_KEYS
            {
                return Err(ApiError::invalid_token(format!(
                    "The provider has more than {MOST_KEYS} {kind} keys"
                )));
            }
        }
        Ok(keys.clone())
    }
}

/// The token's `aud`, which may be one string or a list.
pub(super) fn audiences(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn missing(claim: &str) -> ApiError {
    ApiError::invalid_token(format!("Missing a required claim: {claim}"))
}
