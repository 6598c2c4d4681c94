//! Holds an issuer's keys and decides when they are fetched again and when they are too old.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::auth::fetch::{FetchError, Fetched, KeyFetcher};
use crate::auth::jwks::KeySet;
use crate::config::IssuerSettings;

/// Least time between two fetches for tokens with unknown keys: strangers can send any number of those.
pub const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);

/// Shortest time a key set is kept, whatever its issuer says.
const LEAST_REFRESH: Duration = Duration::from_secs(30);

/// Wait after a first failure, doubled up to [`LEAST_REFRESH`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The keys of one issuer, kept fresh by a task on the control-plane runtime that ends when this is dropped.
#[derive(Debug)]
pub struct KeyStore {
    shared: Arc<Shared>,
    _task: DropGuard,
}

/// How a key set is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Keys in the last good set.
    pub keys: usize,
    /// Since the last good fetch; `None` when there was none.
    pub age: Option<Duration>,
    /// Whether there is a set and it is not too old: whether tokens can be verified.
    pub usable: bool,
}

#[derive(Debug)]
struct Shared {
    issuer: String,
    fetcher: ArcSwap<KeyFetcher>,
    current: ArcSwapOption<Loaded>,
    wanted: Notify,
    progress: watch::Sender<Progress>,
    refresh: Duration,
    max_stale: Duration,
}

#[derive(Debug)]
struct Loaded {
    keys: Arc<KeySet>,
    at: Instant,
}

/// What waiting logins look at.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Fetches that have ended, well or badly.
    ended: u64,
    /// Whether one is under way or has been asked for.
    under_way: bool,
    /// When a token with an unknown key last caused one.
    for_unknown_key: Option<Instant>,
}

impl KeyStore {
    /// Starts the refreshing task on `runtime`; does not wait for the issuer and does not need it to be up.
    pub fn start(settings: &IssuerSettings, fetcher: KeyFetcher, runtime: &Handle) -> Self {
        let shared = Arc::new(Shared {
            issuer: settings.name.clone(),
            fetcher: ArcSwap::from_pointee(fetcher),
            current: ArcSwapOption::empty(),
            wanted: Notify::new(),
            progress: watch::Sender::new(Progress { under_way: true, ..Progress::default() }),
            refresh: settings.jwks_refresh,
            max_stale: settings.jwks_max_stale,
        });
        let stop = CancellationToken::new();
        let (keeper, stopped) = (Arc::clone(&shared), stop.clone());
        runtime.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = keeper.keep_fresh() => {}
            }
        });
        Self { shared, _task: stop.drop_guard() }
    }

    /// Fetches the keys again, from now on with `fetcher`: for unchanged settings whose certificate authorities
    /// may have changed. The keys there are stay in use meanwhile.
    pub fn renew(&self, fetcher: KeyFetcher) {
        self.shared.fetcher.store(Arc::new(fetcher));
        self.shared.progress.send_modify(|progress| progress.under_way = true);
        self.shared.wanted.notify_one();
    }

    /// How the key set is, for health, metrics and `doctor`.
    pub fn status(&self) -> KeyStatus {
        let current = self.shared.current.load_full();
        KeyStatus {
            keys: current.as_ref().map_or(0, |loaded| loaded.keys.len()),
            age: current.as_ref().map(|loaded| loaded.at.elapsed()),
            usable: self.shared.usable().is_some(),
        }
    }

    /// The key set, unless there is none or it is too old; waits for a fetch that is under way when there is
    /// none yet.
    pub(super) async fn usable(&self) -> Option<Arc<KeySet>> {
        if let Some(keys) = self.shared.usable() {
            return Some(keys);
        }
        let progress = *self.shared.progress.borrow();
        if progress.under_way {
            self.shared.fetch_after(progress.ended).await;
        }
        self.shared.usable()
    }

    /// The key set after a fetch that an unknown key is worth: one that is under way, or a new one, at most
    /// every [`UNKNOWN_KEY_PAUSE`]. Nothing is waited for when neither is due.
    pub(super) async fn refetched(&self) -> Option<Arc<KeySet>> {
        let mut wait_for = None;
        let now = Instant::now();
        self.shared.progress.send_if_modified(|progress| {
            let paused = progress.for_unknown_key.is_some_and(|last| now - last < UNKNOWN_KEY_PAUSE);
            if progress.under_way || !paused {
                wait_for = Some(progress.ended);
            }
            if !progress.under_way && !paused {
                progress.under_way = true;
                progress.for_unknown_key = Some(now);
                self.shared.wanted.notify_one();
            }
            false
        });
        if let Some(ended) = wait_for {
            self.shared.fetch_after(ended).await;
        }
        self.shared.usable()
    }
}

impl Shared {
    fn usable(&self) -> Option<Arc<KeySet>> {
        let loaded = self.current.load_full()?;
        (loaded.at.elapsed() <= self.max_stale).then(|| Arc::clone(&loaded.keys))
    }

    /// Waits until more than `ended` fetches have ended.
    async fn fetch_after(&self, ended: u64) {
        let mut progress = self.progress.subscribe();
        let _ = progress.wait_for(|progress| progress.ended > ended).await; // the sender lives as long as we
    }

    async fn keep_fresh(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            let fetcher = self.fetcher.load_full();
            let pause = match fetcher.fetch().await {
                Ok(fetched) => {
                    retry = FIRST_RETRY;
                    self.take(fetched)
                }
                Err(error) => {
                    self.report(&error);
                    let pause = retry;
                    retry = (retry * 2).min(LEAST_REFRESH);
                    pause
                }
            };
            self.progress.send_modify(|progress| {
                progress.ended += 1;
                progress.under_way = false;
            });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
            self.progress.send_modify(|progress| progress.under_way = true);
        }
    }

    fn take(&self, fetched: Fetched) -> Duration {
        let keys = fetched.keys.len();
        self.current.store(Some(Arc::new(Loaded { keys: Arc::new(fetched.keys), at: Instant::now() })));
        tracing::debug!(issuer = self.issuer, keys, "key set fetched");
        fetched.max_age.unwrap_or(self.refresh).clamp(LEAST_REFRESH, self.refresh.max(LEAST_REFRESH))
    }

    fn report(&self, error: &FetchError) {
        let usable = self.usable().is_some();
        tracing::warn!(issuer = self.issuer, %error, usable, "the key set cannot be fetched");
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
