//! One process at a time: a lock on an empty file, which the system releases when its holder dies.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::CacheError;
use super::private_path::{io, private_options};

/// Longest wait: longer than a refresh, which is bounded by the limits of the issuer's client.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(45);

/// Pause between two tries. A blocking wait would need a thread.
const PAUSE: Duration = Duration::from_millis(20);

/// The lock of a profile, released on drop.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

impl CacheLock {
    /// Waits for the lock at `path`, whose folder is there.
    pub(super) async fn acquire(path: &Path) -> Result<Self, CacheError> {
        let file = private_options().create(true).truncate(false).open(path).map_err(io(path))?;
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(io(path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(CacheError::Busy { path: path.to_owned() });
                }
                Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
            }
        }
    }
}
