//! `pgpassport logout`: ends a sign-in at the issuer and on this machine.

use clap::Args;

use super::client::{self, ProfileArgs};

/// Options of `pgpassport logout`.
#[derive(Clone, Debug, Args)]
pub struct LogoutArgs {
    #[command(flatten)]
    profile: ProfileArgs,
}

impl LogoutArgs {
    /// Revokes and deletes. Fails when the issuer could not be told, although the tokens are deleted then, too.
    pub fn run(&self) -> anyhow::Result<()> {
        let source = self.profile.open().map_err(client::told)?;
        let name = &source.profile().name;
        match client::run(source.sign_out())? {
            None => client::say(&format!("Profile {name} was signed out already.")),
            Some(Ok(true)) => {
                client::say(&format!("Signed out of profile {name}; the issuer takes its tokens no more."));
            }
            Some(Ok(false)) => client::say(&format!(
                "Signed out of profile {name} on this machine. The issuer cannot revoke tokens; the current one ends by itself."
            )),
            Some(Err(error)) => anyhow::bail!(
                "the tokens of profile {name} are deleted on this machine, but the issuer has not revoked them: {error}\n\
                 End the session in the issuer's own pages."
            ),
        }
        Ok(())
    }
}
