//! Every failed login in words for the person who made it: what happened and what to change. All texts are
//! here, so that they speak with one voice, and so that one reading shows that none of them tells a secret.
//! Before a token's signature has held, nothing of its content is repeated.

mod clock;
mod place;
mod policy;
mod upstream;

use super::outcome::LoginError;
use crate::aws::sts::StsError;
use crate::identity::VerifyError;
use crate::identity::claim_rule::ClaimDoubt;
use crate::identity::jwks::MAX_TRIES;
use crate::net::dial::DialError;
use crate::postgres::client::TokenError;
use crate::postgres::message::WireError;
use crate::postgres::oauthbearer::BearerError;
use crate::postgres::password::PasswordError;
use crate::postgres::startup::StartupError;
use crate::refusal::{Refusal, Stage};

pub use self::clock::{clock_note, name_clock};

const FRESH_TOKEN: &str = "Get a fresh token from your identity provider and connect again.";
const TOKEN_AS_PASSWORD: &str = "Send the JWT of your identity provider as the password, whole and unchanged: \
    psql's prompt cuts it at 4095 bytes, so use PGPASSWORD or a passfile.";
const TOKEN_BY_OAUTH: &str = "Send the access token of your identity provider by OAUTHBEARER, whole and unchanged \
    (psql 18: oauth_issuer=<issuer> oauth_client_id=<client>).";
const ASK_OPERATOR: &str =
    "This is for whoever runs the proxy; the log line with the session id has the cause.";
const TRY_AGAIN: &str = "Nothing is wrong with your token. Try again in a moment.";

/// The refusal for `why`; `user` is what the client asked for.
pub fn explain(why: &LoginError, user: &str) -> Refusal {
    match why {
        LoginError::Startup(why) => startup(why),
        LoginError::NoPlace(why) => place::explain(why),
        LoginError::ClientTimedOut => Refusal::authentication_timeout(),
        LoginError::Ask(TokenError::Password(why)) => password(why, user),
        LoginError::Ask(TokenError::Bearer(why)) => bearer(why, user),
        LoginError::Ask(TokenError::Wire(_)) => {
            Refusal::malformed("expected an answer to the question for a token")
        }
        LoginError::Verify(why) => token(why, user),
        LoginError::Policy(why) => policy::explain(why, user),
        LoginError::Withdrawn(_) => place::withdrawn(user),
        LoginError::Audit(_) => place::audit_unwritable(),
        LoginError::Sts(why) => sts(why, user),
        LoginError::Sign(_) => Refusal::internal(Stage::Signing),
        LoginError::Dial(why) => dial(why),
        LoginError::Queue(full) => Refusal::login_queue_full(&full.cluster, full.per_second),
        LoginError::Upstream(why) => upstream::explain(why, user),
        LoginError::TimedOut(stage) => timed_out(*stage),
    }
}

/// As [`explain`], to a client that was asked for its token by OAUTHBEARER and knows of no password.
pub fn explain_bearer(why: &LoginError, user: &str) -> Refusal {
    let mut refusal = explain(why, user);
    if !refusal.rejects_the_person() || refusal.verbatim {
        return refusal;
    }
    if let LoginError::Verify(VerifyError::NotAJwt { .. }) = why {
        let detail = "the token is not a JWT";
        refusal = Refusal::authentication(user, Stage::Token, detail).hint(
            "Let the identity provider issue JWT access tokens; some issue opaque ones unless the scope asks for \
             an API of yours (oauth_scope).",
        );
    } else if refusal.hint.as_deref() == Some(TOKEN_AS_PASSWORD) {
        refusal = refusal.hint(TOKEN_BY_OAUTH);
    }
    refusal.by_bearer_token(user)
}

fn startup(why: &StartupError) -> Refusal {
    match why {
        StartupError::TlsRequired => Refusal::tls_required(),
        StartupError::Protocol { major, minor } => Refusal::unsupported(
            &format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
            "the client speaks another protocol",
        )
        .hint("Use a PostgreSQL driver that is not older than PostgreSQL 7.4."),
        StartupError::Layout(what) => Refusal::malformed(&format!("invalid startup packet layout: {what}")),
        StartupError::Replication => Refusal::unsupported(
            "replication connections are not supported",
            "IAM database authentication does not allow replication connections",
        )
        .hint("Leave the parameter \"replication\" out, or connect to the database itself with a password."),
    }
}

