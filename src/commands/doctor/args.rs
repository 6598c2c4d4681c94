//! Command line of `pgpassport doctor`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{
    DoctorReport, DoctorRequest, Finding, OutputStyle, TokenInput, TokenSource, examine, json, text,
};
use crate::clock::Clock;
use crate::commands::check::is_open_to_others;
use crate::config::Config;
use crate::secret::Jwt;

/// Largest token file: four times the length that STS accepts, so that the length is checked as for a client.
const MAX_FILE_BYTES: usize = 80_000;

const NO_TOKEN: &str = "No token was given, so the token, the STS call and the login were not tested. --token-file FILE tests them.";

/// Arguments of `pgpassport doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// A file with a real token (JWT); "-" reads standard input. Without it, only the steps that need no token are tested.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Cluster to log in to; required with a token if there are several.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Database to log in to [default: the cluster's first; without one "postgres", and none for MySQL].
    #[arg(long, value_name = "NAME", requires = "token_file")]
    database: Option<String>,
    /// Print one JSON object for each step.
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Runs the checks and prints the findings. Returns true if all passed.
    pub fn run(self, config: Config) -> anyhow::Result<bool> {
        let read = |path: &Path| read_token(path).with_context(|| format!("--token-file {}", path.display()));
        let token = self.token_file.as_deref().map(read).transpose()?;
        let is_preflight = token.is_none();
        let (cluster, database) = (self.cluster, self.database);
        let question = DoctorRequest { token, cluster, database, ..DoctorRequest::preflight() };
        let mut out = io::stdout();
        let no_color = std::env::var("NO_COLOR").ok();
        let look = OutputStyle::of(out.is_terminal(), no_color.as_deref());
        let in_json = self.json;
        let mut tell = move |finding: &Finding| {
            let line = if in_json { json(finding) } else { text(finding, look) };
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush()); // a closed pipe is no reason to stop
        };
        let mut report = DoctorReport::new(&mut tell);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        runtime.block_on(examine(config, question, &Clock::system(), &mut report));
        let all_well = report.all_well();
        drop(report);
        if is_preflight && !in_json {
            let _ = writeln!(io::stderr(), "{NO_TOKEN}"); // a closed pipe is no reason to fail
        }
        Ok(all_well)
    }
}

/// Reads a token into one allocation, so that no reader in between keeps a copy.
fn read_token(path: &Path) -> io::Result<TokenInput> {
    let (file, source) = if path == Path::new("-") {
        (File::from(io::stdin().as_fd().try_clone_to_owned()?), TokenSource::StandardInput)
    } else {
        let file = File::open(path)?;
        let mode = file.metadata()?;
        let open = mode.is_file() && is_open_to_others(&mode);
        let source = if open { TokenSource::OpenFile } else { TokenSource::PrivateFile };
        (file, source(path.to_owned()))
    };
    let mut bytes = Vec::with_capacity(MAX_FILE_BYTES);
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let read = file.take(limit).read_to_end(&mut bytes);
    // Editors and echo end files with a newline; a token contains no white space.
    let end = bytes.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    bytes.truncate(end);
    let jwt = Jwt::new(bytes);
    read.map(|_| TokenInput { jwt, source })
}
