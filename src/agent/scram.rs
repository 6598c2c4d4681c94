//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677; PostgreSQL manual, "SASL Authentication"), without channel
//! binding: there is no TLS on the local leg.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::framing::{message, read};
use super::local_password::LocalPassword;
use crate::names::random_bytes;

/// The number of the least strength that RFC 7677 allows. The password has 128 random bits, so more would add nothing.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4_096).unwrap();

const MECHANISM: &[u8] = b"SCRAM-SHA-256";

/// Longest message of a tool, in bytes.
const MAX_MESSAGE: usize = 2_048;

/// The two keys that a server keeps in place of the password (RFC 5802, section 3).
#[derive(Debug)]
pub(super) struct ScramVerifier {
    salt: [u8; 16],
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// Reasons why a tool has not proved the password.
#[derive(Debug)]
pub(super) enum ScramFault {
    /// The connection is over.
    Closed,
    /// The password is another one, or the messages are not those of SCRAM-SHA-256.
    Wrong,
}

impl ScramVerifier {
    /// Keeps no part of the password.
    pub(super) fn of(password: &LocalPassword) -> Self {
        Self::derive(password.expose().as_bytes(), random_bytes::<16>())
    }

    fn derive(password: &[u8], salt: [u8; 16]) -> Self {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, password, &mut salted);
        Self {
            salt,
            stored_key: sha256(&mac(&salted, b"Client Key")),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    /// Asks the tool for its proof. Gives the `AuthenticationSASLFinal`, which is to be sent once the login is complete.
    pub(super) async fn ask<S>(&self, tool: &mut S) -> Result<Vec<u8>, ScramFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let offer = [&10_u32.to_be_bytes()[..], MECHANISM, b"\0\0"].concat();
        send(tool, &offer).await?;
        let first = answer(tool).await?;
        let first = initial_response(&first).ok_or(ScramFault::Wrong)?;
        let exchange = Exchange::begin(first, &nonce(), self).ok_or(ScramFault::Wrong)?;
        send(tool, &[&11_u32.to_be_bytes()[..], exchange.server_first.as_bytes()].concat()).await?;
        let last = answer(tool).await?;
        let last = std::str::from_utf8(&last).map_err(|_| ScramFault::Wrong)?;
        let signature = exchange.finish(last, self).ok_or(ScramFault::Wrong)?;
        let body = [&12_u32.to_be_bytes()[..], b"v=", STANDARD.encode(signature).as_bytes()].concat();
        Ok(message(b'R', &body))
    }
}

/// An exchange after the client's first message.
struct Exchange {
    /// The GSS-API header, which the client repeats.
    header: String,
    client_first_bare: String,
    nonce: String,
    server_first: String,
}

impl Exchange {
    /// Reads `client-first-message`. The user name in it is not used: PostgreSQL's clients leave it empty.
    fn begin(first: &str, server_nonce: &str, verifier: &ScramVerifier) -> Option<Self> {
        let header = ["n,,", "y,,"].into_iter().find(|header| first.starts_with(header))?;
        let bare = first.strip_prefix(header)?;
        let mut attributes = bare.split(',');
        attributes.next()?.strip_prefix("n=")?;
        let client_nonce = attributes.next()?.strip_prefix("r=")?;
        let is_nonce =
            |text: &str| (8..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_nonce(client_nonce) {
            return None;
        }
        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(verifier.salt));
        Some(Self { header: header.into(), client_first_bare: bare.into(), nonce, server_first })
    }

    /// Checks `client-final-message`; gives the server's signature.
    fn finish(&self, last: &str, verifier: &ScramVerifier) -> Option<[u8; 32]> {
        let (without_proof, proof) = last.rsplit_once(",p=")?;
        if without_proof != format!("c={},r={}", STANDARD.encode(&self.header), self.nonce) {
            return None;
        }
        let proof: [u8; 32] = STANDARD.decode(proof).ok()?.try_into().ok()?;
        let auth_message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let mut client_key = mac(&verifier.stored_key, auth_message.as_bytes());
        client_key.iter_mut().zip(&proof).for_each(|(key, proof)| *key ^= proof);
        verify_slices_are_equal(&sha256(&client_key), &verifier.stored_key).ok()?;
        Some(mac(&verifier.server_key, auth_message.as_bytes()))
    }
}

/// The `client-first-message` of a `SASLInitialResponse`.
fn initial_response(body: &[u8]) -> Option<&str> {
    let rest = body.strip_prefix(MECHANISM)?.strip_prefix(b"\0")?;
    let (length, first) = rest.split_first_chunk::<4>()?;
    let is_whole = usize::try_from(u32::from_be_bytes(*length)).ok()? == first.len();
    std::str::from_utf8(first).ok().filter(|_| is_whole)
}

fn nonce() -> String {
    STANDARD.encode(random_bytes::<18>())
}

async fn send<S: AsyncWrite + Unpin>(tool: &mut S, body: &[u8]) -> Result<(), ScramFault> {
    tool.write_all(&message(b'R', body)).await.map_err(|_| ScramFault::Closed)
}

async fn answer<S: AsyncRead + Unpin>(tool: &mut S) -> Result<Vec<u8>, ScramFault> {
    let mut answer = read(tool, MAX_MESSAGE).await.map_err(|_| ScramFault::Closed)?;
    if answer.tag == b'p' { Ok(std::mem::take(&mut answer.body)) } else { Err(ScramFault::Wrong) }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref())
}

fn sha256(text: &[u8]) -> [u8; 32] {
    array(digest(&SHA256, text).as_ref())
}

/// The 32 bytes of a SHA-256.
fn array(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    array
}

#[cfg(test)]
mod tests;
