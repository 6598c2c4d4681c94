//! `pgpassport psql`: psql with a fresh token.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use clap::Args;

use super::client::ProfileArgs;
use super::exec::ProgramConnection;
use crate::config::DatabaseProtocol;

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
        let wanted = ProgramConnection {
            profile: &self.profile,
            database: self.database.as_deref(),
            interactive: false,
            protocol: Some(DatabaseProtocol::PostgreSql),
        };
        wanted.become_program(|_| {
            let mut psql = Command::new("psql");
            psql.args(&self.args);
            Ok(psql)
        })
    }
}
