//! `pgpassport psql` and `pgpassport exec`: a program with the token in its environment.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::client::{self, ProfileArgs};
use super::connection::{CLEARED, ConnectionSettings};

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
        become_program(&self.profile, self.database.as_deref(), self.interactive, (program, args))
    }
}

/// Becomes `program`, whose environment leads it to the proxy with a fresh token.
pub(super) fn become_program(
    profile: &ProfileArgs,
    database: Option<&str>,
    interactive: bool,
    (program, args): (&OsStr, &[OsString]),
) -> anyhow::Result<ExitCode> {
    let source = profile.open().map_err(client::told)?;
    let token = client::run(client::token(&source, Duration::ZERO, interactive || client::has_terminal()))?;
    let settings = ConnectionSettings::new(&source, database, token).map_err(client::told)?;
    let mut command = Command::new(program);
    command.args(args);
    for name in CLEARED {
        command.env_remove(name);
    }
    for (name, value) in settings.variables() {
        command.env(name, value.as_str());
    }
    let ended = replace_process(command);
    ended.map_err(|error| {
        let program = program.to_string_lossy();
        if error.kind() == ErrorKind::NotFound {
            anyhow::anyhow!("{program} is not installed, or not in PATH")
        } else {
            anyhow::anyhow!("{program} cannot be run: {error}")
        }
    })
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
