//! The first packets of a tool that speaks MySQL: greeting, response, and the proof of the local password.
//!
//! The proof is `caching_sha2_password` (MySQL manual, "Caching SHA-2 Pluggable Authentication"), which every current client has.
//! The agent keeps the hash that a server caches, so it never asks for the full exchange, in which a client would need TLS or
//! RSA to send the password itself.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::agent::local_password::LocalPassword;
use crate::mysql::greeting::{GREETING_PLUGIN, SALT_LENGTH, ServerIdentity, salt};
use crate::mysql::limits::MAX_RESPONSE;
use crate::mysql::packet::{Sequence, WireError};
use crate::mysql::question::AUTH_SWITCH;
use crate::mysql::response::{ClientStartup, EarlyAnswer, SSL_REQUEST_LENGTH, StartupError};

/// Length of a proof.
const PROOF_LENGTH: usize = 32;

/// Longest answer to the request for a proof, in bytes.
const MAX_ANSWER: usize = 1_024;

/// The hash that a server caches: SHA-256 of the SHA-256 of the password.
#[derive(Debug)]
pub(super) struct Sha2Verifier([u8; PROOF_LENGTH]);

impl Sha2Verifier {
    /// Keeps no part of the password.
    pub(super) fn of(password: &LocalPassword) -> Self {
        Self::derive(password.expose().as_bytes())
    }

    fn derive(password: &[u8]) -> Self {
        Self(sha256(&[&sha256(&[password])]))
    }

    /// True for the proof of the password: its SHA-256, XOR the SHA-256 of the cached hash and the salt.
    fn proves(&self, proof: &[u8], salt: &[u8; SALT_LENGTH]) -> bool {
        let Ok(mut hash) = <[u8; PROOF_LENGTH]>::try_from(proof) else { return false };
        let mask = sha256(&[&self.0, salt]);
        hash.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        verify_slices_are_equal(&sha256(&[&hash]), &self.0).is_ok()
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; PROOF_LENGTH] {
    let mut hash = [0; PROOF_LENGTH];
    hash.copy_from_slice(digest(&SHA256, &parts.concat()).as_ref());
    hash
}

/// The way in which a tool proves that it belongs to the person.
#[derive(Clone, Copy, Debug)]
pub(super) enum ToolProof<'a> {
    /// The kernel says that the peer runs as the same user.
    SameUser,
    /// The local password; without a verifier no password is right.
    Password(Option<&'a Sha2Verifier>),
}

/// A tool that has proved whose it is.
#[derive(Debug)]
pub(super) struct ToolLogin {
    pub(super) startup: ClientStartup,
    /// Sequence of the login's packets.
    pub(super) sequence: Sequence,
    /// True if the tool waits for the word that its proof is right.
    pub(super) awaits_word: bool,
}

/// Reasons why a tool is not served.
#[derive(Debug)]
pub(super) enum LoginFault {
    /// The connection is over.
    Closed,
    /// No proof of the local password; the user that the tool has named.
    Wrong(String),
    /// The packets do not follow the protocol.
    Layout(String),
}

impl From<WireError> for LoginFault {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed | WireError::Io(_) => Self::Closed,
            WireError::Length(_)
            | WireError::Sequence { .. }
            | WireError::Unexpected(_)
            | WireError::Malformed(_) => Self::Layout(error.to_string()),
        }
    }
}

/// Greets a tool as server `identity` with connection `id`, and hears whose it is. `sequence` is that of the login's packets, for
/// a refusal.
pub(super) async fn meet<S: AsyncRead + AsyncWrite + Unpin>(
    tool: &mut S,
    sequence: &mut Sequence,
    (identity, id): (&ServerIdentity, u32),
    proof: ToolProof<'_>,
) -> Result<ToolLogin, LoginFault> {
    let (salt, offered) = (salt(), identity.capabilities.offered_in_clear());
    sequence.write(tool, &identity.greeting_with(id, &salt, offered)).await?;
    let response = sequence.read(tool, MAX_RESPONSE).await?;
    if response.payload.len() == SSL_REQUEST_LENGTH {
        return Err(LoginFault::Layout(
            "TLS was not offered: this connection does not leave the machine".into(),
        ));
    }
    let (startup, early) = ClientStartup::parse(&response.payload, offered).map_err(|error| match error {
        StartupError::Layout(what) => LoginFault::Layout(what.to_owned()),
        StartupError::TooOld | StartupError::TlsRequired => LoginFault::Layout(error.to_string()),
    })?;
    let early = early.as_ref().and_then(proof_in).map(<[u8]>::to_vec);
    let awaits_word = match proof {
        ToolProof::SameUser => early.is_some(),
        ToolProof::Password(verifier) => {
            let given = match early {
                Some(given) => given,
                None => ask(tool, sequence, &salt).await?,
            };
            if !verifier.is_some_and(|verifier| verifier.proves(&given, &salt)) {
                return Err(LoginFault::Wrong(startup.user().to_owned()));
            }
            true
        }
    };
    Ok(ToolLogin { startup, sequence: *sequence, awaits_word })
}

/// A proof that a tool has sent without a question.
fn proof_in(early: &EarlyAnswer) -> Option<&[u8]> {
    early.of_plugin(GREETING_PLUGIN.as_bytes()).filter(|proof| proof.len() == PROOF_LENGTH)
}

/// Asks a tool that has begun with another plugin, or without a password.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    tool: &mut S,
    sequence: &mut Sequence,
    salt: &[u8; SALT_LENGTH],
) -> Result<Vec<u8>, LoginFault> {
    let question = [&[AUTH_SWITCH], GREETING_PLUGIN.as_bytes(), b"\0", &salt[..], b"\0"].concat();
    sequence.write(tool, &question).await?;
    Ok(sequence.read(tool, MAX_ANSWER).await?.payload.clone())
}

#[cfg(test)]
mod tests;
