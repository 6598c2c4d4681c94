//! The first packets of a tool: requests for encryption, a cancel, or the StartupMessage.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::framing::{length, message, read_packet};

/// Longest packet, in bytes (PostgreSQL, `MAX_STARTUP_PACKET_LENGTH`).
const MAX_PACKET: usize = 10_000;

/// Codes in the place of a protocol version (PostgreSQL manual, "Message Formats").
const CANCEL_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2e];
const SSL_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x30];

/// The newest minor version of protocol 3 that is spoken; 3.2 differs from 3.0 in the length of cancel keys.
const NEWEST: u16 = 2;

/// Longest cancel key, in bytes (PostgreSQL 18).
const MAX_KEY: usize = 256;

/// The purpose of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ToolRequest {
    /// A session.
    Session(ToolStartup),
    /// A cancel: process id and key, as BackendKeyData had them.
    Cancel(Vec<u8>),
}

/// A StartupMessage.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToolStartup {
    minor: u16,
    pub(super) user: String,
    database: Option<Vec<u8>>,
    /// Names of protocol options, none of which is known here.
    options: Vec<Vec<u8>>,
    /// All other parameters, in their order.
    others: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reasons why there is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartupFault {
    /// The socket failed, or the peer is no client of PostgreSQL.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The packet does not follow the protocol.
    #[error("{0}")]
    Layout(&'static str),
}

/// Reads the request of a tool. Encryption is declined: the connection does not leave the machine.
pub(super) async fn read_request<S>(tool: &mut S) -> Result<ToolRequest, StartupFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut declined = 0;
    loop {
        let packet = read_packet(tool, MAX_PACKET).await?;
        let Some((code, rest)) = packet.split_first_chunk::<4>() else {
            return Err(StartupFault::Layout("it is too short"));
        };
        match *code {
            SSL_REQUEST | GSSENC_REQUEST if rest.is_empty() && declined < 2 => {
                declined += 1;
                tool.write_all(b"N").await?;
            }
            CANCEL_REQUEST if (8..=4 + MAX_KEY).contains(&rest.len()) => {
                return Ok(ToolRequest::Cancel(rest.to_vec()));
            }
            [0, 3, high, low] => {
                return parse(u16::from_be_bytes([high, low]), rest).map(ToolRequest::Session);
            }
            _ => return Err(StartupFault::Layout("the protocol version is not 3")),
        }
    }
}

fn parse(minor: u16, pairs: &[u8]) -> Result<ToolStartup, StartupFault> {
    let end = StartupFault::Layout("the parameters have no end");
    let mut startup =
        ToolStartup { minor, user: String::new(), database: None, options: Vec::new(), others: Vec::new() };
    let pairs = pairs.strip_suffix(b"\0").ok_or(end)?;
    let mut texts = pairs.strip_suffix(b"\0").unwrap_or(pairs).split(|byte| *byte == 0);
    let empty = pairs.is_empty();
    while let Some(name) = texts.next().filter(|_| !empty) {
        let value = texts.next().ok_or(StartupFault::Layout("a parameter has no value"))?;
        match name {
            b"" => return Err(StartupFault::Layout("a parameter has no name")),
            b"user" => startup.user = String::from_utf8_lossy(value).into_owned(),
            b"database" => startup.database = Some(value.to_vec()),
            name if name.starts_with(b"_pq_.") => startup.options.push(name.to_vec()),
            name => startup.others.push((name.to_vec(), value.to_vec())),
        }
    }
    Ok(startup)
}

impl ToolStartup {
    /// The minor version that is spoken with the tool.
    fn spoken(&self) -> u16 {
        if self.minor < NEWEST { 0 } else { NEWEST }
    }

    /// NegotiateProtocolVersion, when the tool asks for more than is spoken.
    pub(super) fn negotiation(&self) -> Option<Vec<u8>> {
        if self.minor == self.spoken() && self.options.is_empty() {
            return None;
        }
        let [high, low] = self.spoken().to_be_bytes();
        let mut body = vec![0, 3, high, low]; // PostgreSQL sends both numbers
        body.extend_from_slice(&u32::try_from(self.options.len()).unwrap_or(u32::MAX).to_be_bytes());
        for option in &self.options {
            body.extend_from_slice(option);
            body.push(0);
        }
        Some(message(b'v', &body))
    }

    /// The StartupMessage for the proxy: the tool's, with the person's `user`. A tool that names no database means the
    /// first of `databases`. libpq names the user's name when its user names none.
    pub(super) fn packet_for(&self, user: &str, databases: &[String]) -> Vec<u8> {
        let [high, low] = self.spoken().to_be_bytes();
        let mut body = vec![0, 3, high, low];
        let mut parameter = |name: &[u8], value: &[u8]| {
            for text in [name, value] {
                body.extend_from_slice(text);
                body.push(0);
            }
        };
        parameter(b"user", user.as_bytes());
        let named = self.database.as_deref().filter(|name| {
            let is_known = databases.iter().any(|known| known.as_bytes() == *name);
            !name.is_empty() && (is_known || *name != self.user.as_bytes() || databases.is_empty())
        });
        if let Some(database) = named.or(databases.first().map(String::as_bytes)) {
            parameter(b"database", database);
        }
        for (name, value) in &self.others {
            parameter(name, value);
        }
        body.push(0);
        [&length(body.len())[..], &body].concat()
    }
}

#[cfg(test)]
mod tests;
