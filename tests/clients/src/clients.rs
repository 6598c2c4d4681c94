//! The clients and how their programs are started: changes when a client joins.

use std::path::Path;

use crate::protocol::MatrixProtocol;
use crate::world::MatrixWorld;

/// A row of the table.
pub(crate) struct ClientProgram {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// The command; `{programs}`, `{tools}` and `{target}` stand for folders.
    command: &'static [&'static str],
}

const PYTHON: &str = "{tools}/clients/venv/bin/python";
const NODE_PATH: &str = "NODE_PATH={tools}/clients/node/node_modules";

impl MatrixProtocol {
    /// The clients in the order of the table.
    pub(crate) fn clients(self) -> &'static [ClientProgram] {
        match self {
            Self::Postgresql => POSTGRESQL,
            Self::Mysql => MYSQL,
        }
    }
}

const POSTGRESQL: &[ClientProgram] = &[
    ClientProgram { name: "psql", command: &[PYTHON, "{programs}/psql.py", "psql"] },
    ClientProgram { name: "psql 18", command: &[PYTHON, "{programs}/psql.py", "{tools}/libpq18/bin/psql"] },
    ClientProgram { name: "pgbench", command: &[PYTHON, "{programs}/pgbench.py"] },
    ClientProgram { name: "pg_dump, pg_restore", command: &[PYTHON, "{programs}/pg_dump.py"] },
    ClientProgram { name: "psycopg 3", command: &[PYTHON, "{programs}/psycopg3.py"] },
    ClientProgram { name: "psycopg2", command: &[PYTHON, "{programs}/psycopg_2.py"] },
    ClientProgram { name: "asyncpg", command: &[PYTHON, "{programs}/asyncpg_.py"] },
    ClientProgram { name: "pg8000", command: &[PYTHON, "{programs}/pg8000_.py"] },
    ClientProgram { name: "node pg", command: &["env", NODE_PATH, "node", "{programs}/node/pg.js"] },
    ClientProgram {
        name: "node postgres",
        command: &["env", NODE_PATH, "node", "{programs}/node/postgres.js"],
    },
    ClientProgram {
        name: "pgjdbc (Debian 12)",
        command: &["java", "-cp", "/usr/share/java/postgresql.jar", "{programs}/Pgjdbc.java"],
    },
    ClientProgram {
        name: "pgjdbc (Debian 13)",
        command: &[
            "java",
            "-cp",
            "{tools}/clients/trixie/usr/share/java/postgresql.jar",
            "{programs}/Pgjdbc.java",
        ],
    },
    ClientProgram { name: "psqlODBC", command: &[PYTHON, "{programs}/odbc.py"] },
    ClientProgram { name: "tokio-postgres", command: &["{target}/tokio-postgres-client"] },
    ClientProgram { name: "sqlx", command: &["{target}/sqlx-client"] },
    ClientProgram { name: "pgx", command: &["{tools}/clients/pgx"] },
    ClientProgram { name: "PHP", command: &["php", "{programs}/php.php"] },
    ClientProgram { name: "DBD::Pg", command: &["perl", "{programs}/dbd_pg.pl"] },
];

const MYSQL: &[ClientProgram] = &[
    ClientProgram { name: "mysql", command: &[PYTHON, "{programs}/mysql_cli.py", "{tools}/mysql/bin/mysql"] },
    ClientProgram { name: "mariadb", command: &[PYTHON, "{programs}/mysql_cli.py", "mariadb"] },
    ClientProgram {
        name: "mariadb (Debian 13)",
        command: &[PYTHON, "{programs}/mysql_cli.py", "{tools}/clients/trixie/bin/mariadb"],
    },
    ClientProgram { name: "PyMySQL", command: &[PYTHON, "{programs}/mysql_pymysql.py"] },
    ClientProgram { name: "mysql-connector-python", command: &[PYTHON, "{programs}/mysql_connector.py"] },
    ClientProgram { name: "mysqlclient", command: &["/usr/bin/python3", "{programs}/mysql_mysqlclient.py"] },
    ClientProgram { name: "aiomysql", command: &[PYTHON, "{programs}/mysql_aio.py", "aiomysql"] },
    ClientProgram { name: "asyncmy", command: &[PYTHON, "{programs}/mysql_aio.py", "asyncmy"] },
    ClientProgram { name: "node mysql2", command: &["env", NODE_PATH, "node", "{programs}/node/mysql2.js"] },
    ClientProgram {
        name: "node mariadb",
        command: &["env", NODE_PATH, "node", "{programs}/node/mariadb.js"],
    },
    ClientProgram {
        name: "MariaDB Connector/J (Debian 12)",
        command: &[
            "java",
            "-cp",
            "/usr/share/java/mariadb-java-client.jar",
            "{programs}/MariaDbConnector.java",
        ],
    },
    ClientProgram {
        name: "MariaDB Connector/J (testing)",
        command: &[
            "java",
            // Without a logging library it logs to the standard output.
            "-Dmariadb.logging.disable=true",
            "-cp",
            "{tools}/clients/testing/usr/share/java/mariadb-java-client.jar",
            "{programs}/MariaDbConnector.java",
        ],
    },
    ClientProgram { name: "sqlx", command: &["{target}/sqlx-mysql-client"] },
    ClientProgram { name: "mysql_async", command: &["{target}/mysql-async-client"] },
    ClientProgram { name: "go-sql-driver", command: &["{tools}/clients/go-mysql"] },
    ClientProgram {
        name: "PHP mysqli",
        command: &["php", "-d", "mysqli.allow_local_infile=On", "{programs}/mysql.php"],
    },
    ClientProgram { name: "DBD::MariaDB", command: &["perl", "{programs}/dbd_mysql.pl", "MariaDB"] },
    ClientProgram { name: "DBD::mysql", command: &["perl", "{programs}/dbd_mysql.pl", "mysql"] },
];

impl ClientProgram {
    /// True if its name begins with one of these words, or if there are none.
    pub(crate) fn is_among(&self, words: &[String]) -> bool {
        words.is_empty() || words.iter().any(|word| self.name.starts_with(word.as_str()))
    }

    /// True if its program is installed: `scripts/need-mysql` succeeds without MySQL.
    pub(crate) fn at_hand(&self, tools: &Path) -> bool {
        self.name != "mysql" || tools.join("mysql/bin/mysql").exists()
    }

    /// Its name as a folder's.
    pub(crate) fn folder(&self) -> String {
        self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }

    /// The command's words.
    pub(crate) fn words(&self, world: &MatrixWorld) -> Vec<String> {
        let fill = |word: &&str| {
            word.replace("{target}", &world.target().display().to_string())
                .replace("{programs}", &world.programs.display().to_string())
                .replace("{tools}", &world.tools.display().to_string())
        };
        self.command.iter().map(fill).collect()
    }
}
