//! `pgpassport psql`: psql with a fresh token.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::Args;

use super::client::ProfileArgs;
use super::exec::become_program;

/// Options of `pgpassport psql`.
#[derive(Clone, Debug, Args)]
pub struct PsqlArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// The database [default: the profile's first].
    #[arg(value_name = "DB")]
    database: Option<String>,
    /// Options of psql.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

impl PsqlArgs {
    /// Becomes psql.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        become_program(&self.profile, self.database.as_deref(), false, (OsStr::new("psql"), &self.args))
    }
}
