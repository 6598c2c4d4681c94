//! `pgpassport mysql`: the command-line client of MySQL or MariaDB with a fresh token.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::client::ProfileArgs;
use super::connection::MysqlProgram;
use super::exec::ProgramConnection;
use crate::config::DatabaseProtocol;

/// Clients, in the order in which they are looked for.
const PROGRAMS: [&str; 2] = ["mysql", "mariadb"];

/// Options of `pgpassport mysql`.
#[derive(Clone, Debug, Args)]
pub struct MysqlArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// The database [default: the profile's first].
    #[arg(value_name = "DB")]
    database: Option<String>,
    /// Options of mysql. No option file is read, unless the first one is --defaults-file=FILE or the like.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

impl MysqlArgs {
    /// Becomes the client.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let wanted = ProgramConnection {
            profile: &self.profile,
            database: self.database.as_deref(),
            interactive: false,
            protocol: Some(DatabaseProtocol::MySql),
        };
        wanted.become_program(|settings| {
            let (program, kind) = find()?;
            let mut client = Command::new(program);
            client.args(settings.mysql_arguments(kind, &self.args)?);
            Ok(client)
        })
    }
}

/// The first client in `PATH`, and whose it is: MariaDB's is often installed as `mysql`, too, and has other options.
fn find() -> anyhow::Result<(&'static str, MysqlProgram)> {
    for program in PROGRAMS {
        let asked = Command::new(program)
            .args(["--no-defaults", "--version"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        match asked {
            Ok(answer) if answer.status.success() => return Ok((program, kind(&answer.stdout))),
            Ok(answer) => anyhow::bail!("{program} --version fails: {}", answer.status),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => anyhow::bail!("{program} cannot be run: {error}"),
        }
    }
    anyhow::bail!("neither mysql nor mariadb is installed, or they are not in PATH")
}

/// Kind of the client that has printed this version.
fn kind(version: &[u8]) -> MysqlProgram {
    let mariadb = version.windows(7).any(|word| word.eq_ignore_ascii_case(b"mariadb"));
    if mariadb { MysqlProgram::MariaDb } else { MysqlProgram::MySql }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_their_version() {
        for (version, expected) in [
            ("mysql  Ver 9.7.4 for Linux on x86_64 (Debian)", MysqlProgram::MySql),
            (
                "mysql  Ver 15.1 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)",
                MysqlProgram::MariaDb,
            ),
            ("mariadb from 11.8.3-MariaDB, client 15.2", MysqlProgram::MariaDb),
        ] {
            assert_eq!(kind(version.as_bytes()), expected, "{version}");
        }
    }
}
