//! Refusals of verified tokens by the access policy.

use crate::identity::{DeriveError, PolicyError};
use crate::names::{MAX_MYSQL_USER, MAX_NAME_BYTES, NameError, conninfo_value, printable};
use crate::refusal::{Refusal, Stage};

pub(super) const GROUPS_LEFT_OUT: &str = "You are in more groups than Microsoft Entra ID puts into a token (200). Ask whoever \
    administers it for an app role (claim \"roles\"), or for tokens that hold only the groups assigned to the application.";

pub(super) fn explain(why: &PolicyError) -> Refusal {
    let refuse = |detail: &str| Refusal::authentication(Stage::Authorization, detail);
    match why {
        PolicyError::Derive(why) => derive(why),
        PolicyError::UserMismatch { asked, derived } => {
            let shown = printable(derived.as_str(), MAX_NAME_BYTES);
            let value = conninfo_value(derived.as_str());
            refuse(&format!("the connection asks for user \"{asked}\", and the token is for \"{shown}\""))
                .hint(format!("Put user={value} into the connection string, or use your own token."))
        }
        // One text for both, because a token must not reveal which databases exist.
        PolicyError::NoCluster { database, overage: true }
        | PolicyError::NotAllowed { database, overage: true, .. } => refuse(&format!(
            "database \"{database}\" is not served here, or not to you; the token leaves out your groups (groups \
             overage)"
        ))
        .hint(GROUPS_LEFT_OUT),
        PolicyError::NoCluster { database, overage: false }
        | PolicyError::NotAllowed { database, overage: false, .. } => {
            refuse(&format!("database \"{database}\" is not served here, or not to you")).hint(
                "Check the name; a connection without one asks for the database that is named like its user. Who may \
                 use a database can depend on claims of the token, for example groups, for which your program may have \
                 to ask by a scope; the proxy's log has the reason under the session id.",
            )
        }
        PolicyError::ForbiddenSetting { name } => refuse(&format!(
            "the connection sets \"{name}\", which may not be set while connecting"
        ))
        .hint("Leave it out of the connection string and of PGOPTIONS."),
        PolicyError::Database(error) => refuse(&format!("the database name cannot be used: {error}"))
            .hint("Put the name of an existing database into the connection string."),
        PolicyError::TagMissing { derived } | PolicyError::TagMalformed { derived } => refuse(&format!(
            "the token does not carry the session tag \"dbuser\" as one text, expected \"{derived}\""
        ))
        .hint(
            "Let the identity provider put principal tag dbuser into claim https://aws.amazon.com/tags. \
               Expected there: the database user.",
        ),
        PolicyError::TagMismatch { tag, derived } => refuse(&format!(
            "the token's session tag \"dbuser\" is \"{tag}\", and the database user would be \"{derived}\""
        ))
        .hint("Let the identity provider fill the tag from the same attribute as the user claim."),
    }
}

fn derive(why: &DeriveError) -> Refusal {
    let (detail, hint) = match why {
        DeriveError::MissingClaim { claim } => (
            format!("the token has no claim \"{claim}\" to take the database user from"),
            "Let the identity provider put this claim into its tokens, or have cluster.user.claim changed.",
        ),
        DeriveError::NotText { claim } => (
            format!("the token's claim \"{claim}\" is not a text"),
            "Let the identity provider write one text there, or have cluster.user.claim changed (list_of_one takes a \
             list that holds exactly one text).",
        ),
        DeriveError::NoMatch { claim, value } | DeriveError::EmptyCapture { claim, value } => (
            format!("the token's claim \"{claim}\" is \"{value}\", from which no database user can be taken"),
            "Log in with an account of the expected form, or have cluster.user.regex changed.",
        ),
        DeriveError::NotAscii { name } => (
            format!("\"{name}\" is not ASCII and cannot be lower-cased without confusing people"),
            "Have cluster.user.lowercase turned off, or use an ASCII name.",
        ),
        DeriveError::Name { name, error: NameError::TooLong(bytes) } => (
            format!("\"{name}\" has {bytes} bytes, and a database user has at most {MAX_NAME_BYTES}"),
            "Use a shorter claim, or have cluster.user.regex cut it.",
        ),
        DeriveError::Name { name, error: NameError::TooLongForMysql(characters) } => (
            format!(
                "\"{name}\" has {characters} characters, and a database user of MySQL has at most {MAX_MYSQL_USER}"
            ),
            "Use a shorter claim, or have cluster.user.regex cut it.",
        ),
        DeriveError::Name { name, error } => (
            format!("\"{name}\" cannot be a database user: {error}"),
            "Use another claim, or have cluster.user.regex take the usable part.",
        ),
        DeriveError::NoRule => (
            "people of the token's issuer are no database users here".to_owned(),
            "Use a token of another issuer, or have a [[cluster.user]] written for this one.",
        ),
        DeriveError::ForeignPrefix { name, prefix } => (
            format!(
                "\"{name}\" begins with \"{prefix}\", as the database users of another issuer's people do"
            ),
            "Use another claim, or have cluster.user.prefix changed.",
        ),
        DeriveError::Denied { name } => (
            format!("nobody may log in as \"{name}\" with a token"),
            "This name belongs to the database's administration. Use a personal account.",
        ),
    };
    Refusal::authentication(Stage::Authorization, &detail).hint(hint)
}
