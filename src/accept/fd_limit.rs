//! File descriptors: how many a configuration can need, and whether the system gives them.

use std::io;

use crate::session::permits::MAX_REFUSALS;

/// Descriptors of a session: the client's socket and the server's.
const PER_SESSION: usize = 2;

/// Those that are needed besides: refusals that are being told, and as many again as both for cancels, scrapes and
/// fetches, and for listeners, runtimes and files.
const RESERVE: usize = 3 * MAX_REFUSALS;

/// The system allows too few.
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

/// Raises the process's own limit as far as the system lets it, and looks whether that is enough for `clients`
/// connections and `idle` ones of the pool. A system that does not say is believed to have enough.
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
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
            Ok(())
        }
    }
}

fn raise() -> io::Result<usize> {
    let allowed = rlimit::increase_nofile_limit(u64::MAX)?;
    Ok(usize::try_from(allowed).unwrap_or(usize::MAX))
}
