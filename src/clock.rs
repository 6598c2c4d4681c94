//! The one place that reads the wall clock; everything else is told the time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time that tokens and credentials are compared with. Deadlines use the monotonic clock instead.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// A clock that tells what `tell` says, for tests that move time.
    pub fn from_fn(tell: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// The present moment.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// Whole seconds since 1970, the unit of `exp`, `nbf` and `iat` (RFC 7519, section 2, `NumericDate`).
    pub fn unix_seconds(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
