//! Derivation of the database user from verified claims: claim, regular expression, lower-casing, denied
//! names.

use serde_json::Value;

use super::claims::VerifiedClaims;
use crate::config::{DatabaseProtocol, UserRules};
use crate::names::{DbUser, MAX_MYSQL_USER, NameError, printable};

/// Reason why no database user can be derived. Strings come from signed claims and are escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// The token has no such claim.
    #[error("the token has no {claim} claim")]
    MissingClaim {
        /// Dotted path of the claim.
        claim: String,
    },
    /// The claim is not a string.
    #[error("the token's {claim} claim is not a string")]
    NotText {
        /// Dotted path of the claim.
        claim: String,
    },
    /// The expression does not match the whole claim.
    #[error("the token's {claim} claim, \"{value}\", does not match the regex")]
    NoMatch {
        /// Dotted path of the claim.
        claim: String,
        /// Value of the claim.
        value: String,
    },
    /// The expression matches, but its capture is empty or did not participate.
    #[error("the regex captures nothing from the token's {claim} claim, \"{value}\"")]
    EmptyCapture {
        /// Dotted path of the claim.
        claim: String,
        /// Value of the claim.
        value: String,
    },
    /// Lower-casing is on and the name is not ASCII. Unicode lower-casing maps different names to one.
    #[error("\"{name}\" is not ASCII and cannot be lower-cased safely")]
    NotAscii {
        /// The name before lower-casing.
        name: String,
    },
    /// The name is not a valid database user.
    #[error("\"{name}\" is not a valid database user: {error}")]
    Name {
        /// The name.
        name: String,
        /// Reason.
        error: NameError,
    },
    /// The cluster has no rule for people of this issuer.
    #[error("no [[cluster.user]] applies to the token's issuer")]
    NoRule,
    /// The prefix is reserved for people of another issuer.
    #[error("\"{name}\" begins with \"{prefix}\", the prefix of another issuer's users")]
    ForeignPrefix {
        /// The name.
        name: String,
        /// Prefix of the other rule.
        prefix: String,
    },
    /// The name is an administrator's or denied by the configuration.
    #[error("\"{name}\" is a denied name")]
    Denied {
        /// The name.
        name: String,
    },
}

/// Exact names of administrators, lower-case. None of them is a prefix: people are called `rdsouza` and
/// `aurora`.
///
/// - `postgres`: PostgreSQL's bootstrap superuser (manual, "Database Roles") and the default master user of Aurora.
/// - `admin`: the administrator of Aurora DSQL (DSQL user guide, "Authentication and authorization").
/// - `mysql.infoschema`, `mysql.session`, `mysql.sys`: MySQL manual, "Reserved Accounts"; `mariadb.sys`: MariaDB
///   documentation, "mariadb.sys".
/// - `root`: the administrator that other databases and images create.
/// - `rds_superuser`, `rds_replication`, `rds_password`: Aurora user guide, "Understanding the `rds_superuser` role".
/// - `rds_iam`: Aurora user guide, "Creating a database account using IAM authentication".
/// - `rds_ad`: Aurora user guide, "Using Kerberos authentication with Aurora PostgreSQL".
/// - `rds_extension`: RDS user guide, "Using Amazon RDS delegated extension support for PostgreSQL".
/// - `rdsproxyadmin`: Aurora user guide, "Quotas and limitations for RDS Proxy".
/// - `rdsadmin`, `rdsrepladmin`, `rdstopmgr`, `rdswriteforwarduser`, `rds_reserved`: rows of `pg_roles` on Aurora and
///   RDS, created by AWS for its own use.
const ADMINISTRATORS: [&str; 19] = [
    "admin",
    "mariadb.sys",
    "mysql.infoschema",
    "mysql.session",
    "mysql.sys",
    "postgres",
    "rds_ad",
    "rds_extension",
    "rds_iam",
    "rds_password",
    "rds_replication",
    "rds_reserved",
    "rds_superuser",
    "rdsadmin",
    "rdsproxyadmin",
    "rdsrepladmin",
    "rdstopmgr",
    "rdswriteforwarduser",
    "root",
];

/// Prefix that PostgreSQL reserves for its own roles (manual, "CREATE ROLE"; `IsReservedName`,
/// src/backend/catalog/catalog.c). CREATE ROLE refuses such a name.
const RESERVED_PREFIX: &str = "pg_";

/// Longest part of a claim that is shown.
const MAX_SHOWN: usize = 256;

