//! The command line of `pgpassport doctor`.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Finding, Look, Question, Report, examine, json, text};
use crate::clock::Clock;
use crate::config::Config;
use crate::secret::Jwt;

/// Largest file that is read as a token: four times what STS takes, so that the length is judged like a client's.
const MAX_FILE_BYTES: u64 = 80_000;

/// What `pgpassport doctor` can be told.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// A file with a real token (JWT); "-" reads standard input.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Log in to this cluster, where there are several.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Log in to this database [default: the cluster's first, or postgres].
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Print one JSON object a link.
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Examines and prints. Whether all is well.
    pub fn run(self, config: Config) -> anyhow::Result<bool> {
        let jwt = read_token(&self.token_file)
            .with_context(|| format!("--token-file {}", self.token_file.display()))?;
        let question = Question { cluster: self.cluster, database: self.database, ..Question::new(jwt) };
        let mut out = io::stdout();
        let no_color = std::env::var("NO_COLOR").ok();
        let look = Look::of(out.is_terminal(), no_color.as_deref());
        let in_json = self.json;
        let mut tell = move |finding: &Finding| {
            let line = if in_json { json(finding) } else { text(finding, look) };
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush()); // a closed pipe is no reason to stop
        };
        let mut report = Report::new(&mut tell);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        runtime.block_on(examine(config, question, &Clock::system(), &mut report));
        Ok(report.all_well())
    }
}

fn read_token(path: &Path) -> io::Result<Jwt> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MAX_FILE_BYTES).read_to_end(&mut bytes)
    } else {
        fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)
    };
    read?;
    // Editors and echo end files with a line end; a token holds no spaces.
    let end = bytes.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    bytes.truncate(end);
    Ok(Jwt::new(bytes))
}
