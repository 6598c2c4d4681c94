//! `pgpassport psql`, `mysql`, and `exec`: a program with the token in its environment.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::client::{self, ProfileArgs};
use super::connection::ConnectionSettings;
use crate::config::DatabaseProtocol;

/// Options of `pgpassport exec`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// Database of the connection [default: the profile's first].
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Open a browser to sign in if need be, although there is no terminal.
    #[arg(long)]
    interactive: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl ExecArgs {
    /// Becomes the program. Comes back only with an error, or where the system cannot replace a process.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let (program, args) = self.command.split_first().context("no program is named")?;
        let wanted = ProgramConnection {
            profile: &self.profile,
            database: self.database.as_deref(),
            interactive: self.interactive,
            protocol: None,
        };
        wanted.become_program(|_| {
            let mut command = Command::new(program);
            command.args(args);
            Ok(command)
        })
    }
}

/// The connection for a program that takes the place of this process.
pub(super) struct ProgramConnection<'a> {
    pub(super) profile: &'a ProfileArgs,
    pub(super) database: Option<&'a str>,
    /// True if a browser may be opened without a terminal.
    pub(super) interactive: bool,
    /// The protocol that the program speaks; `None` for a program of any.
    pub(super) protocol: Option<DatabaseProtocol>,
}

impl ProgramConnection<'_> {
    /// Becomes the program of `build`, whose environment leads it to the proxy with a fresh token.
    pub(super) fn become_program(
        &self,
        build: impl FnOnce(&ConnectionSettings<'_>) -> anyhow::Result<Command>,
    ) -> anyhow::Result<ExitCode> {
        let source = self.profile.open().map_err(client::told)?;
        let profile = source.profile();
        if self.protocol.is_some_and(|protocol| protocol != profile.protocol) {
            let command = client::program(profile.protocol);
            let (name, word) = (&profile.name, profile.protocol.word());
            anyhow::bail!(
                "profile {name} has protocol = \"{word}\": use `pgpassport {command}`, or another --profile"
            );
        }
        let interactive = self.interactive || client::has_terminal();
        let token = client::run(client::token(&source, Duration::ZERO, interactive))?;
        let settings = ConnectionSettings::new(&source, self.database, token).map_err(client::told)?;
        let mut command = build(&settings)?;
        for name in settings.cleared() {
            command.env_remove(name);
        }
        for (name, value) in settings.variables() {
            command.env(name, value.as_str());
        }
        let program = command.get_program().to_string_lossy().into_owned();
        replace_process(command).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                anyhow::anyhow!("{program} is not installed, or not in PATH")
            } else {
                anyhow::anyhow!("{program} cannot be run: {error}")
            }
        })
    }
}

/// The program takes the place of this process, so that signals, the terminal and the exit code are its own.
#[cfg(unix)]
fn replace_process(mut command: Command) -> std::io::Result<ExitCode> {
    Err(std::os::unix::process::CommandExt::exec(&mut command))
}

/// Runs the program and gives its exit code.
#[cfg(not(unix))]
fn replace_process(mut command: Command) -> std::io::Result<ExitCode> {
    let code = command.status()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