/// Derives the database user from these claims by the rule for their issuer.
pub fn derive(claims: &VerifiedClaims, rules: &UserRules) -> Result<DbUser, DeriveError> {
    let settings = rules.of(claims.issuer_name()).ok_or(DeriveError::NoRule)?;
    let path = settings.claim_for(claims.user_claim());
    let claim = || printable(&path.join("."), MAX_SHOWN);
    let value = match claims.claim(path) {
        None => return Err(DeriveError::MissingClaim { claim: claim() }),
        Some(value) => {
            one_text(value, settings.list_of_one).ok_or_else(|| DeriveError::NotText { claim: claim() })?
        }
    };
    let shown = || printable(value, MAX_SHOWN);
    let name = match &settings.regex {
        None => value,
        Some(pattern) => {
            let captures = pattern
                .regex
                .captures(value)
                .ok_or_else(|| DeriveError::NoMatch { claim: claim(), value: shown() })?;
            let user = captures.get(pattern.group).map(|user| user.as_str()).unwrap_or_default();
            if user.is_empty() {
                return Err(DeriveError::EmptyCapture { claim: claim(), value: shown() });
            }
            user
        }
    };
    let name = if settings.lowercase { lower_case(name)? } else { name.to_owned() };
    let name = format!("{}{name}", settings.prefix);
    let user = DbUser::parse(&name)
        .map_err(|error| DeriveError::Name { name: printable(&name, MAX_SHOWN), error })?;
    if is_denied(&name, &settings.denied) {
        return Err(DeriveError::Denied { name: printable(&name, MAX_SHOWN) });
    }
    if let Some(prefix) = rules.foreign_prefix(settings, &name) {
        return Err(DeriveError::ForeignPrefix {
            name: printable(&name, MAX_SHOWN),
            prefix: prefix.to_owned(),
        });
    }
    Ok(user)
}

/// Checks the limit of the engine on user names, which differs from PostgreSQL's.
pub(super) fn check_engine(user: &DbUser, engine: DatabaseProtocol) -> Result<(), DeriveError> {
    let characters = user.as_str().chars().count();
    if engine == DatabaseProtocol::MySql && characters > MAX_MYSQL_USER {
        let (name, error) = (printable(user.as_str(), MAX_SHOWN), NameError::TooLongForMysql(characters));
        return Err(DeriveError::Name { name, error });
    }
    Ok(())
}

/// The string of a claim. With `list_of_one`, also the only string of a list.
pub(crate) fn one_text(value: &Value, list_of_one: bool) -> Option<&str> {
    match value {
        Value::Array(list) if list_of_one => match list.as_slice() {
            [one] => one.as_str(),
            _ => None,
        },
        other => other.as_str(),
    }
}

/// Lower-cases ASCII only. Unicode maps several letters to one (KELVIN SIGN to k) and one to several.
fn lower_case(name: &str) -> Result<String, DeriveError> {
    if name.is_ascii() {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(DeriveError::NotAscii { name: printable(name, MAX_SHOWN) })
    }
}

/// Compares ignoring ASCII case. A star at the end of a name in `more`, the configured list, matches any
/// suffix.
fn is_denied(name: &str, more: &[String]) -> bool {
    let name = name.to_ascii_lowercase();
    let configured = |denied: &String| {
        let denied = denied.to_ascii_lowercase();
        match denied.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == denied,
        }
    };
    name.starts_with(RESERVED_PREFIX)
        || ADMINISTRATORS.contains(&name.as_str())
        || more.iter().any(configured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j10_lower_casing_is_for_ascii() {
        assert_eq!(lower_case("ALICE@Example").unwrap(), "alice@example");
        for name in ["\u{212a}arl", "\u{130}bo", "stra\u{df}e", "\u{ff21}lice", "\u{3a3}\u{3c2}"] {
            assert!(matches!(lower_case(name), Err(DeriveError::NotAscii { .. })), "{name}");
        }
    }

    #[test]
    fn j12_administrators_are_denied_in_any_case() {
        let more = ["Master".to_owned(), "svc_*".to_owned()];
        for name in ADMINISTRATORS {
            assert!(is_denied(name, &[]) && is_denied(&name.to_ascii_uppercase(), &[]), "{name}");
        }
        for name in ["pg_read_all_data", "pg_", "PG_monitor"] {
            assert!(is_denied(name, &[]), "{name}");
        }
        assert!(is_denied("master", &more) && is_denied("SVC_1", &more));
    }

    #[test]
    fn j12_people_are_no_administrators() {
        let more = ["Master".to_owned(), "svc_*".to_owned()];
        for name in [
            "alice",
            "rdsouza",
            "rdsmith",
            "rds",
            "rds_jones",
            "rdsadmin2",
            "aurora",
            "aurora.smith",
            "aurora_b",
            "pgarcia",
            "pg",
            "admins",
            "administrator.jones",
            "roots",
            "postgres2",
            "master2",
            "svc",
        ] {
            assert!(!is_denied(name, &more), "{name}");
        }
    }
}
