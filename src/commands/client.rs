//! What the commands of a person's machine have in common: the profile, the sign-in in a terminal, the words.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;

use crate::clock::Clock;
use crate::config::DatabaseProtocol;
use crate::login::folders::ClientFolders;
use crate::login::sign_in::{self, PersonName, SignInPrompt};
use crate::login::{ClientToken, Profile, SignInError, TokenSource, profiles, way_out};

/// The profile of a command.
#[derive(Clone, Debug, Args)]
pub struct ProfileArgs {
    /// Use this profile of client.toml [default: its `default`, or the only one].
    #[arg(long, env = "PGPASSPORT_PROFILE", value_name = "NAME")]
    profile: Option<String>,
}

impl ProfileArgs {
    /// True if a name is given.
    pub(super) fn is_named(&self) -> bool {
        self.profile.is_some()
    }

    /// As with `--profile NAME`.
    pub(super) fn named(name: &str) -> Self {
        Self { profile: Some(name.to_owned()) }
    }

    /// The profile in the folders of a person.
    pub(super) fn select(&self, folders: &ClientFolders) -> Result<Profile, SignInError> {
        profiles::select(profiles::load(folders)?, self.profile.as_deref())
    }

    /// The tokens of the profile.
    pub(super) fn open(&self) -> Result<TokenSource, SignInError> {
        let folders = ClientFolders::of_environment()?;
        open(self.select(&folders)?, &folders)
    }
}

/// The tokens of a profile.
pub(super) fn open(profile: Profile, folders: &ClientFolders) -> Result<TokenSource, SignInError> {
    TokenSource::new(profile, folders, &way_out::of_environment()?, Clock::system())
}

/// Runs `work` to its end on a runtime of its own.
pub(super) fn run<T>(work: impl Future<Output = Result<T, SignInError>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    runtime.block_on(work).map_err(told)
}

/// The command that runs the protocol's own client.
pub(super) fn program(protocol: DatabaseProtocol) -> &'static str {
    match protocol {
        DatabaseProtocol::PostgreSql => "psql",
        DatabaseProtocol::MySql => "mysql",
    }
}

/// An error with what to do about it.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn told(error: SignInError) -> anyhow::Error {
    let remedy = error.remedy();
    anyhow::anyhow!("{error}\n{remedy}")
}

/// A line for the person; standard output is for results.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}"); // nobody reads it, so nobody misses it
}

/// A result on standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// True if a person sits at a terminal who can be asked.
pub(super) fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A token; a person who is signed out signs in first where `interactive`.
pub(super) async fn token(
    source: &TokenSource,
    min_lifetime: Duration,
    interactive: bool,
) -> Result<ClientToken, SignInError> {
    match source.token(min_lifetime).await {
        Err(error @ (SignInError::SignedOut { .. } | SignInError::Ended { .. })) if interactive => {
            say(&format!("pgpassport: {error}; signing in"));
            sign_in(source, SignInWay::Browser).await?;
            source.token(min_lifetime).await
        }
        token => token,
    }
}

/// The way to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignInWay {
    /// Opens a browser, and prints the page.
    Browser,
    /// Prints the page.
    PrintedPage,
    /// Prints a device code.
    DeviceCode,
}

/// Signs in and says who one is.
pub(super) async fn sign_in(source: &TokenSource, way: SignInWay) -> Result<PersonName, SignInError> {
    let mut prompt = TerminalPrompt { opens_browser: way == SignInWay::Browser };
    let person = match way {
        SignInWay::Browser | SignInWay::PrintedPage => sign_in::with_browser(source, &mut prompt).await?,
        SignInWay::DeviceCode => sign_in::with_device_code(source, &mut prompt).await?,
    };
    let name = &source.profile().name;
    say(&format!(
        "Signed in as {} (profile {name}).",
        person.as_deref().unwrap_or("a person without a name")
    ));
    Ok(person)
}

struct TerminalPrompt {
    opens_browser: bool,
}

impl SignInPrompt for TerminalPrompt {
    fn show_page(&mut self, url: &str) {
        if !self.opens_browser {
            return say(&format!("Open this page in a browser of this machine to sign in:\n{url}"));
        }
        match webbrowser::open(url) {
            Ok(()) => say(&format!("A browser opens to sign in. If it does not, open this page:\n{url}")),
            Err(error) => say(&format!(
                "No browser can be opened ({error}). Open this page in a browser of this machine, or end this and use \
                 `pgpassport login --device`:\n{url}"
            )),
        }
    }

    fn show_code(&mut self, page: &str, code: &str, profile: &Profile) {
        let shown = |text: &str| crate::names::printable(text, 300);
        say(&format!(
            "Open {} on any device and type the code {}\n\
             The sign-in is for {} at {} with the scopes {}; it gives this machine access to {}.\n\
             Approve it only if you have just started it yourself.",
            shown(page),
            shown(code),
            shown(&profile.client_id),
            profile.issuer,
            profile.scopes.join(" "),
            profile.proxy,
        ));
    }
}
