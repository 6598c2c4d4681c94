//! Cache of an issuer's keys: refresh schedule, refetches for unknown keys, and maximum age.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::jwks::{KeySet, LeftOut};
use super::jwks_fetch::{FetchError, FetchedKeys, KeyFetcher};
use super::refetch::{FetchCounts, RefetchCause, SpentTokens};
use crate::config::IssuerSettings;
use crate::secret::TokenDigest;
use crate::supervisor::{TaskKind, TaskName, TaskSupervisor};
use crate::sync::lock;

/// Shortest time between regular refreshes, regardless of `max-age`.
const LEAST_REFRESH: Duration = Duration::from_secs(30);

/// Delay after a first failure, doubled up to [`LEAST_REFRESH`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Keys of one issuer. A task on the control-plane runtime refreshes them; dropping the store ends the task.
#[derive(Debug)]
pub struct KeyStore {
    shared: Arc<StoreState>,
    _task: DropGuard,
}

/// Current state of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Keys in the last good set.
    pub keys: usize,
    /// Skipped keys of the last good set.
    pub left_out: usize,
    /// Time since the last good fetch, or since start if there was none.
    pub age: Duration,
    /// Age at which the keys are no longer used.
    pub max_age: Duration,
    /// True if tokens can be verified: there is a set and it is not too old.
    pub usable: bool,
    /// Fetches since start.
    pub fetches: FetchCounts,
    /// Seconds by which this machine's clock is ahead of the issuer's; `None` before its first response.
    pub clock_ahead: Option<i64>,
}

/// Result of a refetch for a token whose key is unknown or whose signature does not hold.
#[derive(Debug)]
pub(super) enum RefetchAnswer {
    /// Key set of a fetch that began after the request.
    Keys(Arc<KeySet>),
    /// The fetch failed, so the issuer may have a new key.
    Failed,
    /// No fetch: one for this very token was made recently and did not help.
    InVain,
}

#[derive(Debug)]
struct StoreState {
    issuer: String,
    fetcher: ArcSwap<KeyFetcher>,
    current: ArcSwapOption<LoadedKeys>,
    wanted: Notify,
    progress: watch::Sender<FetchProgress>,
    spent: SpentTokens,
    /// Skipped keys that were logged.
    named: Mutex<Vec<LeftOut>>,
    started: Instant,
    refresh: Duration,
    max_stale: Duration,
    /// Least time between two fetches for tokens, because anyone can send any number of bad tokens.
    refetch_interval: Duration,
}

#[derive(Debug)]
struct LoadedKeys {
    keys: Arc<KeySet>,
    at: Instant,
}

/// Progress of fetches, watched by waiting logins.
#[derive(Clone, Copy, Debug, Default)]
struct FetchProgress {
    /// Fetches begun.
    begun: u64,
    /// Fetches ended, successfully or not.
    ended: u64,
    /// True if the last ended fetch failed.
    failed: bool,
    /// True if the next fetch begins immediately.
    at_once: bool,
    /// Reason of a token's request for the next fetch.
    asked: Option<RefetchCause>,
    /// Start of the last fetch that a token requested.
    last_asked: Option<Instant>,
    counts: FetchCounts,
}

impl FetchProgress {
    /// Start of the next fetch. `regular` is its time if no token requests one.
    fn next_fetch(&self, regular: Instant, now: Instant, interval: Duration) -> Instant {
        if self.at_once {
            return now;
        }
        match (self.asked, self.last_asked) {
            (None, _) => regular,
            (Some(_), None) => now,
            (Some(_), Some(last)) => regular.min(now.max(last + interval)),
        }
    }
}

impl KeyStore {
    /// Starts the refresh task. Does not wait for the issuer, which may be down.
    pub fn start(settings: &IssuerSettings, fetcher: KeyFetcher, supervisor: &TaskSupervisor) -> Self {
        let shared = Arc::new(StoreState::new(settings, fetcher));
        let stop = CancellationToken::new();
        let refresher = Arc::clone(&shared);
        let refresh = move || {
            let refresher = Arc::clone(&refresher);
            async move { refresher.keep_fresh().await }
        };
        supervisor.spawn(TaskName::of(TaskKind::KeyRefresher, &settings.name), stop.clone(), refresh);
        Self { shared, _task: stop.drop_guard() }
    }

    /// Fetches the keys again, now and later with `fetcher`. Used if the settings are unchanged but the
    /// certificate authorities may have changed. The current keys stay in use meanwhile.
    pub fn renew(&self, fetcher: KeyFetcher) {
        self.shared.fetcher.store(Arc::new(fetcher));
        self.shared.progress.send_modify(|progress| progress.at_once = true);
        self.shared.wanted.notify_one();
    }

    /// State of the key set, for health, metrics and `doctor`.
    pub fn status(&self) -> KeyStatus {
        let current = self.shared.current.load_full();
        KeyStatus {
            keys: current.as_ref().map_or(0, |loaded| loaded.keys.len()),
            left_out: current.as_ref().map_or(0, |loaded| loaded.keys.left_out_count()),
            age: current.as_ref().map_or(self.shared.started, |loaded| loaded.at).elapsed(),
            max_age: self.shared.max_stale,
            usable: self.shared.usable().is_some(),
            fetches: self.shared.progress.borrow().counts,
            clock_ahead: self.shared.fetcher.load().clock_ahead(),
        }
    }

    /// The key set; `None` if there is none or it is too old. Waits for a running fetch if there is none yet.
    pub(super) async fn usable(&self) -> Option<Arc<KeySet>> {
        match self.shared.usable() {
            Some(keys) => Some(keys),
            None => {
                self.after_running().await;
                self.shared.usable()
            }
        }
    }

