//! Checks of the claims that every token must have: issuer, audience, subject, times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::claim_rule;
use super::claim_rule::{RuleVerdict, find};
use super::verify_error::ClaimFault;
use crate::config::{AcceptedIssuer, IssuerSettings};
use crate::names::{Issuer, Subject, printable};

/// Longest `sub` (OpenID Connect Core 1.0, section 2).
pub const MAX_SUBJECT_BYTES: usize = 255;

/// Latest time: 2^53, the limit up to which every JSON reader keeps integers exact (RFC 8259, section 6).
const MAX_TIME: u64 = 1 << 53;

/// Longest claim that is shown.
const MAX_SHOWN: usize = 256;

/// Claims of a genuine token. Constructed only after the signature and the times were checked.
#[derive(Debug)]
pub struct VerifiedClaims {
    issuer: Issuer,
    issuer_name: String,
    subject: Subject,
    token_id: Option<String>,
    audience: Vec<String>,
    azp: Option<String>,
    expires_at: SystemTime,
    user_claim: Option<Vec<String>>,
    leeway: Duration,
    claims: Map<String, Value>,
}

impl VerifiedClaims {
    /// `iss`.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The operator's name for the issuer.
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    /// `sub`.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// `jti`, if the token has one that is a string. Escape it before showing it.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// All values of `aud`; at least one is configured. Escape them before showing them.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// `azp`. If present, STS compares it instead of `aud` with the audiences of the IAM OIDC provider.
    pub fn azp(&self) -> Option<&str> {
        self.azp.as_deref()
    }

    /// `exp`, without leeway.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Path of the claim that names the person in this issuer's tokens, if `user_claim` is configured for the
    /// issuer.
    pub fn user_claim(&self) -> Option<&[String]> {
        self.user_claim.as_deref()
    }

    /// End of acceptance: `exp` plus the issuer's leeway.
    pub fn accepted_until(&self) -> SystemTime {
        self.expires_at + self.leeway
    }

    /// Names of all claims. Escape them before showing them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.claims.keys().map(String::as_str)
    }

    /// All claims, for rules.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Value of a claim: a member's name, or a path of names into nested objects.
    pub fn claim(&self, path: &[String]) -> Option<&Value> {
        find(&self.claims, path)
    }
}

/// Constructs the proof. Only for claims whose signature holds; `verify.rs` is the only caller.
pub(super) fn check(
    claims: Map<String, Value>,
    settings: &IssuerSettings,
    accepted: AcceptedIssuer,
    now: u64,
) -> Result<VerifiedClaims, ClaimFault> {
    // The caller chose the issuer by this claim. The check is repeated so that this file alone shows all
    // requirements.
    if claims.get("iss").and_then(Value::as_str) != Some(accepted.issuer.as_str()) {
        return Err(ClaimFault::BadClaim("iss"));
    }
    check_tenant(&claims, accepted.tenant.as_deref())?;
    let audience = audience(&claims, &settings.audience)?;
    let expires_at = check_times(&claims, settings, now)?;
    let subject = subject(&claims)?;
    check_required(&claims, settings)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(VerifiedClaims {
        issuer: accepted.issuer,
        issuer_name: settings.name.clone(),
        subject,
        token_id: text("jti"),
        audience,
        azp: text("azp"),
        expires_at: UNIX_EPOCH + Duration::from_secs(expires_at),
        user_claim: settings.user_claim.clone(),
        leeway: settings.leeway,
        claims,
    })
}

/// All faults that [`check`] could find in these claims; `check` stops at the first. Proves nothing.
pub(super) fn faults(claims: &Map<String, Value>, settings: &IssuerSettings, now: u64) -> Vec<ClaimFault> {
    let accepted = claims.get("iss").and_then(Value::as_str).and_then(|iss| settings.accepts(iss));
    let faults = [
        check_tenant(claims, accepted.and_then(|accepted| accepted.tenant).as_deref()).err(),
        audience(claims, &settings.audience).err(),
        check_times(claims, settings, now).err(),
        subject(claims).err(),
        check_required(claims, settings).err(),
    ];
    faults.into_iter().flatten().collect()
}

