//! The command line of the emulator: changes when it gets another command or option.

mod demo;
mod mysql;
mod next_steps;
mod screen;
mod serve;
mod sign_in;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Stand-ins for an OIDC issuer, AWS STS and the RDS login check, for pgpassport's demo and tests.
#[derive(Parser)]
#[command(name = "aws-emulator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show pgpassport at work on this machine: everything on loopback ports, nothing to set up.
    Demo(demo::DemoOptions),
    /// Serve issuer, STS and login gate on given addresses, with a PostgreSQL that runs elsewhere.
    Serve(Box<serve::ServeOptions>),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Serve(options) => serve::run(*options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            screen::complain(&problem);
            ExitCode::FAILURE
        }
    }
}