    /// The key set after the running fetch; `None` if no fetch is running or it fails.
    pub(super) async fn after_running(&self) -> Option<Arc<KeySet>> {
        let progress = *self.shared.progress.borrow();
        let (first, running) = (progress.begun == 0, progress.begun > progress.ended);
        if !first && !running && !progress.at_once {
            return None;
        }
        let failed = self.shared.after(progress.ended + 1).await;
        self.shared.usable().filter(|_| !failed)
    }

    /// Key set of a fetch that begins after this call. Concurrent callers share the fetch. Fetches for tokens
    /// begin at least `jwks_refetch_interval` apart, and each caller waits for its fetch, so a flood of
    /// forged tokens cannot cause the refusal of a token with a new key. A token causes one such fetch per
    /// [`TOKEN_PAUSE`](super::refetch::TOKEN_PAUSE).
    pub(super) async fn refetched(&self, token: TokenDigest, cause: RefetchCause) -> RefetchAnswer {
        if self.shared.spent.contains(token, Instant::now()) {
            return RefetchAnswer::InVain;
        }
        let mut next = 0;
        self.shared.progress.send_if_modified(|progress| {
            next = progress.begun + 1;
            progress.asked.get_or_insert(cause);
            false
        });
        self.shared.wanted.notify_one();
        let failed = self.shared.after(next).await;
        match self.shared.usable() {
            Some(keys) if !failed => {
                self.shared.spent.add(token, Instant::now());
                RefetchAnswer::Keys(keys)
            }
            _ => RefetchAnswer::Failed,
        }
    }
}

impl StoreState {
    fn new(settings: &IssuerSettings, fetcher: KeyFetcher) -> Self {
        Self {
            issuer: settings.name.clone(),
            fetcher: ArcSwap::from_pointee(fetcher),
            current: ArcSwapOption::empty(),
            wanted: Notify::new(),
            progress: watch::Sender::new(FetchProgress::default()),
            spent: SpentTokens::default(),
            named: Mutex::default(),
            started: Instant::now(),
            refresh: settings.jwks_refresh,
            max_stale: settings.jwks_max_stale,
            refetch_interval: settings.jwks_refetch_interval,
        }
    }

    fn usable(&self) -> Option<Arc<KeySet>> {
        let loaded = self.current.load_full()?;
        (loaded.at.elapsed() <= self.max_stale).then(|| Arc::clone(&loaded.keys))
    }

    /// Waits until `number` fetches have ended. Returns true if the last one failed.
    async fn after(&self, number: u64) -> bool {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`.
        progress.wait_for(|progress| progress.ended >= number).await.is_ok_and(|progress| progress.failed)
    }

    async fn keep_fresh(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            let (asked, mut fetching) = self.begin();
            let fetcher = self.fetcher.load_full();
            // A set without the token's key may mean that the issuer moved its keys.
            let missed_in = asked.and_then(|_| self.usable());
            let fetched = fetcher.fetch(missed_in.as_deref()).await;
            fetching.failed = fetched.is_err();
            let pause = match fetched {
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
            drop(fetching);
            self.rest(pause).await;
        }
    }

    /// Records the start of a fetch. Returns the reason if a token requested it.
    fn begin(&self) -> (Option<RefetchCause>, FetchGuard<'_>) {
        let mut asked = None;
        self.progress.send_modify(|progress| {
            progress.begun += 1;
            progress.at_once = false;
            asked = progress.asked.take();
            if let Some(cause) = asked {
                progress.last_asked = Some(Instant::now());
                progress.counts.asked(cause);
            }
        });
        (asked, FetchGuard { shared: self, failed: true })
    }

    fn end(&self, failed: bool) {
        self.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.failed = failed;
            progress.counts.ended(failed);
        });
    }

    /// Waits until the next fetch is due: after `pause`, or earlier on request.
    async fn rest(&self, pause: Duration) {
        let regular = Instant::now() + pause;
        loop {
            let next = self.progress.borrow().next_fetch(regular, Instant::now(), self.refetch_interval);
            tokio::select! {
                () = sleep_until(next) => return,
                () = self.wanted.notified() => {}
            }
        }
    }

    fn take(&self, fetched: FetchedKeys) -> Duration {
        let (keys, left_out) = (fetched.keys.len(), fetched.keys.left_out_count());
        self.name_left_out(fetched.keys.left_out());
        self.current.store(Some(Arc::new(LoadedKeys { keys: Arc::new(fetched.keys), at: Instant::now() })));
        tracing::debug!(issuer = self.issuer, keys, left_out, "key set fetched");
        fetched.max_age.unwrap_or(self.refresh).clamp(LEAST_REFRESH, self.refresh.max(LEAST_REFRESH))
    }

    /// Logs each skipped key once.
    fn name_left_out(&self, left_out: &[LeftOut]) {
        let mut named = lock(&self.named);
        for LeftOut { name, fault } in left_out.iter().filter(|one| !named.contains(one)) {
            let issuer = &self.issuer;
            if fault.is_other_purpose() {
                tracing::info!(issuer, key = name, reason = %fault, "issuer key has another purpose and is not used");
            } else {
                tracing::warn!(issuer, key = name, reason = %fault, "issuer key cannot be used");
            }
        }
        *named = left_out.to_vec();
    }

    fn report(&self, error: &FetchError) {
        let usable = self.usable().is_some();
        tracing::warn!(issuer = self.issuer, %error, usable, "key set fetch failed");
    }
}

/// Guard of a running fetch. Dropping it, also in a panic, ends the fetch and wakes the waiting logins.
struct FetchGuard<'a> {
    shared: &'a StoreState,
    failed: bool,
}

impl Drop for FetchGuard<'_> {
    fn drop(&mut self) {
        self.shared.end(self.failed);
    }
}

#[cfg(test)]
mod tests;
