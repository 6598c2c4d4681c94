//! Client texts for the faults that this protocol finds in a login. Messages of the server are passed on once it has
//! accepted the token.

#![deny(clippy::wildcard_enum_match_arm)] // a new fault without a text does not pass

use super::client::TokenError;
use super::message::WireError;
use super::oauthbearer::BearerError;
use super::password::PasswordError;
use super::server_error::{LoginStep, ServerError};
use super::server_login_error::UpstreamLoginError;
use super::startup::StartupError;
use crate::names::{DbUser, MAX_NAME_BYTES, printable, sql_identifier};
use crate::protocol::ProtocolError;
use crate::refusal::{Condition, Hint, Refusal, ServerWords, Stage, TRY_AGAIN};

impl ProtocolError for StartupError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::TlsRequired => Refusal::tls_required(),
            Self::Protocol { major, minor } => Refusal::unsupported(
                &format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
                "the client speaks another protocol",
            )
            .hint("Use a PostgreSQL driver that is not older than PostgreSQL 7.4."),
            Self::Layout(what) => Refusal::malformed(&format!("invalid startup packet layout: {what}")),
            Self::Replication => Refusal::unsupported(
                "replication connections are not supported",
                "IAM database authentication does not allow replication connections",
            )
            .hint(
                "Leave the parameter \"replication\" out, or connect to the database itself with a password.",
            ),
        }
    }
}

impl ProtocolError for TokenError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Password(why) => password(why),
            Self::Bearer(why) => bearer(why),
            Self::Wire(_) => Refusal::malformed("expected an answer to the question for a token"),
        }
    }
}

fn password(why: &PasswordError) -> Refusal {
    let refuse = |detail| Refusal::authentication(Stage::Token, detail).hint(Hint::SendToken);
    match why {
        PasswordError::NoAnswer => refuse("no password was sent"),
        PasswordError::Empty => refuse("the password is empty"),
        PasswordError::Malformed => Refusal::malformed("invalid password packet size"),
        PasswordError::Wire(WireError::Length { .. }) => refuse("the password is longer than any token"),
        PasswordError::Wire(
            WireError::Closed | WireError::Io(_) | WireError::Malformed(_) | WireError::Unexpected(_),
        ) => Refusal::malformed("expected password response"),
    }
}

fn bearer(why: &BearerError) -> Refusal {
    let refuse = |detail: &str| Refusal::authentication(Stage::Token, detail).hint(Hint::SendToken);
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
        BearerError::Wire(
            WireError::Closed | WireError::Io(_) | WireError::Malformed(_) | WireError::Unexpected(_),
        ) => Refusal::malformed("expected SASL response"),
    }
}

impl ProtocolError for UpstreamLoginError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotIam { user: derived, .. } => no_iam_role(derived),
            Self::TooMuch | Self::Wire(_) => {
                failed("the database did not follow the protocol or closed the connection during the login")
            }
            Self::Refused(error) => refused(error),
        }
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
