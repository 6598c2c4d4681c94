//! Doctor: the token against every rule, with actual and expected values. The token itself is never shown.

use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::runtime::Handle;

use super::report::{ChainLink, DoctorReport, hint_of};
use super::{LinkProblem, TokenSource, seconds};
use crate::clock::Clock;
use crate::config::IssuerSettings;
use crate::identity::inspect::TokenReport;
use crate::identity::{
    ClaimFault, KeyFetcher, KeyStore, TokenFault, VerifiedClaims, Verifier, VerifyError, inspect,
};
use crate::names::{printable, shell_word};
use crate::net::outgoing::Outgoing;
use crate::secret::Jwt;
use crate::session::explain::explain;
use crate::session::outcome::LoginError;
use crate::supervisor::{TaskRules, TaskSupervisor};

/// Longest part of a claim that is shown.
const MAX_SHOWN: usize = 128;

const LINKS: [ChainLink; 6] = [
    ChainLink::Token,
    ChainLink::TokenIssuer,
    ChainLink::TokenSignature,
    ChainLink::TokenAudience,
    ChainLink::TokenTimes,
    ChainLink::TokenClaims,
];

/// Checks the permissions of the token file.
pub(super) fn source(source: &TokenSource, report: &mut DoctorReport<'_>) {
    match source {
        TokenSource::StandardInput => report.ok(ChainLink::TokenFile, "standard input"),
        TokenSource::PrivateFile(path) => {
            report.ok(
                ChainLink::TokenFile,
                format!("others cannot read {}", shown(&path.display().to_string())),
            );
        }
        TokenSource::OpenFile(path) => {
            let path = path.display().to_string();
            let found = format!("others can read {}", shown(&path));
            let remedy = format!(
                "chmod 0600 {}: anyone with the token can log in until it expires.",
                shell_word(&path)
            );
            report.warn(ChainLink::TokenFile, LinkProblem::new(found, remedy));
        }
    }
}

/// Checks the token. Returns the claims if the verifier of a login accepts it.
pub(super) async fn examine(
    jwt: &Jwt,
    issuers: &[IssuerSettings],
    usable: &[String],
    (clock, outgoing): (&Clock, &Outgoing),
    report: &mut DoctorReport<'_>,
) -> Option<VerifiedClaims> {
    let look = match inspect::inspect(jwt, issuers, clock.unix_seconds()) {
        Ok(look) => look,
        Err(fault) => {
            let fault = VerifyError::from(fault);
            let blamed = link_of(&fault);
            for link in LINKS {
                if link == blamed {
                    report.fail(link, problem_of(&fault, None, issuers));
                } else {
                    report.skip(link, "not tried: the token cannot be read");
                }
            }
            report.skip(ChainLink::StsAudience, "not tried: the token cannot be read");
            return None;
        }
    };
    let keys = look.settings.filter(|settings| usable.contains(&settings.name));
    let verdict = match keys {
        Some(settings) => Some(verify(jwt, settings, (clock, outgoing)).await),
        None => None,
    };
    let refused = verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
    for link in LINKS {
        let mut faults = refused.into_iter().chain(&look.faults);
        match faults.find(|fault| link_of(fault) == link) {
            Some(fault) => {
                let why = LoginError::Verify(fault.clone());
                let problem = problem_of(fault, Some(&look), issuers).by_clock(&why, outgoing.clocks());
                report.fail(link, problem);
            }
            None => fine(link, jwt, &look, verdict.as_ref(), clock, report),
        }
    }
    sts_audience(&look, report);
    verdict?.ok()
}

/// Result of the verifier that logins use.
async fn verify(
    jwt: &Jwt,
    settings: &IssuerSettings,
    (clock, outgoing): (&Clock, &Outgoing),
) -> Result<VerifiedClaims, VerifyError> {
    let unavailable = |_| TokenFault::KeysUnavailable { issuer: settings.name.clone() };
    let fetcher = KeyFetcher::new(settings, outgoing).map_err(unavailable)?;
    let supervisor = TaskSupervisor::new(Handle::current(), TaskRules::default());
    let keys = KeyStore::start(settings, fetcher, &supervisor);
    Verifier::new(vec![(settings.clone(), Arc::new(keys))], clock.clone()).verify(jwt).await
}

