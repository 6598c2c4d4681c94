//! Refusals because of AWS STS. Messages of STS name accounts and roles, so they are for the log only.

use super::{ASK_OPERATOR, FRESH_TOKEN};
use crate::aws::sts::StsError;
use crate::refusal::{Refusal, Stage, TRY_AGAIN};

pub(super) fn explain(why: &StsError) -> Refusal {
    let refuse = |detail: &str, hint: &str| Refusal::authentication(Stage::Sts, detail).hint(hint);
    match why {
        StsError::Unavailable(_) => Refusal::cannot_connect_now(
            "AWS STS unavailable",
            Stage::Sts,
            "AWS STS does not answer, or asks to come back later",
        )
        .hint(TRY_AGAIN),
        StsError::BadResponse(_) => {
            Refusal::cannot_connect_now("AWS STS unavailable", Stage::Sts, "AWS STS gave no usable answer")
                .hint(ASK_OPERATOR)
        }
        StsError::Misconfigured { .. } => refuse("AWS STS cannot do what the proxy asks", ASK_OPERATOR),
        StsError::Refused { code, .. } => match code.as_str() {
            "ExpiredTokenException" | "ExpiredToken" => {
                refuse("AWS STS says that the token has expired or was issued too long ago", FRESH_TOKEN)
            }
            "AccessDenied" => refuse(
                "AWS STS does not let this token assume the role",
                "The role's trust policy must allow this issuer, audience (azp, where the token has one) and \
                 subject, and sts:TagSession if the token carries tags.",
            ),
            "InvalidIdentityToken" => refuse(
                "AWS STS does not accept the token",
                "The issuer must be registered as an IAM OIDC provider in the role's account, with the token's \
                 audience (azp, where the token has one).",
            ),
            "IDPRejectedClaim" => {
                refuse("the identity provider told AWS STS that the token is not valid any more", FRESH_TOKEN)
            }
            _ => refuse("AWS STS refused the token", ASK_OPERATOR),
        },
    }
}
