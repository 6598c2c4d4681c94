//! Wire protocols that listeners and clusters can have.

/// Wire protocol of a listener, and of the servers of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseProtocol {
    /// PostgreSQL's.
    PostgreSql,
    /// MySQL's, which MariaDB speaks, too.
    MySql,
}

impl DatabaseProtocol {
    /// Values of `listen.protocol` and `cluster.engine`.
    pub(super) const WORDS: [(&str, Self); 2] = [("postgresql", Self::PostgreSql), ("mysql", Self::MySql)];

    /// The port of a server that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::PostgreSql => 5432,
            Self::MySql => 3306,
        }
    }

    /// The value in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MySql => "mysql",
        }
    }
}