fn fine(
    link: ChainLink,
    jwt: &Jwt,
    look: &TokenReport<'_>,
    verdict: Option<&Result<VerifiedClaims, VerifyError>>,
    clock: &Clock,
    report: &mut DoctorReport<'_>,
) {
    let Some(settings) = look.settings.filter(|_| link != ChainLink::Token) else {
        return match link {
            ChainLink::Token => report.ok(link, shape(jwt, look)),
            _ => report.skip(link, "not tried: no configured issuer made the token"),
        };
    };
    match link {
        ChainLink::TokenIssuer => {
            report.ok(link, format!("\"{}\" is issuer {}", shown(&look.issuer), settings.name));
        }
        ChainLink::TokenSignature => match verdict {
            None => report.skip(link, "not tried: the issuer's keys could not be fetched"),
            Some(Err(VerifyError::Unverified(_))) => {
                report.skip(link, "not tried: the token was refused before its signature was checked");
            }
            Some(_) => report.ok(link, format!("made by a key of issuer {}", settings.name)),
        },
        ChainLink::TokenAudience => report.ok(link, format!("{} is accepted", claim(&look.claims, "aud"))),
        ChainLink::TokenTimes => report.ok(link, times(&look.claims, clock)),
        _ => {
            let rules = settings.require.len();
            report.ok(
                link,
                format!("sub is {}; {rules} rule(s) of issuer.require hold", claim(&look.claims, "sub")),
            );
        }
    }
}

fn shape(jwt: &Jwt, look: &TokenReport<'_>) -> String {
    let kind = look.token_type.as_deref().map_or("no typ".to_owned(), |typ| format!("typ {}", shown(typ)));
    let key = if look.has_key_id { "a key id" } else { "no key id" };
    let mut names: Vec<_> = look.claims.keys().map(|name| shown(name)).collect();
    names.sort_unstable();
    format!("{} bytes, {}, {kind}, {key}; claims {}", jwt.length(), look.algorithm, shown(&names.join(" ")))
}

fn times(claims: &Map<String, Value>, clock: &Clock) -> String {
    let now = clock.unix_seconds();
    let at = |name: &str| claims.get(name).and_then(Value::as_u64).unwrap_or(now);
    let span = |seconds: u64| self::seconds(std::time::Duration::from_secs(seconds));
    format!(
        "issued {} ago, expires in {}; STS refuses tokens about a day after iat",
        span(now.saturating_sub(at("iat"))),
        span(at("exp").saturating_sub(now))
    )
}

fn sts_audience(look: &TokenReport<'_>, report: &mut DoctorReport<'_>) {
    match look.claims.get("azp") {
        None if look.claims.contains_key("aud") => {
            report.ok(
                ChainLink::StsAudience,
                format!("no azp, so STS compares aud: {}", claim(&look.claims, "aud")),
            );
        }
        None => report.skip(ChainLink::StsAudience, "not tried: the token has neither azp nor aud"),
        Some(Value::String(azp)) if audiences(&look.claims).contains(&azp.as_str()) => {
            report.ok(
                ChainLink::StsAudience,
                format!("STS compares azp: \"{}\", which is aud as well", shown(azp)),
            );
        }
        Some(_) => {
            let azp = claim(&look.claims, "azp");
            let remedy = format!(
                "Register {azp} as audience of the IAM OIDC provider, and write it into the trust policy: \
                 `pgpassport policy --audience` prints it so."
            );
            let found = format!("STS compares azp, {azp}, and not aud, {}", claim(&look.claims, "aud"));
            report.warn(ChainLink::StsAudience, LinkProblem::new(found, remedy));
        }
    }
}

fn audiences(claims: &Map<String, Value>) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn claim(claims: &Map<String, Value>, name: &str) -> String {
    match claims.get(name) {
        None => "absent".to_owned(),
        Some(Value::String(text)) => format!("\"{}\"", shown(text)),
        Some(other) => crate::names::visible(&other.to_string(), MAX_SHOWN),
    }
}

