//! Refusals of a client's first packets and of its answer to the request for a token.

use crate::postgres::message::WireError;
use crate::postgres::oauthbearer::BearerError;
use crate::postgres::password::PasswordError;
use crate::postgres::startup::StartupError;
use crate::refusal::{Hint, Refusal, Stage};

pub(super) fn explain(why: &StartupError) -> Refusal {
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

pub(super) fn password(why: &PasswordError) -> Refusal {
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

pub(super) fn bearer(why: &BearerError) -> Refusal {
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
