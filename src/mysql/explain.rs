//! Client texts for the faults that this protocol finds in a login. Messages of the server are passed on once it has
//! accepted the token, and where they name what the person has asked for.

#![deny(clippy::wildcard_enum_match_arm)] // a new fault without a text does not pass

use super::error_packet::server_code;
use super::packet::WireError;
use super::question::TokenError;
use super::response::StartupError;
use super::server_error::{LoginStep, ServerError};
use super::server_login::ServerLoginError;
use crate::names::{MAX_NAME_BYTES, mysql_text, printable};
use crate::protocol::{self, ProtocolError, Shortage, TokenRequestError, WithoutToken};
use crate::refusal::{Condition, Fault, Hint, Refusal, ServerWords, Stage, TRY_AGAIN};

impl ProtocolError for StartupError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::TlsRequired => Refusal::tls_required(),
            Self::TooOld => Refusal::unsupported(
                "Client does not support authentication protocol requested by server",
                "the client cannot be asked for a token: it does not support authentication plugins",
            )
            .hint("Use a MySQL driver that is not older than MySQL 5.5.7."),
            Self::Layout(what) => Refusal::malformed(what),
        }
    }
}

impl ProtocolError for TokenError {
    fn refusal(&self) -> Refusal {
        let refuse = |detail: &str| Refusal::authentication(Stage::Token, detail).hint(Hint::SendToken);
        match self {
            Self::NoAnswer(plugin) => refuse(&format!("no token was sent when asked by {plugin}")),
            Self::Empty => refuse("the password is empty"),
            Self::Malformed => Refusal::malformed("the answer to the request for a token is malformed"),
            Self::Wire(WireError::Length(_)) => refuse("the password is longer than any token"),
            Self::Wire(
                WireError::Closed
                | WireError::Sequence { .. }
                | WireError::Unexpected(_)
                | WireError::Malformed(_)
                | WireError::Io(_),
            ) => Refusal::malformed("expected an answer to the request for a token"),
        }
    }
}

impl TokenRequestError for TokenError {
    fn without_token(&self) -> Option<WithoutToken> {
        match self {
            Self::NoAnswer(_) => Some(WithoutToken::Left),
            Self::Empty | Self::Malformed | Self::Wire(_) => None,
        }
    }
}

impl ProtocolError for ServerLoginError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotIam { user, .. } => no_iam_user(user),
            Self::Changed => Refusal::cannot_connect_now(
                "the database has another version than before",
                Stage::UpstreamLogin,
                "the connection began with the features of the version before",
            )
            .hint("Connect again."),
            Self::Refused(error) => refused(error),
            Self::Wire(_) => {
                failed("the database did not follow the protocol or closed the connection during the login")
            }
        }
    }
}

impl protocol::ServerLoginError for ServerLoginError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotIam { .. } => Fault::Client,
            Self::Refused(error) => match error.errno {
                1044 | 1045 | 1049 | 1698 | 3118 | 4151 => Fault::Client,
                1129 | 1130 | 1524 => Fault::Operator,
                _ => Fault::Outside,
            },
            Self::Changed | Self::Wire(_) => Fault::Outside,
        }
    }

    /// `ER_CON_COUNT_ERROR`, `ER_TOO_MANY_USER_CONNECTIONS`, `ER_USER_LIMIT_REACHED`.
    fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Refused(error) => match error.errno {
                1040 => Some(Shortage::Server),
                1203 | 1226 => Some(Shortage::Role),
                _ => None,
            },
            Self::NotIam { .. } | Self::Changed | Self::Wire(_) => None,
        }
    }

    /// `ER_ACCESS_DENIED_ERROR`. RDS says the same for every reason.
    fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Refused(error) if error.errno == 1045 && error.step == LoginStep::Token)
    }

    /// `ER_SERVER_SHUTDOWN`, `ER_SERVER_ISNT_AVAILABLE`.
    fn is_of_the_address(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error.errno, 1053 | 3168),
            Self::Wire(error) => error.is_gone(),
            Self::NotIam { .. } | Self::Changed => false,
        }
    }
}

