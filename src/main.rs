//! The pgpassport binary: reads the command line, runs the command, gives the exit code.

use std::process::ExitCode;

use clap::Parser;
use pgpassport::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
