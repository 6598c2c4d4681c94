//! The protocols and what their clients are asked to do: changes when a check joins.

use clap::ValueEnum;

/// A check: its name in the contract with the programs, and its column's heading.
pub(crate) type Check = (&'static str, &'static str);

/// The protocol that the clients speak. Each has a matrix of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixProtocol {
    /// PostgreSQL's.
    Postgresql,
    /// MySQL's, which MariaDB speaks, too.
    Mysql,
}

const POSTGRESQL: &[Check] = &[
    ("login-800", "800"),
    ("login-3000", "3,000"),
    ("login-16000", "16,000"),
    ("verify", "verify-full"),
    ("refused", "refusal"),
    ("prepared", "prepared"),
    ("error", "error"),
    ("copy", "COPY"),
    ("cancel", "cancel"),
    ("big", "50 MB"),
    ("notify", "NOTIFY"),
    ("drain", "drain"),
];

const MYSQL: &[Check] = &[
    ("login-800", "800"),
    ("login-3000", "3,000"),
    ("login-16000", "16,000"),
    ("login-20000", "20,000"),
    ("verify", "verify"),
    ("refused", "refusal"),
    ("prepared", "prepared"),
    ("error", "error"),
    ("multi", "multi"),
    ("infile", "INFILE"),
    ("cancel", "cancel"),
    ("big", "50 MB"),
    ("row", "17 MiB"),
    ("reset", "reset"),
    ("drain", "drain"),
];

impl MatrixProtocol {
    /// `only`, or all.
    pub(crate) fn all(only: Option<Self>) -> Vec<Self> {
        only.map_or_else(|| vec![Self::Postgresql, Self::Mysql], |protocol| vec![protocol])
    }

    /// Its name for people.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Postgresql => "PostgreSQL",
            Self::Mysql => "MySQL",
        }
    }

    /// File name of its page.
    pub(crate) fn page(self) -> &'static str {
        match self {
            Self::Postgresql => "clients.md",
            Self::Mysql => "clients-mysql.md",
        }
    }

    /// The checks in the order of the table.
    pub(crate) fn checks(self) -> &'static [Check] {
        match self {
            Self::Postgresql => POSTGRESQL,
            Self::Mysql => MYSQL,
        }
    }

    /// The names in the certificate that clients see.
    pub(crate) fn listener_names(self) -> &'static [&'static str] {
        match self {
            Self::Postgresql => &["localhost"],
            Self::Mysql => &["localhost", "127.0.0.1"],
        }
    }
}
