//! Published profiles before a sign-in: fetched again, and shown to the person when they are new or have changed.

use std::io::{self, BufRead};

use super::client;
use crate::login::folders::ClientFolders;
use crate::login::published::{AcceptedProfiles, PublishedProfiles, accepted};
use crate::login::{SignInError, way_out};

/// Fetches the profiles of `url` and has them accepted. The name of the profile, if the document has one only.
pub(super) fn from_address(url: &str, accept_all: bool) -> anyhow::Result<Option<String>> {
    let folders = ClientFolders::of_environment().map_err(client::told)?;
    let outgoing = way_out::of_environment().map_err(client::told)?;
    let found = client::run(PublishedProfiles::fetch(url, &outgoing))?;
    confirm(&found, &folders, accept_all)?;
    match found.names()[..] {
        [one] => Ok(Some(one.to_owned())),
        _ => Ok(None),
    }
}

/// Fetches the document that a published profile is from once more. One that cannot be fetched stays as it was accepted.
pub(super) fn again(profile: &str, accept_all: bool) -> anyhow::Result<()> {
    let folders = ClientFolders::of_environment().map_err(client::told)?;
    let known = accepted(&folders).map_err(client::told)?;
    let Some(known) = known.iter().find(|one| one.names().contains(&profile)) else { return Ok(()) };
    let outgoing = way_out::of_environment().map_err(client::told)?;
    match client::run(async { Ok(PublishedProfiles::fetch(known.url(), &outgoing).await) })? {
        Ok(found) => confirm(&found, &folders, accept_all),
        Err(error @ SignInError::Unreachable { .. }) => {
            client::say(&format!("pgpassport: {error}; the profiles accepted before are used"));
            Ok(())
        }
        Err(error) => Err(client::told(error)),
    }
}

fn confirm(found: &AcceptedProfiles, folders: &ClientFolders, accept_all: bool) -> anyhow::Result<()> {
    let before = found.before(folders).map_err(client::told)?;
    if before.as_ref() == Some(found) {
        return Ok(());
    }
    let state = if before.is_some() { "have changed" } else { "are new on this machine" };
    client::say(&format!("The profiles of {} {state}:", found.url()));
    for line in found.lines(before.as_ref()) {
        client::say(&format!("  {line}"));
    }
    if !accept_all && !asked("Your sign-ins and queries go to the issuer and the proxy shown. Accept? [y/N]")
    {
        anyhow::bail!(
            "the profiles of {} are not accepted; run this in a terminal and answer y, or use --accept-profiles",
            found.url()
        );
    }
    found.accept(folders).map_err(client::told)
}

/// True if a person at a terminal answers yes.
fn asked(question: &str) -> bool {
    if !client::has_terminal() {
        return false;
    }
    client::say(question);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}
