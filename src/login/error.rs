//! Reasons why a person has no token, and what the person can do about each.

use std::path::PathBuf;
use std::time::Duration;

use super::cache::CacheError;
use crate::config::problems::ConfigProblems;
use crate::names::printable;
use crate::net::https::HttpsError;
use crate::net::outgoing::OutgoingError;

/// Longest text of an issuer that is shown, in bytes.
const MAX_SHOWN: usize = 300;

/// No token. [`SignInError::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Nobody is signed in.
    #[error("profile {profile:?} is signed out")]
    SignedOut {
        /// The profile's name.
        profile: String,
    },
    /// The issuer takes the refresh token no more, or there is none.
    #[error("the sign-in of profile {profile:?} has ended: {reason}")]
    Ended {
        /// The profile's name.
        profile: String,
        /// The reason, escaped.
        reason: String,
    },
    /// No answer of the issuer, or one that says that it does not work now.
    #[error("the issuer {issuer} cannot be asked: {problem}")]
    Unreachable {
        /// The issuer's URL.
        issuer: String,
        /// The reason.
        problem: String,
    },
    /// An error answer of the issuer (RFC 6749, section 5.2).
    #[error("the issuer refuses: {0}")]
    Refused(OAuthError),
    /// An answer that cannot be used.
    #[error("the issuer's answer cannot be used: {0}")]
    Answer(String),
    /// A redirect that is not the answer to this sign-in.
    #[error("the sign-in is ended because of a request that is not its answer: {0}")]
    Redirect(&'static str),
    /// No redirect, or no approval of a device code, in time.
    #[error("nobody has signed in within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A token of the issuer that ends too early.
    #[error("the issuer's tokens are good for {} s, and {} s are asked for", lifetime.as_secs(), wanted.as_secs())]
    ShortLived {
        /// From the issuer's answer to the token's end.
        lifetime: Duration,
        /// The least that the caller asked for.
        wanted: Duration,
    },
    /// A flow that the profile or the issuer does not have.
    #[error("{0}")]
    Unsupported(&'static str),
    /// No port of the profile's redirect addresses is free.
    #[error("no port for the redirect can be listened on: {0}")]
    NoPort(String),
    /// The place of the tokens.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A TLS client cannot be made.
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    /// `client.toml` has problems.
    #[error(transparent)]
    Config(#[from] ConfigProblems),
    /// A file or folder cannot be read or written.
    #[error("{}: {problem}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The system's words.
        problem: String,
    },
    /// No profile, or several without a choice between them.
    #[error("{0}")]
    Profile(String),
    /// Neither `HOME` nor what stands for it is set.
    #[error("the home folder is not known")]
    NoHome,
}

/// An error answer of an authorization server, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthError {
    /// The code, for example `invalid_grant`.
    pub code: String,
    /// The issuer's explanation.
    pub description: Option<String>,
}

impl OAuthError {
    /// Escapes and cuts what the issuer says.
    pub fn new(code: &str, description: Option<&str>) -> Self {
        let shown = |text: &str| printable(text, MAX_SHOWN);
        Self { code: shown(code), description: description.map(shown) }
    }
}

impl std::fmt::Display for OAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.description {
            Some(description) => write!(f, "{}: {description}", self.code),
            None => f.write_str(&self.code),
        }
    }
}

impl SignInError {
    /// The issuer did not answer.
    pub(super) fn unreachable(issuer: &str, error: &HttpsError) -> Self {
        Self::Unreachable { issuer: issuer.to_owned(), problem: error.to_string() }
    }

    /// Remedy for the person, as one sentence that fits a HINT of PostgreSQL.
    pub fn remedy(&self) -> String {
        match self {
            Self::SignedOut { profile } | Self::Ended { profile, .. } => {
                format!("Run `pgpassport login --profile {profile}` in a terminal.")
            }
            Self::Unreachable { .. } => {
                "Check the network, the VPN and HTTPS_PROXY, then try again; the sign-in is kept.".into()
            }
            Self::Refused(error) if error.code == "access_denied" => {
                "Ask the administrators of the issuer for access, then run `pgpassport login` again.".into()
            }
            Self::Refused(error) if error.code == "invalid_client" || error.code == "unauthorized_client" => {
                "Check client_id in the profile; the client must be a public one with the authorization code and \
                 refresh token grants."
                    .into()
            }
            Self::Refused(error) if error.code == "invalid_scope" => {
                "Check scopes in the profile against those that the issuer gives this client.".into()
            }
            Self::Refused(_) => "Run `pgpassport login` again, or show this message to the issuer's administrators.".into(),
            Self::Answer(_) => "Check issuer, scopes, audience and token in the profile.".into(),
            Self::Redirect(_) => "Run `pgpassport login` again, and answer only in the page that it opens.".into(),
            Self::TimedOut(_) => "Run `pgpassport login` again.".into(),
            Self::ShortLived { .. } => "Ask for less with --min-lifetime.".into(),
            Self::Unsupported(_) => "Sign in with a browser: `pgpassport login`.".into(),
            Self::NoPort(_) => {
                "Close the program that uses the port, or register another redirect address and add it to redirect \
                 in the profile."
                    .into()
            }
            Self::Cache(error) => error.remedy(),
            Self::Outgoing(_) => "Check issuer_ca_file in the profile.".into(),
            Self::Config(_) => "Correct the file and try again.".into(),
            Self::File { .. } => "Check the path and its permissions.".into(),
            Self::Profile(_) => "`pgpassport profiles` lists the profiles.".into(),
            Self::NoHome => "Set HOME.".into(),
        }
    }
}