fn shown(text: &str) -> String {
    printable(text, MAX_SHOWN)
}

/// The link that a fault breaks.
fn link_of(fault: &VerifyError) -> ChainLink {
    match fault {
        VerifyError::Unverified(fault) => link_of_token(fault),
        VerifyError::Claims(fault) => link_of_claims(fault),
    }
}

fn link_of_token(fault: &TokenFault) -> ChainLink {
    use TokenFault as F;
    match fault {
        F::TooLong { .. }
        | F::NotAJwt { .. }
        | F::Pasted(_)
        | F::Encrypted
        | F::BadEncoding { .. }
        | F::BadHeader(_)
        | F::BadPayload(_)
        | F::Algorithm(_)
        | F::CriticalHeader(_)
        | F::TokenType => ChainLink::Token,
        F::NoIssuer | F::UnknownIssuer => ChainLink::TokenIssuer,
        F::KeysUnavailable { .. } => ChainLink::IssuerKeys,
        F::KeyUnknown { .. } | F::TooManyKeys { .. } | F::BadSignature => ChainLink::TokenSignature,
    }
}

fn link_of_claims(fault: &ClaimFault) -> ChainLink {
    use ClaimFault as F;
    match fault {
        F::Tenant | F::MissingClaim("tid") | F::BadClaim("iss") => ChainLink::TokenIssuer,
        F::MissingClaim("aud") | F::BadClaim("aud") | F::Audience { .. } => ChainLink::TokenAudience,
        F::MissingClaim("exp" | "iat" | "nbf") | F::BadClaim("exp" | "iat" | "nbf") => ChainLink::TokenTimes,
        F::Expired { .. } | F::NotYetValid { .. } | F::IssuedInFuture { .. } | F::LifetimeTooLong { .. } => {
            ChainLink::TokenTimes
        }
        F::MissingClaim(_) | F::BadClaim(_) | F::Required { .. } => ChainLink::TokenClaims,
    }
}

/// The error that a client would get, and the exact cause, which a client would not.
fn problem_of(
    fault: &VerifyError,
    look: Option<&TokenReport<'_>>,
    issuers: &[IssuerSettings],
) -> LinkProblem {
    let refusal = explain(&LoginError::Verify(fault.clone()));
    let hint = hint_of(&refusal);
    let VerifyError::Unverified(token_fault) = fault else { return with_cause(fault, refusal.detail, hint) };
    match token_fault {
        TokenFault::UnknownIssuer => {
            let known: Vec<_> = issuers.iter().flat_map(IssuerSettings::accepted).collect();
            let known: Vec<_> = known.iter().map(|known| format!("\"{}\"", known.issuer.as_str())).collect();
            let issuer = look.map_or_else(String::new, |look| shown(&look.issuer));
            LinkProblem::new(
                format!("the token's iss is \"{issuer}\", configured is {}", known.join(", ")),
                "Write iss into issuer.url, byte for byte, a slash at the end included; or get the token from a \
                 configured issuer.",
            )
        }
        TokenFault::NotAJwt { .. } => LinkProblem::new(
            refusal.detail,
            "Ask the identity provider for a JWT access token or an ID token. Some issue opaque access tokens unless the \
             scope or audience names an API of yours.",
        ),
        TokenFault::KeyUnknown { .. } => LinkProblem::new(
            fault.to_string(),
            "Get a fresh token. If that does not help, the token is from another issuer with the same iss, or the \
             issuer does not publish the key it signs with.",
        )
        .because("The issuer has removed the key, or never had it."),
        TokenFault::TooManyKeys { .. } => LinkProblem::new(fault.to_string(), hint),
        TokenFault::BadSignature => LinkProblem::new(
            fault.to_string(),
            "Copy the token from the issuer complete and unchanged, with all three parts.",
        )
        .because("The issuer has a key with this id, but it did not sign this token."),
        _ => with_cause(fault, refusal.detail, hint),
    }
}

fn with_cause(fault: &VerifyError, detail: String, hint: String) -> LinkProblem {
    let exact = fault.to_string();
    let same = exact == detail;
    let problem = LinkProblem::new(detail, hint);
    if same { problem } else { problem.because(exact) }
}
