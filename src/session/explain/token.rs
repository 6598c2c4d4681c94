//! Refusals of tokens. A token whose signature did not hold is described by constants and numbers only.

use super::{FRESH_TOKEN, policy, span};
use crate::identity::claim_rule::ClaimDoubt;
use crate::identity::jwks::MAX_TRIES;
use crate::identity::{ClaimFault, TokenFault, VerifyError};
use crate::refusal::{Hint, Refusal, Stage, TRY_AGAIN};

const PLAIN_TOKEN: &str = "Send a plain access or ID token, as the identity provider issued it.";

pub(super) fn explain(why: &VerifyError) -> Refusal {
    match why {
        VerifyError::Unverified(fault) => unverified(fault),
        VerifyError::Claims(fault) => claims(fault),
    }
}

fn unverified(fault: &TokenFault) -> Refusal {
    use TokenFault as F;
    let refuse = |detail: &str| Refusal::authentication(Stage::Token, detail);
    match fault {
        F::KeysUnavailable { .. } => {
            let detail = "the keys of the token's issuer cannot be fetched";
            Refusal::cannot_connect_now("issuer keys unavailable", Stage::Keys, detail).hint(TRY_AGAIN)
        }
        F::NotAJwt { parts: 1 } => {
            refuse("the token is not a JWT: it has no dots, like an opaque token")
                .hint(Hint::SendJwt)
        }
        F::NotAJwt { parts } => {
            refuse(&format!("the token is not a JWT: it has {parts} parts between dots instead of 3"))
                .hint(Hint::SendJwt)
        }
        F::Pasted(shape) => {
            refuse(&format!("the token is not a JWT: it {shape}")).hint(shape.advice())
        }
        F::TooLong { bytes } => {
            refuse(&format!("the token has {bytes} bytes, and AWS STS accepts at most 20000"))
                .hint("Ask your identity provider for a token with fewer claims, for example without groups.")
        }
        F::Encrypted => refuse("the token is encrypted (JWE)")
            .hint("Ask your identity provider for a signed token (JWS) that is not encrypted."),
        F::BadEncoding { part } => {
            refuse(&format!("the token's {part} is damaged: it is not base64url")).hint(Hint::SendToken)
        }
        // These texts contain no bytes of the token.
        F::BadHeader(_) | F::BadPayload(_) | F::CriticalHeader(_) => {
            refuse(&fault.to_string()).hint(PLAIN_TOKEN)
        }
        F::Algorithm(_) => refuse("the token's signature algorithm is not accepted").hint(
            "Let the identity provider sign with RS256, RS384, RS512, ES256, ES384 or ES512; AWS STS accepts no others.",
        ),
        F::TokenType => refuse("the token's type (typ) is not accepted")
            .hint("Send an access or ID token, not a logout, refresh or proof token."),
        F::NoIssuer | F::UnknownIssuer => {
            refuse("the token's issuer (iss) is not one that this proxy accepts")
                .hint("Get the token from the identity provider that this proxy is set up for.")
        }
        F::TooManyKeys { candidates, .. } => {
            refuse(&format!("the token's kid leaves {candidates} keys to try, more than {MAX_TRIES}"))
                .hint("Let the identity provider write a kid into its tokens, another for each key.")
        }
        F::KeyUnknown { .. } | F::BadSignature => {
            refuse("the token's signature could not be verified").hint(Hint::SendToken)
        }
    }
}

/// The signature held, so the token's content may be repeated to its owner.
fn claims(fault: &ClaimFault) -> Refusal {
    use ClaimFault as F;
    let (detail, hint) = match fault {
        F::Expired { seconds_ago } => (format!("the token expired {} ago", span(*seconds_ago)), FRESH_TOKEN),
        F::NotYetValid { in_seconds } => (
            format!("the token is not valid yet, but in {}", span(*in_seconds)),
            "Wait, or have the clocks of identity provider and proxy compared.",
        ),
        F::IssuedInFuture { in_seconds } => (
            format!("the token was issued {} in the future", span(*in_seconds)),
            "Have the clocks of identity provider and proxy compared.",
        ),
        F::LifetimeTooLong { seconds, max_seconds } => (
            format!(
                "the token lives for {}, and at most {} are accepted",
                span(*seconds),
                span(*max_seconds)
            ),
            "Let the identity provider issue tokens with a shorter life.",
        ),
        F::Audience { expected, got } => (
            format!("the token's audience is {got}, expected {expected}"),
            "Ask your identity provider for a token with the expected audience.",
        ),
        F::Required { claim, expected, doubt } => {
            let why = doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default();
            let overage = doubt.as_ref().is_some_and(ClaimDoubt::is_groups_overage);
            let other = "Ask your identity provider for a token with it: a scope to ask for, or a group to be put into.";
            (
                format!("the token's claim \"{claim}\" does not hold what is required: {expected}{why}"),
                if overage { policy::GROUPS_LEFT_OUT } else { other },
            )
        }
        F::Tenant => (
            "the token's claim \"tid\" is not the tenant of its issuer (iss)".to_owned(),
            "Get the token from your own tenant's issuer.",
        ),
        F::MissingClaim(name) => (
            format!("the token has no claim \"{name}\""),
            "Let the identity provider put this claim into its tokens.",
        ),
        F::BadClaim(name) => (
            format!("the token's claim \"{name}\" is malformed"),
            "Let the identity provider write this claim as RFC 7519 says; times are whole seconds.",
        ),
    };
    Refusal::authentication(Stage::Token, &detail).hint(hint)
}
