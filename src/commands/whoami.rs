//! `pgpassport whoami`: the person who is signed in, and until when. Asks no network.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;

use super::client::{self, ProfileArgs};
use crate::login::claims::UnverifiedClaims;
use crate::login::{SignInError, TokenSource};
use crate::names::{DbName, printable};

/// Options of `pgpassport whoami`.
#[derive(Clone, Debug, Args)]
pub struct WhoamiArgs {
    #[command(flatten)]
    profile: ProfileArgs,
}

impl WhoamiArgs {
    /// Prints; fails when nobody is signed in.
    pub fn run(&self) -> anyhow::Result<()> {
        let source = self.profile.open().map_err(client::told)?;
        let text = client::run(describe(&source))?;
        client::print(&text)
    }
}

async fn describe(source: &TokenSource) -> Result<String, SignInError> {
    let held = source.cached().await?;
    let profile = source.profile();
    let claims = held.current.claims();
    let claim = |name: &str| claims.as_ref().and_then(|claims| claims.named(name)).unwrap_or_default();
    let person = claims.as_ref().and_then(UnverifiedClaims::person).unwrap_or("a person without a name");
    let lifetime = source.lifetime(&held.current);
    let left = if lifetime.is_zero() {
        "over".to_owned()
    } else {
        format!("good for {}", humantime::format_duration(Duration::from_secs(lifetime.as_secs())))
    };
    let renewal = if held.refresh.is_some() { "is renewed when needed" } else { "cannot be renewed" };
    let databases: Vec<_> = profile.databases.iter().map(DbName::as_str).collect();
    let mut text = String::new();
    for (name, value) in [
        ("person", printable(person, 200)),
        ("subject", printable(claim("sub"), 200)),
        ("database user", printable(&source.user(&held.current)?, 200)),
        ("profile", profile.name.clone()),
        ("issuer", profile.issuer.clone()),
        ("token", format!("{left}; it {renewal}")),
        ("proxy", profile.proxy.to_string()),
        ("databases", databases.join(", ")),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<14}{value}"); // writing to a String cannot fail
        }
    }
    Ok(text)
}
