//! `pgpassport token`: prints a token, or a connection that holds it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::client::{self, ProfileArgs};
use super::connection::ConnectionSettings;
use crate::config::DatabaseProtocol;
use crate::login::Profile;

/// Options of `pgpassport token`.
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// Shape of the output.
    #[arg(long, value_enum, default_value_t = TokenFormat::Token)]
    format: TokenFormat,
    /// Get a token that is good for this time, as in "5m"; 60 s before its end a token is always renewed.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    min_lifetime: Duration,
    /// Database of the connection [default: the profile's first].
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Open a browser to sign in if need be, although there is no terminal.
    #[arg(long)]
    interactive: bool,
}

/// Shapes of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TokenFormat {
    /// The token alone.
    Token,
    /// A connection string of libpq.
    Conninfo,
    /// A connection URI of libpq; for MySQL one of MySQL Shell and sqlx.
    Url,
    /// A URL of pgjdbc; for MySQL one of MySQL Connector/J.
    Jdbc,
    /// A URL of MariaDB Connector/J, for MySQL.
    JdbcMariadb,
    /// A line of a passfile of libpq.
    Pgpass,
    /// Variables for a POSIX shell.
    Env,
}

impl TokenFormat {
    /// True for connection strings, which people write as arguments of programs.
    fn is_argument(self) -> bool {
        matches!(self, Self::Conninfo | Self::Url | Self::Jdbc | Self::JdbcMariadb)
    }

    /// Refuses a shape that no client of the profile's protocol reads.
    fn check(self, profile: &Profile) -> anyhow::Result<()> {
        let instead = match (profile.protocol, self) {
            (DatabaseProtocol::MySql, Self::Conninfo | Self::Pgpass) => "url, jdbc, jdbc-mariadb, or env",
            (DatabaseProtocol::PostgreSql, Self::JdbcMariadb) => "jdbc",
            _ => return Ok(()),
        };
        let (name, word) = (&profile.name, profile.protocol.word());
        anyhow::bail!(
            "profile {name} has protocol = \"{word}\", whose clients do not read this; use --format {instead}"
        )
    }
}

impl TokenArgs {
    /// Prints; a failure prints nothing on standard output.
    pub fn run(&self) -> anyhow::Result<()> {
        let source = self.profile.open().map_err(client::told)?;
        self.format.check(source.profile())?;
        let interactive = self.interactive || client::has_terminal();
        let token = client::run(client::token(&source, self.min_lifetime, interactive))?;
        let settings =
            ConnectionSettings::new(&source, self.database.as_deref(), token).map_err(client::told)?;
        let mut text = match self.format {
            TokenFormat::Token => settings.token(),
            TokenFormat::Conninfo => settings.conninfo(),
            TokenFormat::Url => settings.url(),
            TokenFormat::Jdbc => settings.jdbc(),
            TokenFormat::JdbcMariadb => settings.mariadb_jdbc(),
            TokenFormat::Pgpass => settings.pgpass(),
            TokenFormat::Env => settings.env(),
        };
        if self.format.is_argument() {
            client::say(
                "pgpassport: this holds the token; as an argument of a program every user of the machine can read it",
            );
        }
        // Programs that read a password take a line end for a part of it.
        if io::stdout().is_terminal() && !text.ends_with('\n') {
            text.push('\n');
        }
        client::print(&text)
    }
}
