//! Authorities for the certificate of a database's server.

use std::fmt;
use std::path::PathBuf;

/// Authorities for the certificate of a database's server (`cluster.ca_file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustAnchors {
    /// The authorities of RDS that ship with the program.
    Rds,
    /// The authorities that this machine trusts.
    System,
    /// A PEM file.
    File(PathBuf),
}

impl fmt::Display for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rds => f.write_str("the authorities of RDS that ship with pgpassport"),
            Self::System => f.write_str("the system's authorities"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
