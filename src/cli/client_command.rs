//! The commands of a person's machine.

use std::process::ExitCode;

use clap::Subcommand;

use crate::commands::exec::ExecArgs;
use crate::commands::login::LoginArgs;
use crate::commands::logout::LogoutArgs;
use crate::commands::mysql::MysqlArgs;
use crate::commands::profiles::ProfilesArgs;
use crate::commands::psql::PsqlArgs;
use crate::commands::token::TokenArgs;
use crate::commands::whoami::WhoamiArgs;

#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Sign in with your browser, so that the other commands have tokens.
    ///
    /// Uses the authorization code flow with PKCE; the browser comes back to a port of this machine, which is open for
    /// at most three minutes. The tokens are kept as the profile says, by default in a file that only you can read.
    Login(LoginArgs),
    /// Print a token for the proxy, for tools that run a command for their password.
    ///
    /// Standard output is exactly the token, without a line end unless it is a terminal. A failure prints nothing there
    /// and exits with 1. A token that is about to end is renewed first. Never opens a browser without a terminal, unless
    /// --interactive is given.
    Token(TokenArgs),
    /// Run psql with a fresh token.
    Psql(PsqlArgs),
    /// Run the client of MySQL or MariaDB with a fresh token.
    ///
    /// For a profile with protocol = "mysql". The first of mysql and mariadb in PATH is run; it verifies the proxy's
    /// certificate and name, and has the token in `MYSQL_PWD`.
    Mysql(MysqlArgs),
    /// Run a program with a fresh token in its environment (PGHOST, PGUSER, PGPASSWORD, PGSSLMODE, …; for MySQL `MYSQL_HOST`,
    /// `MYSQL_TCP_PORT`, `MYSQL_USER`, `MYSQL_PWD`, …).
    Exec(ExecArgs),
    /// Show who is signed in, and until when.
    Whoami(WhoamiArgs),
    /// Revoke the tokens at the issuer and delete them here.
    Logout(LogoutArgs),
    /// List the profiles of this machine.
    Profiles(ProfilesArgs),
}

impl ClientCommand {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let done = |()| ExitCode::SUCCESS;
        match self {
            Self::Login(login) => login.run().map(done),
            Self::Token(token) => token.run().map(done),
            Self::Psql(psql) => psql.run(),
            Self::Mysql(mysql) => mysql.run(),
            Self::Exec(exec) => exec.run(),
            Self::Whoami(whoami) => whoami.run().map(done),
            Self::Logout(logout) => logout.run().map(done),
            Self::Profiles(profiles) => profiles.run().map(done),
        }
    }
}
