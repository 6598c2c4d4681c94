//! Name resolution for all outgoing connections: upstreams, issuers and STS. A fixed number of threads, one look-up
//! per name shared by all callers that wait for it, and no cache.

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
use self::threads::{Lookups, Means};

/// Look-ups in progress at the same time, and so the largest number of resolver threads. `getaddrinfo` blocks its
/// thread for tens of seconds when DNS is silent.
pub const MAX_LOOKUPS: usize = 32;

/// Look-ups in progress of names whose last look-up failed or that were never looked up. The other threads stay free
/// for names that resolve, however many dead names are configured.
pub const MAX_UNPROVEN_LOOKUPS: usize = 24;

/// Names that wait for a thread; callers of further names are refused.
pub const MAX_QUEUED_NAMES: usize = 256;

/// Longest wait of a caller. Three name servers of which none answers take this long (`resolv.conf(5)`: two attempts
/// of 5 s each).
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Reasons why a name has no address now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The system's words, for example `Name or service not known`.
    #[error("{0}")]
    Failed(Arc<io::Error>),
    /// The name resolves to nothing.
    #[error("the name has no address")]
    NoAddress,
    /// No answer within [`MAX_WAIT`].
    #[error("no answer from DNS in time")]
    TimedOut,
    /// [`MAX_QUEUED_NAMES`] names wait for a thread.
    #[error("too many names are waiting for an answer from DNS")]
    Busy,
    /// The system gives no thread for the look-up.
    #[error("no thread for the look-up: {0}")]
    NoThread(Arc<io::Error>),
    /// The look-up ended without a result: it panicked, or it was given up because it did not end.
    #[error("the look-up was given up")]
    GivenUp,
}

/// The process's resolver; clones share threads and look-ups. Nothing is remembered: a look-up begins when nobody
/// waits for the same name yet.
#[derive(Clone)]
pub struct Resolver(Arc<Lookups>);

impl Resolver {
    /// The system's resolver, `getaddrinfo`: `/etc/hosts`, DNS and search domains, in the order of RFC 6724.
    pub fn system() -> Self {
        Self::from_fn(|host| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    /// A resolver with another source of addresses, for tests. The source may block. An address with port 0 gets the
    /// port that the caller asks for.
    pub fn from_fn(source: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Lookups::new(Means::of(Arc::new(source))))
    }

    /// The addresses of `host`, at least one. An IP address is its own answer. Dropping the future ends the wait and
    /// leaves the look-up to others.
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

    /// Counts of look-ups and callers.
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
