//! `pgpassport health`: one request to the admin address of the running proxy, for containers without a shell.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::check;

/// Longest answer that is read, in bytes: one line for each task that does not work.
const MAX_ANSWER: u64 = 64 * 1024;

/// The question to the proxy.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Query readiness for new clients (/readyz) instead of liveness (/livez).
    #[arg(long)]
    ready: bool,
    /// Address to query; the configuration is then not read.
    #[arg(long, value_name = "ADDR:PORT")]
    addr: Option<SocketAddr>,
    /// Longest wait for the connection, and for each part of the answer.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Why the answer is not yes.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The configuration cannot be read.
    #[error("{0}")]
    Config(String),
    /// The configuration has no admin address.
    #[error(
        "{0} has no admin.addr: set it, for example addr = \"127.0.0.1:9127\" in [admin], or name one by --addr"
    )]
    NoAddress(String),
    /// No connection, or no whole answer in time.
    #[error("{addr}: {error}")]
    Unreachable {
        /// The admin address.
        addr: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// The answer is not one of an HTTP server.
    #[error("{0} does not answer as an admin address of pgpassport does")]
    NotHttp(SocketAddr),
    /// The proxy says no.
    #[error("{0}")]
    Unhealthy(String),
}

impl HealthError {
    /// True if another try with the same configuration cannot succeed.
    pub fn is_of_the_configuration(&self) -> bool {
        match self {
            Self::Config(_) | Self::NoAddress(_) => true,
            Self::Unreachable { .. } | Self::NotHttp(_) | Self::Unhealthy(_) => false,
        }
    }
}

impl HealthArgs {
    /// Asks the proxy that runs with the configuration `file`. Gives its words if the answer is yes.
    pub fn ask(&self, file: &Path) -> Result<String, HealthError> {
        let addr = match self.addr {
            Some(addr) => addr,
            None => configured(file)?,
        };
        let addr = reachable(addr);
        let path = if self.ready { "/readyz" } else { "/livez" };
        match get(addr, path, self.timeout, MAX_ANSWER)? {
            (200, body) => Ok(body),
            (_, body) => Err(HealthError::Unhealthy(body.trim().to_owned())),
        }
    }
}

/// Status code and body of a path at the admin address; at most `most` bytes are read.
pub(super) fn get(
    addr: SocketAddr,
    path: &str,
    timeout: Duration,
    most: u64,
) -> Result<(u16, String), HealthError> {
    let ask = || {
        let mut tcp = TcpStream::connect_timeout(&addr, timeout)?;
        tcp.set_read_timeout(Some(timeout))?;
        tcp.set_write_timeout(Some(timeout))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        tcp.take(most).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = ask().map_err(|error| HealthError::Unreachable { addr, error: plain(error) })?;
    let (status, body) = parse(&answer).ok_or(HealthError::NotHttp(addr))?;
    Ok((status, body.to_owned()))
}

/// The admin address of the configuration.
pub(super) fn configured(file: &Path) -> Result<SocketAddr, HealthError> {
    let config = check::read(file).map_err(HealthError::Config)?;
    config.admin.addr.ok_or_else(|| HealthError::NoAddress(file.display().to_string()))
}

/// The address at which a service that listens on `addr` is reached from its own machine.
pub(super) fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}

/// A time limit of a socket ends as "would block", which says nothing to a reader.
fn plain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        _ => error,
    }
}

/// Status code and body of an HTTP answer.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests;
