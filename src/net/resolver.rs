//! Name resolution for all outgoing connections: upstreams, issuers and STS. A fixed number of threads, one
//! lookup per name shared by all waiting callers, and no cache.

mod service;
mod status;
mod threads;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use self::status::WaitingCaller;
pub use self::status::{LookupDurations, ResolverStatus};
use self::threads::{LookupDeps, Lookups};

/// Most concurrent lookups, and so the largest number of resolver threads. `getaddrinfo` blocks its thread
/// for tens of seconds if DNS does not answer.
pub const MAX_LOOKUPS: usize = 32;

/// Most concurrent lookups of names whose last lookup failed or that were never looked up. The other threads
/// stay free for names that resolve, no matter how many configured names do not.
pub const MAX_UNPROVEN_LOOKUPS: usize = 24;

/// Most names waiting for a thread; callers of further names are refused.
pub const MAX_QUEUED_NAMES: usize = 256;

/// Longest wait of a caller. Three unresponsive name servers take this long (`resolv.conf(5)`: two attempts
/// of 5 s each).
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Reason why a name has no address now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// Error of the operating system, for example `Name or service not known`.
    #[error("{0}")]
    Failed(Arc<io::Error>),
    /// The result contains no address.
    #[error("the name has no address")]
    NoAddress,
    /// No answer within [`MAX_WAIT`].
    #[error("no answer from DNS in time")]
    TimedOut,
    /// The queue of [`MAX_QUEUED_NAMES`] names is full.
    #[error("too many DNS lookups are queued")]
    Busy,
    /// The operating system refused a thread for the lookup.
    #[error("no thread for the DNS lookup: {0}")]
    NoThread(Arc<io::Error>),
    /// The lookup ended without a result: it panicked, or it was abandoned because it did not end.
    #[error("the DNS lookup was abandoned")]
    GivenUp,
}

/// The process's resolver; clones share threads and lookups. Results are not cached: a caller joins a running
/// lookup of the same name or starts one.
#[derive(Clone)]
pub struct Resolver(Arc<Lookups>);

impl Resolver {
    /// The system's resolver, `getaddrinfo`: `/etc/hosts`, DNS and search domains, in the order of RFC 6724.
    pub fn system() -> Self {
        Self::from_fn(|host| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    /// A resolver with another source of addresses, for tests. The source may block. An address with port 0
    /// gets the port that the caller requests.
    pub fn from_fn(source: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Lookups::new(LookupDeps::of(Arc::new(source))))
    }

    /// Addresses of `host`, at least one. An IP address resolves to itself. Dropping the future ends the wait
    /// but not the lookup.
    pub async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let mut answer = Lookups::join(&self.0, host).inspect_err(|_| {
            self.0.counts.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let _waiting = WaitingCaller::begins(&self.0.counts.waiting);
        let answered = timeout(MAX_WAIT, answer.wait_for(Option::is_some)).await;
        let found = match answered {
            Err(_) => {
                self.0.counts.timed_out.fetch_add(1, Ordering::Relaxed);
                return Err(ResolveError::TimedOut);
            }
            Ok(Err(_)) => return Err(ResolveError::GivenUp), // the sender is gone without an answer
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(ResolveError::GivenUp))?,
        };
        let with_port = |addr: &SocketAddr| {
            let mut addr = *addr;
            if addr.port() == 0 {
                addr.set_port(port);
            }
            addr
        };
        Ok(found.iter().map(with_port).collect())
    }

    /// Counts of lookups and callers.
    pub fn status(&self) -> ResolverStatus {
        self.0.status()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
mod tests;
