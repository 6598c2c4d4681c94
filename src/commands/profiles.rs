//! `pgpassport profiles`: the profiles of this machine. Asks no network.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::client;
use crate::config::client::ClientConfig;
use crate::login::folders::ClientFolders;
use crate::login::published::PublishedProfiles;
use crate::login::{SignInError, profiles};

/// Options of `pgpassport profiles`.
#[derive(Clone, Debug, Args)]
pub struct ProfilesArgs {
    /// Print the document with the profiles of this client.toml, to be published at
    /// <https://…/.well-known/pgpassport>; people sign in with `pgpassport login https://…`.
    #[arg(long, value_name = "FILE")]
    publish: Option<PathBuf>,
}

impl ProfilesArgs {
    /// Prints one profile a line: name, proxy, issuer, and whether somebody is signed in.
    pub fn run(&self) -> anyhow::Result<()> {
        if let Some(file) = &self.publish {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let document = ClientConfig::from_toml(&text, file)
                .map_err(SignInError::from)
                .and_then(|config| PublishedProfiles::of(&config))
                .map_err(client::told)?;
            return client::print(&format!("{}\n", document.json()));
        }
        let folders = ClientFolders::of_environment().map_err(client::told)?;
        let config = profiles::load(&folders).map_err(client::told)?;
        if config.profiles.is_empty() {
            client::say(&format!("There is no profile in {}.", folders.config.join("client.toml").display()));
        }
        let mut text = String::new();
        for profile in config.profiles {
            let default = if config.default.as_ref() == Some(&profile.name) { " (default)" } else { "" };
            let (name, proxy, issuer) =
                (profile.name.clone(), profile.proxy.to_string(), profile.issuer.clone());
            let source = client::open(profile, &folders).map_err(client::told)?;
            let state = match client::run(async { Ok(source.cached().await) })? {
                Ok(_) => "signed in".to_owned(),
                Err(error) => error.to_string(),
            };
            let _ = writeln!(text, "{name}{default}\t{proxy}\t{issuer}\t{state}"); // to a String
        }
        client::print(&text)
    }
}
