//! Refusals of logins by the database. Messages of the server are passed on once it has accepted the token.

use super::{ASK_OPERATOR, TRY_AGAIN, timed_out};
use crate::names::{DbUser, MAX_NAME_BYTES, printable, sql_identifier};
use crate::net::dial::DialError;
use crate::postgres::server_login::{LoginStep, ServerError, UpstreamLoginError};
use crate::refusal::{Condition, Refusal, ServerWords, Stage};

pub(super) fn explain(why: &UpstreamLoginError) -> Refusal {
    match why {
        UpstreamLoginError::NotIam { user: derived, .. } => no_iam_role(derived),
        UpstreamLoginError::Redial(why) => dial(why),
        UpstreamLoginError::Silent(_) => timed_out(Stage::UpstreamLogin),
        UpstreamLoginError::TooMuch | UpstreamLoginError::Wire(_) => {
            failed("the database did not follow the protocol or closed the connection during the login")
        }
        UpstreamLoginError::Refused(error) => refused(error),
    }
}

fn refused(error: &ServerError) -> Refusal {
    let ServerError { sqlstate, message, detail, hint, other, step } = error;
    let own_words = |condition| {
        let words = ServerWords { message: message.clone(), other: other.clone() };
        Refusal::verbatim(condition, words, detail, hint.as_deref())
    };
    let refuse = |detail| Refusal::authentication(Stage::UpstreamLogin, detail);
    match (error.class(), step) {
        ("28", LoginStep::Startup) => refuse("the database refused the connection before it asked for a token")
            .hint(
                "The database's rules for connections refuse this user, database or network address. The proxy's log \
                 has its words under the session id.",
            ),
        ("28", LoginStep::Token) => refuse("the database refused the IAM token").hint(
            "The role's permission policy must allow rds-db:connect for this user on this cluster (resource id, not \
             name), and the user must have been granted rds_iam. The database's log export iam-db-auth-error has the \
             reason.",
        ),
        // The server's own code, 28000, makes drivers reconnect without TLS.
        ("28", LoginStep::Authenticated) => own_words(Condition::AuthenticationFailed),
        // An error of one person's login must not look like a failure of the server: drivers would drop their
        // whole pool.
        ("" | "08" | "58" | "F0" | "XX", LoginStep::Authenticated) => {
            let colon = if message.is_empty() { "" } else { ": " };
            failed(&format!("the database took the token and then failed{colon}{message}"))
        }
        ("" | "08" | "58" | "F0" | "XX", LoginStep::Startup | LoginStep::Token) => {
            failed("the database ended the login by an error of its own")
        }
        _ => own_words(Condition::ServerCode(sqlstate.clone())),
    }
}

fn failed(detail: &str) -> Refusal {
    Refusal::cannot_connect_now("database login failed", Stage::UpstreamLogin, detail).hint(TRY_AGAIN)
}

/// The missing role is the derived one, not the requested one.
fn no_iam_role(derived: &DbUser) -> Refusal {
    let shown = printable(derived.as_str(), MAX_NAME_BYTES);
    let detail = format!(
        "the database does not take IAM tokens for user \"{shown}\": the role is missing or not granted rds_iam"
    );
    let sql = sql_identifier(derived.as_str());
    Refusal::authentication(Stage::UpstreamLogin, &detail).hint(format!(
        "An administrator of the database can run: CREATE USER {sql}; GRANT rds_iam TO {sql}; and IAM database \
         authentication must be enabled on the cluster."
    ))
}

pub(super) fn dial(why: &DialError) -> Refusal {
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
