//! Wire protocols that listeners and clusters can have.

use crate::words::word_enum;

word_enum! {
    /// Wire protocol of a listener, and of the servers of a cluster. The words are the values in the configuration.
    #[derive(PartialOrd, Ord)]
    pub enum DatabaseProtocol {
        /// PostgreSQL's.
        PostgreSql = "postgresql",
        /// MySQL's, which MariaDB speaks, too.
        MySql = "mysql",
    }
}

impl DatabaseProtocol {
    /// Values of `listen.protocol` and `cluster.engine`.
    pub(super) fn words() -> [(&'static str, Self); Self::ALL.len()] {
        Self::ALL.map(|protocol| (protocol.word(), protocol))
    }

    /// The port of a server that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::PostgreSql => 5432,
            Self::MySql => 3306,
        }
    }
}