fn password(why: &PasswordError, user: &str) -> Refusal {
    let refuse = |detail| Refusal::authentication(user, Stage::Token, detail);
    match why {
        PasswordError::NoAnswer => refuse("no password was sent").hint(TOKEN_AS_PASSWORD),
        PasswordError::Empty => refuse("the password is empty").hint(TOKEN_AS_PASSWORD),
        PasswordError::Malformed => Refusal::malformed("invalid password packet size"),
        PasswordError::Wire(WireError::Length { .. }) => {
            refuse("the password is longer than any token").hint(TOKEN_AS_PASSWORD)
        }
        PasswordError::Wire(_) => Refusal::malformed("expected password response"),
    }
}

fn bearer(why: &BearerError, user: &str) -> Refusal {
    let refuse = |detail: &str| Refusal::authentication(user, Stage::Token, detail).hint(TOKEN_BY_OAUTH);
    match why {
        BearerError::NoAnswer | BearerError::Discovery => refuse("no token was sent"),
        BearerError::NotBearer(what) => refuse(&format!("no bearer token was sent: {what}")),
        BearerError::Wire(WireError::Length { .. }) => refuse("the message is longer than any token"),
        BearerError::Mechanism => {
            Refusal::malformed("client selected an invalid SASL authentication mechanism")
        }
        BearerError::AuthorizationIdentity => Refusal::unsupported(
            "client uses authorization identity, but it is not supported",
            "the token alone says who the user is",
        ),
        BearerError::Malformed(what) => Refusal::malformed(&format!("malformed OAUTHBEARER message: {what}")),
        BearerError::Wire(_) => Refusal::malformed("expected SASL response"),
    }
}

fn token(why: &VerifyError, user: &str) -> Refusal {
    use VerifyError as E;
    let refuse = |detail: &str, hint: &str| Refusal::authentication(user, Stage::Token, detail).hint(hint);
    match why {
        E::KeysUnavailable { .. } => Refusal::cannot_connect_now(
            "issuer keys unavailable",
            Stage::Keys,
            "the keys of the token's issuer cannot be fetched",
        )
        .hint(TRY_AGAIN),
        E::NotAJwt { parts } => refuse(
            &format!("the password is not a JWT: it has {parts} part(s) between dots instead of 3"),
            TOKEN_AS_PASSWORD,
        ),
        E::TooLong { bytes } => refuse(
            &format!("the token has {bytes} bytes, and AWS STS accepts at most 20000"),
            "Ask your identity provider for a token with fewer claims, for example without groups.",
        ),
        E::Encrypted => refuse(
            "the token is encrypted (JWE)",
            "Ask your identity provider for a signed token (JWS) that is not encrypted.",
        ),
        E::BadEncoding { part } => {
            refuse(&format!("the token's {part} is damaged: it is not base64url"), TOKEN_AS_PASSWORD)
        }
        // The reasons hold no bytes of the token.
        E::BadHeader(_) | E::BadPayload(_) | E::CriticalHeader(_) => {
            refuse(&why.to_string(), "Send a plain access or ID token, as the identity provider issued it.")
        }
        E::Algorithm(_) => refuse(
            "the token's signature algorithm is not accepted",
            "Let the identity provider sign with RS256, RS384, RS512, ES256, ES384 or ES512; AWS STS accepts no others.",
        ),
        E::TokenType => refuse(
            "the token's type (typ) is not accepted",
            "Send an access or ID token, not a logout, refresh or proof token.",
        ),
        E::NoIssuer | E::UnknownIssuer => refuse(
            "the token's issuer (iss) is not one that this proxy accepts",
            "Get the token from the identity provider that this proxy is set up for.",
        ),
        E::TooManyKeys { candidates, .. } => refuse(
            &format!("the token's kid leaves {candidates} keys to try, more than {MAX_TRIES}"),
            "Let the identity provider write a kid into its tokens, another for each key.",
        ),
        E::KeyUnknown { .. } | E::BadSignature => {
            refuse("the token's signature could not be verified", TOKEN_AS_PASSWORD)
        }
        _ => claims(why, user),
    }
}