/// The missing user is the derived one, not the requested one. A server asks for a random plugin if the user does not
/// exist, and its names distinguish upper and lower case.
fn no_iam_user(user: &str) -> Refusal {
    let shown = printable(user, MAX_NAME_BYTES);
    let detail = format!("the database has no IAM user of the exact name '{shown}'");
    let user = mysql_text(user);
    Refusal::authentication(Stage::UpstreamLogin, &detail).hint(format!(
        "An administrator of the database can run: CREATE USER {user} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'."
    ))
}

fn refused(error: &ServerError) -> Refusal {
    let refuse = |detail| Refusal::authentication(Stage::UpstreamLogin, detail);
    let own_words = || {
        let words = ServerWords { message: error.message.clone(), other: Vec::new() };
        let code = server_code(error.errno, &error.sqlstate);
        Refusal::verbatim(Condition::ServerCode(code), words, "", None)
    };
    match (error.errno, error.step) {
        (1045 | 1698, LoginStep::Token) => refuse("the database refused the IAM token").hint(
            "The role's permission policy must allow rds-db:connect for this user on this cluster (resource id, not \
             name). The database's log export iam-db-auth-error has the reason.",
        ),
        // ER_ACCESS_DENIED_ERROR, ER_HOST_IS_BLOCKED, ER_HOST_NOT_PRIVILEGED, ER_ACCESS_DENIED_NO_PASSWORD_ERROR: they
        // name the proxy's address, which the client does not know.
        (1045 | 1129 | 1130 | 1698, LoginStep::Startup) | (1129 | 1130, LoginStep::Token) => {
            refuse("the database refused the connection before it asked for a token").hint(
                "The user's host part must allow the proxy's address ('%'). The proxy's log has the database's words \
                 under the session id.",
            )
        }
        // ER_PLUGIN_IS_NOT_LOADED.
        (1524, _) => refuse("IAM database authentication is off for this cluster")
            .hint("It has to be enabled in the settings of the cluster."),
        // Errors of the person's own request: ER_DBACCESS_DENIED_ERROR, ER_BAD_DB_ERROR, ER_ACCOUNT_HAS_BEEN_LOCKED,
        // which MariaDB numbers 4151, and limits.
        (1040 | 1044 | 1049 | 1203 | 1226 | 3118 | 4151, _) => own_words(),
        (_, LoginStep::Startup | LoginStep::Token) => {
            failed("the database ended the login by an error of its own")
        }
    }
}

fn failed(detail: &str) -> Refusal {
    Refusal::cannot_connect_now("database login failed", Stage::UpstreamLogin, detail).hint(TRY_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_server(errno: u16, step: LoginStep) -> Refusal {
        let error = ServerError { errno, sqlstate: "42000".into(), message: "words".into(), step };
        ServerLoginError::Refused(Box::new(error)).refusal()
    }

    #[test]
    fn a_servers_words_are_passed_on_only_where_they_are_about_the_request() {
        for errno in [1040, 1044, 1049, 1203, 1226, 3118, 4151] {
            let refusal = of_server(errno, LoginStep::Token);
            assert_eq!(refusal.words.unwrap().message, "words");
            assert_eq!(refusal.condition, Condition::ServerCode(format!("{errno}/42000")));
        }
        for errno in [1045, 1129, 1130, 1524, 1698, 1105, 2000] {
            for step in [LoginStep::Startup, LoginStep::Token] {
                assert!(of_server(errno, step).words.is_none(), "{errno}");
            }
        }
        assert!(of_server(1045, LoginStep::Token).detail.contains("refused the IAM token"));
        assert!(of_server(1045, LoginStep::Startup).detail.contains("before it asked"));
        assert!(of_server(1524, LoginStep::Startup).detail.contains("is off for this cluster"));
    }

    #[test]
    fn a_missing_user_gets_the_statement_that_makes_it() {
        let refusal =
            ServerLoginError::NotIam { asked: "sha256_password".into(), user: "o'neil".into() }.refusal();
        let Some(Hint::Text(hint)) = refusal.hint else { panic!("{:?}", refusal.hint) };
        assert!(
            hint.contains("CREATE USER 'o''neil' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'"),
            "{hint}"
        );
        assert!(refusal.detail.contains("exact name"));
    }

    #[test]
    fn a_client_that_leaves_is_no_failed_login() {
        assert_eq!(TokenError::NoAnswer("x").without_token(), Some(WithoutToken::Left));
        assert_eq!(TokenError::Empty.without_token(), None);
    }
}
