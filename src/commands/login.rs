//! `pgpassport login`: signs a person in.

use clap::Args;

use super::accept_profiles;
use super::client::{self, ProfileArgs, SignInWay};

/// Options of `pgpassport login`.
#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// Address where the administrators publish profiles, as in <https://db.acme.com>. They are shown, and used once you
    /// accept them.
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// Sign in with a code that is typed in a browser of another machine.
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
    /// Print the page to open instead of opening a browser.
    #[arg(long)]
    no_browser: bool,
    /// Accept published profiles without a question.
    #[arg(long)]
    accept_profiles: bool,
}

impl LoginArgs {
    /// Signs in; says who one is, and how to connect.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut chosen = self.profile.clone();
        if let Some(address) = &self.address {
            let only = accept_profiles::from_address(address, self.accept_profiles)?;
            chosen = only.as_deref().map_or(chosen, ProfileArgs::named);
        }
        let mut source = chosen.open().map_err(client::told)?;
        if self.address.is_none() {
            accept_profiles::again(&source.profile().name, self.accept_profiles)?;
            source = chosen.open().map_err(client::told)?;
        }
        let way = match (self.device, self.no_browser) {
            (true, _) => SignInWay::DeviceCode,
            (false, true) => SignInWay::PrintedPage,
            (false, false) => SignInWay::Browser,
        };
        client::run(client::sign_in(&source, way))?;
        let profile = source.profile();
        let option = if chosen.is_named() { format!(" --profile {}", profile.name) } else { String::new() };
        let database =
            profile.databases.first().map_or_else(|| "DATABASE".to_owned(), |name| name.as_str().to_owned());
        let program = client::program(profile.protocol);
        client::say(&format!("Connect: pgpassport {program}{option} {database}"));
        Ok(())
    }
}
