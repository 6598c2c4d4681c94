//! Installations of MySQL and MariaDB, and the options of their servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{EmulatorError, programs};

/// The servers that speak MySQL's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MysqlEngine {
    /// Oracle's, from `.tools/mysql`, where `scripts/need-mysql` puts it.
    Mysql,
    /// The distribution's MariaDB.
    MariaDb,
}

impl MysqlEngine {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mysql, Self::MariaDb];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mysql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }

    /// True if its programs are on this machine. A test that needs them passes without them and says so.
    pub fn at_hand(self) -> bool {
        let found = MysqlInstall::find(self);
        if let Err(problem) = &found {
            eprintln!("skipped, not at hand: {problem}");
        }
        found.is_ok()
    }

    /// True if its programs are on this machine; prints nothing.
    pub fn is_installed(self) -> bool {
        MysqlInstall::find(self).is_ok()
    }

    pub(super) fn problem(self, problem: impl Into<String>) -> EmulatorError {
        EmulatorError::Mysql { engine: self.name(), problem: problem.into() }
    }
}

/// An installation.
#[derive(Clone, Debug)]
pub(super) struct MysqlInstall {
    engine: MysqlEngine,
    server: PathBuf,
    client: PathBuf,
    /// The script that makes MariaDB's system tables; `mysqld` makes its own.
    tables: Option<PathBuf>,
    /// Options that the server needs to find its own files.
    places: Vec<String>,
}

impl MysqlInstall {
    pub(super) fn find(engine: MysqlEngine) -> Result<Self, EmulatorError> {
        let missing = || engine.problem("not found; scripts/need-mysql installs it");
        match engine {
            MysqlEngine::Mysql => {
                let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/mysql");
                let tools = tools.canonicalize().map_err(|_| missing())?;
                let program = |name| Some(tools.join("bin").join(name)).filter(|path| path.is_file());
                let share = tools.join("root/usr/share/mysql");
                Ok(Self {
                    engine,
                    server: program("mysqld").ok_or_else(missing)?,
                    client: program("mysql").ok_or_else(missing)?,
                    tables: None,
                    places: vec![
                        format!("--basedir={}", tools.join("root/usr").display()),
                        format!("--lc-messages-dir={}", share.display()),
                        format!("--character-sets-dir={}", share.join("charsets").display()),
                        "--secure-file-priv=NULL".to_owned(),
                    ],
                })
            }
            MysqlEngine::MariaDb => Ok(Self {
                engine,
                server: program("mariadbd").ok_or_else(missing)?,
                client: program("mariadb").ok_or_else(missing)?,
                tables: Some(program("mariadb-install-db").ok_or_else(missing)?),
                places: Vec::new(),
            }),
        }
    }

    /// Makes the system tables in `data`, with a superuser `root` that has no password.
    pub(super) fn make_tables(&self, data: &Path) -> Result<(), EmulatorError> {
        let mut command = Command::new(self.tables.as_ref().unwrap_or(&self.server));
        command.args(self.arguments(data)?);
        programs::run(match self.engine {
            MysqlEngine::Mysql => command.arg("--initialize-insecure"),
            MysqlEngine::MariaDb => {
                command.args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            }
        })?;
        Ok(())
    }

    /// The words of the server's command.
    pub(super) fn server(&self, data: &Path) -> Result<Vec<String>, EmulatorError> {
        let mut words = vec![self.server.display().to_string()];
        words.extend(self.arguments(data)?);
        if self.engine == MysqlEngine::Mysql {
            words.push("--mysqlx=OFF".to_owned());
        }
        Ok(words)
    }

    /// Options of the server and of the program that makes its tables: data need not outlive the machine, and memory is short.
    fn arguments(&self, data: &Path) -> Result<Vec<String>, EmulatorError> {
        // The first option must be the first.
        let mut words = vec!["--no-defaults".to_owned(), format!("--datadir={}", data.display())];
        // A MariaDB that starts deletes the temporary tables of others in a folder that they share.
        let temporary = data.with_file_name("tmp");
        std::fs::create_dir_all(&temporary)
            .map_err(EmulatorError::io(format!("making {}", temporary.display())))?;
        words.push(format!("--tmpdir={}", temporary.display()));
        words.extend(self.places.iter().cloned());
        let common = ["--innodb-flush-method=nosync", "--innodb-buffer-pool-size=16M", "--skip-log-bin"];
        words.extend(common.map(str::to_owned));
        if self.engine == MysqlEngine::Mysql {
            // `loose`: releases to come may drop them.
            let fewer = [
                "auto-generate-certs=OFF",
                "caching-sha2-password-auto-generate-rsa-keys=OFF",
                "innodb-doublewrite=OFF",
            ];
            words.extend(fewer.map(|option| format!("--loose-{option}")));
            words.push("--performance-schema=OFF".to_owned());
        } else {
            words.push("--innodb-log-file-size=8M".to_owned());
        }
        if programs::run_as_root()? {
            words.push("--user=root".to_owned());
        }
        Ok(words)
    }

    /// The engine's command-line client, without the caller's environment and option files.
    pub(super) fn client(&self) -> Command {
        let mut client = Command::new(&self.client);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["MYSQL_", "MARIADB_", "LIBMYSQL_"].iter().any(|prefix| name.starts_with(prefix)) {
                client.env_remove(name.as_ref());
            }
        }
        client.env("HOME", "/nonexistent").arg("--no-defaults").stdin(std::process::Stdio::null());
        client
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
