//! File descriptor limit: the number that a configuration can need, and raising the process's limit to it.

use std::io;

use crate::session::permits::MAX_REFUSALS;

/// Descriptors of a session: the client's socket and the server's.
const PER_SESSION: usize = 2;

/// Descriptors for other purposes: pending refusals, as many for the connections of each HTTPS page, and twice as many
/// for cancels, scrapes, fetches, listeners, runtimes and files.
const RESERVE: usize = 5 * MAX_REFUSALS;
const _: () = assert!(MAX_REFUSALS * PER_SESSION <= RESERVE);

/// The system's limit is too low.
#[derive(Debug, thiserror::Error)]
#[error(
    "limits.max_client_conn = {clients} needs {needed} file descriptors, and the system allows {allowed}: raise \
     LimitNOFILE of the service (ulimit -Hn), or set limits.max_client_conn to at most {possible}"
)]
pub struct TooFewDescriptors {
    clients: usize,
    needed: usize,
    allowed: usize,
    possible: usize,
}

/// Raises the process's soft limit up to the hard limit and checks that it suffices for `clients` connections
/// and `idle` pooled ones. If the system does not report a limit, it is assumed to suffice.
pub fn provide(clients: usize, idle: usize) -> Result<(), TooFewDescriptors> {
    let besides = RESERVE.saturating_add(idle);
    let needed = clients.saturating_mul(PER_SESSION).saturating_add(besides);
    match raise() {
        Ok(allowed) if allowed < needed => Err(TooFewDescriptors {
            clients,
            needed,
            allowed,
            possible: allowed.saturating_sub(besides) / PER_SESSION,
        }),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "the file descriptor limit cannot be raised");
            Ok(())
        }
    }
}

fn raise() -> io::Result<usize> {
    let allowed = rlimit::increase_nofile_limit(u64::MAX)?;
    Ok(usize::try_from(allowed).unwrap_or(usize::MAX))
}
