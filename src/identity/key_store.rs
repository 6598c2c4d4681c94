//! Holds an issuer's keys and decides when they are fetched again and when they are too old.

use std::sync::{Arc, Mutex, PoisonError};
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

/// Shortest time a key set is kept, whatever its issuer says.
const LEAST_REFRESH: Duration = Duration::from_secs(30);

/// Wait after a first failure, doubled up to [`LEAST_REFRESH`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The keys of one issuer, kept fresh by a task on the control-plane runtime that ends when this is dropped.
#[derive(Debug)]
pub struct KeyStore {
    shared: Arc<StoreState>,
    _task: DropGuard,
}

/// How a key set is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Keys in the last good set.
    pub keys: usize,
    /// Keys of the last good set that are not used.
    pub left_out: usize,
    /// Time since the last good fetch, or since the start when there was none.
    pub age: Duration,
    /// Age from which the keys are no longer used.
    pub max_age: Duration,
    /// Whether there is a set and it is not too old: whether tokens can be verified.
    pub usable: bool,
    /// Fetches since the start.
    pub fetches: FetchCounts,
    /// Seconds by which this machine's clock is ahead of that of the issuer; `None` before its first answer.
    pub clock_ahead: Option<i64>,
}

/// The answer to a token whose key is unknown or whose signature does not hold.
#[derive(Debug)]
pub(super) enum RefetchAnswer {
    /// The set of a fetch that began after the question.
    Keys(Arc<KeySet>),
    /// The fetch failed, so the issuer may have a new key.
    Failed,
    /// A fetch for this very token has been in vain lately.
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
    /// Keys that the log has named.
    named: Mutex<Vec<LeftOut>>,
    started: Instant,
    refresh: Duration,
    max_stale: Duration,
    /// Least time between two fetches for tokens: strangers can send any number of those.
    refetch_interval: Duration,
}

#[derive(Debug)]
struct LoadedKeys {
    keys: Arc<KeySet>,
    at: Instant,
}

/// What waiting logins look at.
#[derive(Clone, Copy, Debug, Default)]
struct FetchProgress {
    /// Fetches that have begun.
    begun: u64,
    /// Fetches that have ended, well or badly.
    ended: u64,
    /// True if the last ended fetch failed.
    failed: bool,
    /// True if the next fetch begins at once.
    at_once: bool,
    /// A token asks for the next fetch.
    asked: Option<RefetchCause>,
    /// When the last fetch that a token had asked for began.
    last_asked: Option<Instant>,
    counts: FetchCounts,
}

impl FetchProgress {
    /// When the next fetch begins, if it would begin at `regular` without being asked for.
    fn due(&self, regular: Instant, now: Instant, interval: Duration) -> Instant {
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
    /// Starts the refreshing task; does not wait for the issuer and does not need it to be up.
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

    /// Fetches the keys again, from now on with `fetcher`: for unchanged settings whose certificate authorities
    /// may have changed. The keys there are stay in use meanwhile.
    pub fn renew(&self, fetcher: KeyFetcher) {
        self.shared.fetcher.store(Arc::new(fetcher));
        self.shared.progress.send_modify(|progress| progress.at_once = true);
        self.shared.wanted.notify_one();
    }

    /// How the key set is, for health, metrics and `doctor`.
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

    /// The key set, unless there is none or it is too old; waits for a fetch that is under way when there is
    /// none yet.
    pub(super) async fn usable(&self) -> Option<Arc<KeySet>> {
        match self.shared.usable() {
            Some(keys) => Some(keys),
            None => {
                self.after_running().await;
                self.shared.usable()
            }
        }
    }

    /// The key set after the fetch that is under way; `None` when there is none under way, or it fails.
    pub(super) async fn after_running(&self) -> Option<Arc<KeySet>> {
        let progress = *self.shared.progress.borrow();
        let (first, running) = (progress.begun == 0, progress.begun > progress.ended);
        if !first && !running && !progress.at_once {
            return None;
        }
        let failed = self.shared.after(progress.ended + 1).await;
        self.shared.usable().filter(|_| !failed)
    }

    /// The key set of a fetch that begins after this call. Concurrent callers share the fetch. Fetches for tokens begin at
    /// least `jwks_refetch_interval` apart, and each caller waits for its fetch: a flood of made-up tokens cannot refuse the
    /// bearer of a new key. A token causes one such fetch in [`TOKEN_PAUSE`](super::refetch::TOKEN_PAUSE).
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

    /// Waits until `number` fetches have ended; whether the last one failed.
    async fn after(&self, number: u64) -> bool {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as we.
        progress.wait_for(|progress| progress.ended >= number).await.is_ok_and(|progress| progress.failed)
    }

    async fn keep_fresh(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            let (asked, mut fetching) = self.begin();
            let fetcher = self.fetcher.load_full();
            // What a token has missed may be elsewhere by now.
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

    /// Notes that a fetch begins; what it was asked for, where a token did.
    fn begin(&self) -> (Option<RefetchCause>, Fetching<'_>) {
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
        (asked, Fetching { shared: self, failed: true })
    }

    fn end(&self, failed: bool) {
        self.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.failed = failed;
            progress.counts.ended(failed);
        });
    }

    /// Waits until the next fetch is due: after `pause`, or earlier if it is asked for.
    async fn rest(&self, pause: Duration) {
        let regular = Instant::now() + pause;
        loop {
            let due = self.progress.borrow().due(regular, Instant::now(), self.refetch_interval);
            tokio::select! {
                () = sleep_until(due) => return,
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

    /// Names each key that is not used, once.
    fn name_left_out(&self, left_out: &[LeftOut]) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        for LeftOut { name, fault } in left_out.iter().filter(|one| !named.contains(one)) {
            let issuer = &self.issuer;
            if fault.is_other_purpose() {
                tracing::info!(issuer, key = name, reason = %fault, "a key of the issuer is not for tokens");
            } else {
                tracing::warn!(issuer, key = name, reason = %fault, "a key of the issuer cannot be used");
            }
        }
        *named = left_out.to_vec();
    }

    fn report(&self, error: &FetchError) {
        let usable = self.usable().is_some();
        tracing::warn!(issuer = self.issuer, %error, usable, "the key set cannot be fetched");
    }
}

/// A fetch in progress. It ends when this is dropped, also by a panic, and those who wait for it go on.
struct Fetching<'a> {
    shared: &'a StoreState,
    failed: bool,
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.shared.end(self.failed);
    }
}

#[cfg(test)]
mod tests;
