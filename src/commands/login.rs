//! `pgpassport login`: signs a person in.

use clap::Args;

use super::client::ProfileArgs;
use super::client::{self, SignInWay};

/// Options of `pgpassport login`.
#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// Sign in with a code that is typed in a browser of another machine.
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
    /// Print the page to open instead of opening a browser.
    #[arg(long)]
    no_browser: bool,
}

impl LoginArgs {
    /// Signs in; says who one is, and how to connect.
    pub fn run(&self) -> anyhow::Result<()> {
        let source = self.profile.open().map_err(client::told)?;
        let way = match (self.device, self.no_browser) {
            (true, _) => SignInWay::DeviceCode,
            (false, true) => SignInWay::PrintedPage,
            (false, false) => SignInWay::Browser,
        };
        client::run(client::sign_in(&source, way))?;
        let profile = source.profile();
        let option = if self.profile.profile.is_some() {
            format!(" --profile {}", profile.name)
        } else {
            String::new()
        };
        let database =
            profile.databases.first().map_or_else(|| "DATABASE".to_owned(), |name| name.as_str().to_owned());
        client::say(&format!("Connect: pgpassport psql{option} {database}"));
        Ok(())
    }
}
