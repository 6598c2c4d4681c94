//! The pgpassport binary: parses the command line, runs the command, returns the exit code.

use std::process::ExitCode;

use clap::Parser;
use pgpassport::cli::Cli;
use pgpassport::core_dumps;

fn main() -> ExitCode {
    let core_dumps = core_dumps::disable();
    Cli::parse().run(core_dumps)
}
