//! From a server name to a TCP connection: addresses, their order, and the race between them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::dial_error::DialError;
use super::resolver::{ResolveError, Resolver};

/// Most addresses of one name that are tried.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// Longest wait for one address.
pub(crate) const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// Head start of an address before the next one is tried concurrently (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// The addresses of `host` in the order to try them; at least one. Each login makes a new DNS query.
pub(crate) async fn resolve(
    resolver: &Resolver,
    (host, port): (&str, u16),
    deadline: Instant,
) -> Result<VecDeque<SocketAddr>, DialError> {
    let found =
        timeout_at(deadline, resolver.look_up(host, port)).await.unwrap_or(Err(ResolveError::TimedOut));
    let problem =
        |error: ResolveError| DialError::Resolve { host: host.to_owned(), problem: error.to_string() };
    Ok(in_turn(found.map_err(problem)?))
}

/// Interleaves the address families, beginning with that of the first address (RFC 8305, section 4), so that
/// one unreachable family does not delay the other.
fn in_turn(found: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v4 = found.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = found.into_iter().partition(|addr| addr.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = VecDeque::new();
    while order.len() < MAX_ADDRESSES {
        let before = order.len();
        order.extend(first.next());
        order.extend(second.next());
        if order.len() == before {
            break;
        }
    }
    order
}

/// Deadline of one address while `others` addresses are untried: an equal part of the time until `deadline`,
/// but at most `most`. The last address gets all remaining time.
pub(crate) fn part_of(deadline: Instant, others: usize, most: Duration) -> Instant {
    let parts = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
    if parts == 1 {
        return deadline;
    }
    let now = Instant::now();
    now + (deadline.saturating_duration_since(now) / parts).min(most)
}

/// Connects to the first of `addresses` that answers. A new attempt starts every [`STAGGER`], or as soon as
/// one has failed; `failed` is called for each failure. Addresses that remain in `addresses` have not failed.
pub(crate) async fn race(
    addresses: &mut VecDeque<SocketAddr>,
    deadline: Instant,
    failed: impl Fn(SocketAddr, &DialError),
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut last = DialError::TimedOut;
    let mut running = JoinSet::new(); // dropping it ends the losers
    let mut under_way = Vec::new();
    loop {
        match addresses.pop_front() {
            Some(addr) => {
                under_way.push(addr);
                running.spawn(async move { (addr, connect(addr).await) });
            }
            None if running.is_empty() => return Err(last),
            None => {}
        }
        let now = Instant::now();
        let until = if addresses.is_empty() { deadline } else { deadline.min(now + STAGGER) };
        match timeout_at(until, running.join_next()).await {
            Ok(Some(Ok((addr, connected)))) => {
                under_way.retain(|other| *other != addr);
                match connected {
                    Ok(tcp) => {
                        addresses.extend(under_way);
                        return Ok((tcp, addr));
                    }
                    Err(error) => {
                        failed(addr, &error);
                        last = error;
                    }
                }
            }
            Err(_) if until == deadline => return Err(last),
            // The next address starts, or the runtime has aborted our task.
            Err(_) | Ok(Some(Err(_)) | None) => {}
        }
    }
}

async fn connect(addr: SocketAddr) -> Result<TcpStream, DialError> {
    match timeout(ADDRESS_TIMEOUT, TcpStream::connect(addr)).await {
        Ok(connected) => connected.map_err(|error| DialError::Connect { addr, error }),
        Err(_) => Err(DialError::TimedOut),
    }
}

#[cfg(test)]
mod tests;
