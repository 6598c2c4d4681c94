//! Locks for short, complete updates.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also after a panic. No code panics while it holds a lock, and every update leaves the value whole.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
