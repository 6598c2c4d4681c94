//! The command line.

mod client_command;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::client_command::ClientCommand;
use crate::accept::fd_limit::TooFewDescriptors;
use crate::commands::connect::ConnectArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::health::{HealthArgs, HealthError};
use crate::commands::policy::PolicyArgs;
use crate::commands::reload::Load;
use crate::commands::top::TopArgs;
use crate::commands::{check, manual, serve};
use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::telemetry::logging;

/// `EX_CONFIG` of sysexits.h: a retry with the same file would fail in the same way.
const EX_CONFIG: u8 = 78;

/// PostgreSQL proxy that turns an OIDC token into an AWS IAM database login.
///
/// Clients send their JWT as the password over TLS. The proxy verifies it, derives the database user, assumes
/// the role in AWS with this token, and logs in to Aurora PostgreSQL as that user.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM or SIGINT.
    ///
    /// The first signal starts a drain: clients are served for the configured shutdown delay, then sessions have the
    /// configured shutdown timeout to end. A second signal, or SIGQUIT, ends all sessions at once. SIGHUP reloads the
    /// configuration. Logs go to standard error.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Lowest level of log lines; overrides log.level.
        #[arg(long, env = "PGPASSPORT_LOG_LEVEL")]
        log_level: Option<LevelArg>,
        /// Format of log lines; overrides log.format.
        #[arg(long, env = "PGPASSPORT_LOG_FORMAT")]
        log_format: Option<FormatArg>,
    },
    /// Check the configuration and the files that it names.
    ///
    /// Prints all problems with line, key, and remedy, including those of the files. The exit code is 0 if there are none,
    /// else 78.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// The configuration file, instead of --config.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Print one JSON object: ok, file, problems (line, column, key, text) and warnings.
        #[arg(long)]
        json: bool,
        /// Print the JSON Schema of the configuration instead, for editors; no file is read.
        #[arg(long)]
        schema: bool,
    },
    /// Test each step of a login and name the step that fails.
    ///
    /// Checks in the order of a login: configuration, certificates, issuer and keys, each claim of the token, the values
    /// that STS compares, the database user, the STS call, the IAM token, DNS, TCP, and TLS of the database, the login,
    /// and the session. Without --token-file it tests the steps that need no token: the preflight of a new machine. Prints
    /// cause and remedy of each fault, and never the token. The exit code is 0 if all steps succeed, 1 if one fails, and 78
    /// if the configuration cannot be read.
    Doctor {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        question: DoctorArgs,
    },
    /// Run the local agent: tools on this machine connect to it, and it logs them in with a fresh token.
    ///
    /// Save the connection in a tool once. Only this user can open the Unix socket, which is for psql and libpq. The
    /// loopback port asks for a local password, which is random and stays the same. The agent serves the person who is
    /// signed in to the profile (`pgpassport login`) and always verifies the proxy. It runs until SIGTERM or SIGINT.
    Connect(ConnectArgs),
    /// Query liveness or readiness of the running proxy.
    ///
    /// Reads /livez, or /readyz with --ready, at admin.addr of the configuration or at --addr, and prints the answer. For
    /// health checks of containers without a shell. The exit code is 0 for yes, 1 for no or no answer within
    /// --timeout, and 78 if no admin address is configured.
    Health {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        question: HealthArgs,
    },
    /// Show sessions and logins of the running proxy, live in the terminal.
    ///
    /// Reads the metrics at admin.addr of the configuration or at --addr: sessions, logins, rejected and failed logins as
    /// curves, the duration of each login step, clusters, issuers, STS, and refusals. Colors are off with `NO_COLOR`. If the
    /// output is no terminal, prints one screen as with --once. Ctrl-C ends it.
    Top {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        view: TopArgs,
    },
    /// Print the setup for AWS, the database, and the identity provider.
    ///
    /// Prints for this configuration, ready to paste: the IAM identity provider, the role's trust and permission
    /// policies, the SQL for database users, and the claim settings of the identity provider. Without --source-ip,
    /// --source-vpce, and --session-tag the policies are permissive. Makes no network calls.
    Policy {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        wishes: Box<PolicyArgs>,
    },
    #[command(flatten)]
    Client(ClientCommand),
    /// Print completions for a shell.
    ///
    /// For example: pgpassport completions bash > /usr/share/bash-completion/completions/pgpassport
    Completions {
        /// The shell that reads them.
        shell: Shell,
    },
    /// Write the manual pages, one for each command, into a folder.
    Man {
        /// The folder, for example man1.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        short = 'c',
        long = "config",
        env = "PGPASSPORT_CONFIG",
        default_value = "proxy.toml",
        value_name = "FILE"
    )]
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelArg {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Text,
    Json,
}