/// Checks that `tid` equals the tenant in `iss`.
fn check_tenant(claims: &Map<String, Value>, tenant: Option<&str>) -> Result<(), ClaimFault> {
    let Some(tenant) = tenant else { return Ok(()) };
    match claims.get("tid") {
        None => Err(ClaimFault::MissingClaim("tid")),
        Some(Value::String(tid)) if tid == tenant => Ok(()),
        Some(_) => Err(ClaimFault::Tenant),
    }
}

fn subject(claims: &Map<String, Value>) -> Result<Subject, ClaimFault> {
    match claims.get("sub") {
        None => Err(ClaimFault::MissingClaim("sub")),
        Some(Value::String(sub)) if (1..=MAX_SUBJECT_BYTES).contains(&sub.len()) => Ok(Subject::new(sub)),
        Some(_) => Err(ClaimFault::BadClaim("sub")),
    }
}

fn check_required(claims: &Map<String, Value>, settings: &IssuerSettings) -> Result<(), ClaimFault> {
    for rule in &settings.require {
        let doubt = match claim_rule::evaluate(rule, claims) {
            RuleVerdict::Holds => continue,
            RuleVerdict::Fails => None,
            RuleVerdict::Undecided(doubt) => Some(doubt),
        };
        let wanted: Vec<_> = rule.any.iter().chain(&rule.all).cloned().collect();
        let claim = printable(&rule.claim.join("."), MAX_SHOWN);
        return Err(ClaimFault::Required { claim, expected: list(&wanted), doubt });
    }
    Ok(())
}

fn audience(claims: &Map<String, Value>, expected: &[String]) -> Result<Vec<String>, ClaimFault> {
    let audience: Vec<String> = match claims.get("aud") {
        None => return Err(ClaimFault::MissingClaim("aud")),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several
            .iter()
            .map(|one| one.as_str().map(str::to_owned).ok_or(ClaimFault::BadClaim("aud")))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(ClaimFault::BadClaim("aud")),
    };
    if audience.iter().any(|one| expected.contains(one)) {
        return Ok(audience);
    }
    Err(ClaimFault::Audience { expected: list(expected), got: list(&audience) })
}

/// Quoted values for an error text; bounded.
fn list(values: &[String]) -> String {
    let all: Vec<_> = values.iter().map(|value| format!("\"{}\"", printable(value, MAX_SHOWN))).collect();
    let mut text = all.join(", ");
    text.truncate(text.floor_char_boundary(2 * MAX_SHOWN));
    if text.is_empty() { "empty".to_owned() } else { text }
}

/// Checks the times and returns `exp`. STS also requires `iat` and rejects tokens that are about a day old.
fn check_times(claims: &Map<String, Value>, settings: &IssuerSettings, now: u64) -> Result<u64, ClaimFault> {
    let leeway = settings.leeway.as_secs();
    let expires = required(time(claims, "exp")?, "exp")?;
    let issued = required(time(claims, "iat")?, "iat")?;
    if now >= expires.saturating_add(leeway) {
        return Err(ClaimFault::Expired { seconds_ago: now - expires });
    }
    if let Some(not_before) = time(claims, "nbf")?
        && not_before > now.saturating_add(leeway)
    {
        return Err(ClaimFault::NotYetValid { in_seconds: not_before - now });
    }
    if issued > now.saturating_add(leeway) {
        return Err(ClaimFault::IssuedInFuture { in_seconds: issued - now });
    }
    let (seconds, max_seconds) = (expires.saturating_sub(issued), settings.max_token_lifetime.as_secs());
    if seconds > max_seconds {
        return Err(ClaimFault::LifetimeTooLong { seconds, max_seconds });
    }
    Ok(expires)
}

fn required(time: Option<u64>, name: &'static str) -> Result<u64, ClaimFault> {
    time.ok_or(ClaimFault::MissingClaim(name))
}

/// An integer number of seconds, as STS requires. The JSON reader takes `1e9` and `1.0` as floats, so they
/// are rejected. `null` counts as absent.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, ClaimFault> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seconds) if seconds <= MAX_TIME => Ok(Some(seconds)),
            _ => Err(ClaimFault::BadClaim(name)),
        },
    }
}
