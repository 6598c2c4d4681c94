//! Installation of `PostgreSQL`, and the user of its programs.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{EmulatorError, programs};

/// An installation and the user for its server.
#[derive(Clone, Debug)]
pub(super) struct PostgresInstall {
    bin: PathBuf,
    /// Set when this process is root, which `PostgreSQL` refuses to run as.
    other_user: Option<(u32, u32)>,
}

impl PostgresInstall {
    /// Finds `initdb` in `PATH`, then in Debian's folders with the newest first, then where `pg_config` says.
    pub(super) fn find() -> Result<Self, EmulatorError> {
        let bin = in_path().or_else(newest_of_debian).or_else(from_pg_config).ok_or_else(|| {
            EmulatorError::Postgres(
                "initdb and postgres were not found; install the package postgresql (Debian, Ubuntu: \
                 apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql)"
                    .to_owned(),
            )
        })?;
        let other_user = if programs::run_as_root()? { Some(postgres_user()?) } else { None };
        Ok(Self { bin, other_user })
    }

    /// A program, run as the present user.
    pub(super) fn program(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }

    /// A program, run as the server's user.
    pub(super) fn as_server_user(&self, name: &str) -> Command {
        let words = self.server_arguments(name);
        let (program, arguments) = words.split_first().expect("a command has a program");
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }

    /// The words of a command that runs a program as the server's user.
    pub(super) fn server_arguments(&self, name: &str) -> Vec<String> {
        let program = self.bin.join(name).display().to_string();
        match self.other_user {
            None => vec![program],
            Some((uid, gid)) => vec![
                "setpriv".to_owned(),
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".to_owned(),
                program,
            ],
        }
    }

    /// Gives a file or folder to the server's user.
    pub(super) fn give(&self, path: &Path) -> Result<(), EmulatorError> {
        self.other_user.map_or(Ok(()), |(uid, gid)| {
            chown(path, Some(uid), Some(gid))
                .map_err(EmulatorError::io(format!("giving away {}", path.display())))
        })
    }
}

/// Debian puts only a link to `initdb` into `PATH`, if anything, so the link's target counts.
fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter_map(|dir| dir.join("initdb").canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_path_buf))
        .find(|dir| complete(dir))
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |dir: &Path| dir.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut found: Vec<_> = versions.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort_by_key(|dir| std::cmp::Reverse(number(dir)));
    found.into_iter().map(|dir| dir.join("bin")).find(|dir| complete(dir))
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let dir = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    complete(&dir).then_some(dir)
}

fn complete(dir: &Path) -> bool {
    ["initdb", "postgres", "psql"].iter().all(|program| dir.join(program).is_file())
}

/// The user that the package made.
fn postgres_user() -> Result<(u32, u32), EmulatorError> {
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(EmulatorError::io("reading /etc/passwd"))?;
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find_map(|fields| match fields.as_slice() {
            ["postgres", _, uid, gid, ..] => Some((uid.parse().ok()?, gid.parse().ok()?)),
            _ => None,
        })
        .ok_or_else(|| {
            EmulatorError::Postgres("running as root, and there is no user postgres to run it as".to_owned())
        })
}