/// The signature held: what the token says may be repeated to whoever brought it.
fn claims(why: &VerifyError, user: &str) -> Refusal {
    use VerifyError as E;
    let (detail, hint) = match why {
        E::Expired { seconds_ago } => (format!("the token expired {} ago", span(*seconds_ago)), FRESH_TOKEN),
        E::NotYetValid { in_seconds } => (
            format!("the token is not valid yet, but in {}", span(*in_seconds)),
            "Wait, or have the clocks of identity provider and proxy compared.",
        ),
        E::IssuedInFuture { in_seconds } => (
            format!("the token was issued {} in the future", span(*in_seconds)),
            "Have the clocks of identity provider and proxy compared.",
        ),
        E::LifetimeTooLong { seconds, max_seconds } => (
            format!(
                "the token lives for {}, and at most {} are accepted",
                span(*seconds),
                span(*max_seconds)
            ),
            "Let the identity provider issue tokens with a shorter life.",
        ),
        E::Audience { expected, got } => (
            format!("the token's audience is {got}, expected {expected}"),
            "Ask your identity provider for a token with the expected audience.",
        ),
        E::Required { claim, expected, doubt } => {
            let why = doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default();
            let overage = doubt.as_ref().is_some_and(ClaimDoubt::is_groups_overage);
            let other = "Ask your identity provider for a token with it: a scope to ask for, or a group to be put into.";
            (
                format!("the token's claim \"{claim}\" does not hold what is required: {expected}{why}"),
                if overage { policy::GROUPS_LEFT_OUT } else { other },
            )
        }
        E::Tenant => (
            "the token's claim \"tid\" is not the tenant of its issuer (iss)".to_owned(),
            "Get the token from your own tenant's issuer.",
        ),
        E::MissingClaim(name) => (
            format!("the token has no claim \"{name}\""),
            "Let the identity provider put this claim into its tokens.",
        ),
        E::BadClaim(name) => (
            format!("the token's claim \"{name}\" is malformed"),
            "Let the identity provider write this claim as RFC 7519 says; times are whole seconds.",
        ),
        _ => ("the token is not accepted".to_owned(), FRESH_TOKEN),
    };
    Refusal::authentication(user, Stage::Token, &detail).hint(hint)
}

fn sts(why: &StsError, user: &str) -> Refusal {
    let refuse = |detail: &str, hint: &str| Refusal::authentication(user, Stage::Sts, detail).hint(hint);
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

fn dial(why: &DialError) -> Refusal {
    let refuse = |what, stage, detail| Refusal::cannot_connect_now(what, stage, detail);
    match why {
        DialError::Resolve { .. } => {
            refuse("database unreachable", Stage::UpstreamName, "the name of the database does not resolve")
                .hint(TRY_AGAIN)
        }
        DialError::Connect { .. } | DialError::TimedOut | DialError::NoCancels => {
            refuse("database unreachable", Stage::UpstreamConnect, "the database does not take connections")
                .hint(TRY_AGAIN)
        }
        DialError::Handshake { .. } => {
            let detail = "the database takes connections and does not finish the TLS handshake";
            refuse("database unreachable", Stage::UpstreamTls, detail).hint(TRY_AGAIN)
        }
        DialError::NoTls(_) | DialError::NotPostgres(_) | DialError::Tls { .. } => {
            let detail = "no TLS connection to the database whose certificate could be verified";
            refuse("database not trusted", Stage::UpstreamTls, detail).hint(ASK_OPERATOR)
        }
    }
}

fn timed_out(stage: Stage) -> Refusal {
    Refusal::cannot_connect_now("the login took too long", stage, "this step did not end in time")
        .hint(TRY_AGAIN)
}

/// Seconds as people say them.
fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests;
