//! Waits between a test and a stand-in.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Takes a lock even if a failed assertion elsewhere poisoned it: the failed test already says what went wrong.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runtime all stand-ins live on. It outlives the runtime of any single `#[tokio::test]`, so that tests can
/// share a stand-in, and it lets plain `#[test]` functions start one.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("aws-emulator")
            .enable_all()
            .build()
            .expect("a runtime for the stand-ins")
    })
}

/// A gate that holds requests back until the test lets them go: slowness without a clock.
#[derive(Clone, Debug)]
pub struct AnswerHold(Arc<HoldState>);

#[derive(Debug)]
struct HoldState {
    released: watch::Sender<bool>,
    arrived: WatchedCounter,
}

impl AnswerHold {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(HoldState { released: watch::Sender::new(false), arrived: WatchedCounter::default() }))
    }

    /// Waits until `n` requests have come to the gate.
    pub async fn arrived(&self, n: usize) {
        self.0.arrived.reaches(n).await;
    }

    /// Number of requests that have come to the gate so far.
    pub fn count(&self) -> usize {
        self.0.arrived.get()
    }

    /// Opens the gate, for those who wait and for all who come later.
    pub fn release(&self) {
        self.0.released.send_replace(true);
    }

    /// Comes to the gate and waits for it to open.
    pub(crate) async fn pass(&self) {
        self.0.arrived.add();
        let mut released = self.0.released.subscribe();
        // An error means that nobody is left who could open it; then there is nothing to wait for.
        let _ = released.wait_for(|open| *open).await;
    }
}

impl Default for AnswerHold {
    fn default() -> Self {
        Self::new()
    }
}

/// A number that only grows and that can be waited for.
#[derive(Debug)]
pub(crate) struct WatchedCounter(watch::Sender<usize>);

impl Default for WatchedCounter {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl WatchedCounter {
    pub(crate) fn add(&self) {
        self.0.send_modify(|n| *n += 1);
    }

    pub(crate) fn get(&self) -> usize {
        *self.0.borrow()
    }

    pub(crate) fn reaches(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        let mut seen = self.0.subscribe();
        async move {
            // An error means that the counter is gone and will not grow any more.
            let _ = seen.wait_for(|count| *count >= n).await;
        }
    }
}