impl Cli {
    /// Runs the command; the exit code is 0, 78 for a configuration that cannot work, or 1. Says what has come of
    /// switching core dumps off, where that failed.
    pub fn run(self, core_dumps: io::Result<()>) -> ExitCode {
        let warning =
            core_dumps.err().map(|error| format!("pgpassport: core dumps cannot be switched off: {error}"));
        if let Some(warning) = &warning
            && !matches!(self.command, Command::Serve { .. })
        {
            say(&mut io::stderr(), warning);
        }
        match self.command {
            Command::Check { schema: true, .. } => {
                let _ = write!(io::stdout(), "{}", check::schema()); // nobody may read it any more
                ExitCode::SUCCESS
            }
            Command::Check { config, file, json, schema: false } => {
                check_file(&file.unwrap_or(config.path), json)
            }
            Command::Serve { config, log_level, log_format } => {
                let load = move || {
                    let mut config = check::load(&config.path)?;
                    if let Some(format) = override_log(&mut config.log, log_level, log_format) {
                        config.show_value("log.format", format);
                    }
                    Ok(config)
                };
                serve(Arc::new(load), warning.as_deref())
            }
            Command::Doctor { config, question } => match check::read(&config.path) {
                Ok(config) => match question.run(config) {
                    Ok(true) => ExitCode::SUCCESS,
                    Ok(false) => ExitCode::FAILURE,
                    Err(error) => finish(Err(error)),
                },
                Err(problems) => refuse(&problems),
            },
            Command::Connect(connect) => finish(connect.run()),
            Command::Health { config, question } => finish(
                question.ask(&config.path).map(|answer| say(&mut io::stdout(), &answer)).map_err(Into::into),
            ),
            Command::Top { config, view } => finish(view.run(&config.path).map_err(Into::into)),
            Command::Policy { config: ConfigFile { path }, wishes } => match check::read(&path) {
                Ok(config) => finish(
                    wishes
                        .print(&path, &config)
                        .map(|text| say(&mut io::stdout(), &text))
                        .map_err(Into::into),
                ),
                Err(problems) => refuse(&problems),
            },
            Command::Client(command) => command.run().unwrap_or_else(|error| finish(Err(error))),
            Command::Completions { shell } => {
                let script = manual::completions(Self::command(), shell);
                finish(io::stdout().write_all(&script).map_err(Into::into))
            }
            Command::Man { folder } => {
                finish(manual::write_pages(Self::command(), &folder).map_err(Into::into))
            }
        }
    }
}

fn check_file(path: &Path, json: bool) -> ExitCode {
    let result = check::examine(path);
    if json {
        say(&mut io::stdout(), &check::json(path, &result));
        return if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EX_CONFIG) };
    }
    match result {
        Ok(config) => {
            say(&mut io::stdout(), &check::summary(&config));
            ExitCode::SUCCESS
        }
        Err(problems) => refuse(&problems),
    }
}

/// Runs the service. All its words go through the log's queue, so that nobody who reads them too slowly, or not at all,
/// keeps it from starting, working or ending.
fn serve(load: Load, warning: Option<&str>) -> ExitCode {
    let config = match load() {
        Ok(config) => config,
        Err(problems) => {
            logging::last_words(&problems);
            return ExitCode::from(EX_CONFIG);
        }
    };
    let log = match logging::start(&config.log, &config.audit) {
        Ok(log) => log,
        Err(error) => {
            logging::last_words(&format!("pgpassport: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if let Some(warning) = warning {
        log.say(warning);
    }
    let code = serve::run(config, load, log.clone()).map_or_else(
        |error| {
            log.say(&format!("pgpassport: {error:#}"));
            failure(&error)
        },
        |()| ExitCode::SUCCESS,
    );
    log.flush();
    code
}

/// Returns the word of the format that was set.
fn override_log(
    log: &mut LogSettings,
    level: Option<LevelArg>,
    format: Option<FormatArg>,
) -> Option<&'static str> {
    if let Some(level) = level {
        log.level = match level {
            LevelArg::Error => LogLevel::Error,
            LevelArg::Warn => LogLevel::Warn,
            LevelArg::Info => LogLevel::Info,
            LevelArg::Debug => LogLevel::Debug,
            LevelArg::Trace => LogLevel::Trace,
        };
    }
    let (format, word) = match format? {
        FormatArg::Text => (LogFormat::Text, "text"),
        FormatArg::Json => (LogFormat::Json, "json"),
    };
    log.format = format;
    Some(word)
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), &format!("pgpassport: {error:#}"));
            failure(&error)
        }
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    let useless = error.downcast_ref().is_some_and(HealthError::is_of_the_configuration);
    if useless || error.is::<TooFewDescriptors>() { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
}

fn refuse(problems: &impl ToString) -> ExitCode {
    say(&mut io::stderr(), &problems.to_string());
    ExitCode::from(EX_CONFIG)
}

fn say(to: &mut impl Write, text: &str) {
    let _ = writeln!(to, "{}", text.trim_end()); // a closed pipe is no reason to fail
}
