//! Resolver threads and the queue of names.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::status::{LookupCounts, ResolverStatus};
use super::{MAX_LOOKUPS, MAX_QUEUED_NAMES, MAX_UNPROVEN_LOOKUPS, ResolveError};
use crate::sync::{lock, wait_timeout};

/// Time after which an idle thread ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Age of a lookup after which the next caller starts another one of the same name.
const LOST_AFTER: Duration = Duration::from_mins(1);

/// Most lookups of one name that are abandoned in this way; further callers wait for the last one.
const MAX_LOST: usize = 2;

/// Most names remembered as resolving; beyond it they are learned again. Names come from the configuration.
const MAX_PROVEN: usize = 1_024;

/// A blocking source of addresses.
pub(super) type Source = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Result of a lookup, shared by its callers.
type Answer = Result<Arc<[SocketAddr]>, ResolveError>;

/// Dependencies of the lookups that tests replace.
pub(super) struct LookupDeps {
    pub(super) source: Source,
    pub(super) spawn: fn(Arc<Lookups>) -> io::Result<()>,
    pub(super) lost_after: Duration,
}

impl LookupDeps {
    pub(super) fn of(source: Source) -> Self {
        Self { source, spawn, lost_after: LOST_AFTER }
    }
}

/// All lookups of a resolver.
pub(super) struct Lookups {
    deps: LookupDeps,
    state: Mutex<LookupQueue>,
    work: Condvar,
    pub(super) counts: LookupCounts,
}

#[derive(Default)]
struct LookupQueue {
    lookups: HashMap<Arc<str>, Lookup>,
    queue: VecDeque<Arc<str>>,
    /// Names whose last lookup succeeded.
    proven: HashSet<Arc<str>>,
    threads: usize,
    idle: usize,
    running: usize,
    running_unproven: usize,
    /// Number of the next lookup.
    next: u64,
}

/// A lookup that is queued or in progress.
struct Lookup {
    number: u64,
    begun: Option<Instant>,
    lost: usize,
    answer: watch::Sender<Option<Answer>>,
}

/// A lookup that a thread runs.
struct LookupJob {
    name: Arc<str>,
    number: u64,
    proven: bool,
}

impl Lookups {
    pub(super) fn new(deps: LookupDeps) -> Arc<Self> {
        let (state, work, counts) = (Mutex::default(), Condvar::new(), LookupCounts::default());
        Arc::new(Self { deps, state, work, counts })
    }

    /// Subscribes to the answer for `host`: that of the lookup in progress, else of a new one.
    pub(super) fn join(
        this: &Arc<Self>,
        host: &str,
    ) -> Result<watch::Receiver<Option<Answer>>, ResolveError> {
        let mut state = this.lock();
        let lost = match state.lookups.get(host) {
            None => 0,
            Some(lookup) if lookup.is_lost(this.deps.lost_after) => lookup.lost + 1,
            Some(lookup) => return Ok(lookup.answer.subscribe()),
        };
        if state.queue.len() >= MAX_QUEUED_NAMES {
            state.forget_abandoned();
        }
        if state.queue.len() >= MAX_QUEUED_NAMES {
            return Err(ResolveError::Busy);
        }
        let (name, number) = (Arc::<str>::from(host), state.next);
        let (sender, receiver) = watch::channel(None);
        state.next += 1;
        state.queue.push_back(Arc::clone(&name));
        state.lookups.insert(Arc::clone(&name), Lookup { number, begun: None, lost, answer: sender });
        if state.queue.len() <= state.idle || state.threads >= MAX_LOOKUPS {
            drop(state);
            this.work.notify_one();
            return Ok(receiver);
        }
        state.threads += 1;
        drop(state);
        if let Err(error) = (this.deps.spawn)(Arc::clone(this)) {
            let mut state = this.lock();
            state.threads -= 1;
            // If there is at least one thread, the name's turn will come.
            if state.threads == 0 {
                let error = ResolveError::NoThread(Arc::new(error));
                state.fail_queued(&error);
                return Err(error);
            }
        }
        Ok(receiver)
    }

    pub(super) fn status(&self) -> ResolverStatus {
        let (in_flight, queued) = {
            let state = self.lock();
            (state.running, state.queue.len())
        };
        ResolverStatus {
            in_flight,
            queued,
            waiting: self.counts.waiting.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            timed_out: self.counts.timed_out.load(Ordering::Relaxed),
            durations: self.counts.durations(),
        }
    }

    /// Main loop of one thread. Ends after [`IDLE_TIMEOUT`] without work.
    fn work(&self) {
        let mut state = self.lock();
        let mut waited = false;
        loop {
            if let Some(job) = state.take() {
                drop(state);
                let answer = self.look_up(&job.name);
                state = self.lock();
                state.end(&job, answer);
                waited = false;
            } else if waited {
                state.threads -= 1;
                return;
            } else {
                state.idle += 1;
                (state, waited) = wait_timeout(&self.work, state, IDLE_TIMEOUT);
                state.idle -= 1;
            }
        }
    }

    fn look_up(&self, name: &str) -> Answer {
        let begun = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(|| (self.deps.source)(name)));
        self.counts.took(begun.elapsed());
        let answer = match found {
            Ok(Ok(found)) if found.is_empty() => Err(ResolveError::NoAddress),
            Ok(Ok(found)) => Ok(found.into()),
            Ok(Err(error)) => Err(ResolveError::Failed(Arc::new(error))),
            Err(_) => Err(ResolveError::GivenUp),
        };
        if answer.is_err() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, LookupQueue> {
        lock(&self.state)
    }
}

impl Lookup {
    /// True if no further caller should wait for this lookup.
    fn is_lost(&self, after: Duration) -> bool {
        self.lost < MAX_LOST && self.begun.is_some_and(|begun| begun.elapsed() >= after)
    }
}

impl LookupQueue {
    /// Takes the next lookup. Names that resolve go first; the number of concurrent lookups of other names is
    /// limited.
    fn take(&mut self) -> Option<LookupJob> {
        self.forget_abandoned();
        let proven = self.queue.iter().position(|name| self.proven.contains(name));
        let unproven_may = self.running_unproven < MAX_UNPROVEN_LOOKUPS;
        let place = proven.or_else(|| unproven_may.then_some(0))?;
        let name = self.queue.remove(place)?;
        let lookup = self.lookups.get_mut(&name)?;
        lookup.begun = Some(Instant::now());
        self.running += 1;
        self.running_unproven += usize::from(proven.is_none());
        Some(LookupJob { number: lookup.number, name, proven: proven.is_some() })
    }

    fn end(&mut self, job: &LookupJob, answer: Answer) {
        self.running -= 1;
        self.running_unproven -= usize::from(!job.proven);
        if answer.is_err() {
            self.proven.remove(&job.name);
        } else if !self.proven.contains(&job.name) {
            if self.proven.len() >= MAX_PROVEN {
                self.proven.clear();
            }
            self.proven.insert(Arc::clone(&job.name));
        }
        // An abandoned lookup has a successor, whose callers wait for its own answer.
        if self.lookups.get(&job.name).is_some_and(|lookup| lookup.number == job.number)
            && let Some(lookup) = self.lookups.remove(&job.name)
        {
            lookup.answer.send_replace(Some(answer));
        }
    }

    /// Answers all queued names with `error`.
    fn fail_queued(&mut self, error: &ResolveError) {
        for name in self.queue.drain(..) {
            if let Some(lookup) = self.lookups.remove(&name) {
                lookup.answer.send_replace(Some(Err(error.clone())));
            }
        }
    }

    /// Removes queued names without callers.
    fn forget_abandoned(&mut self) {
        let lookups = &mut self.lookups;
        self.queue.retain(|name| {
            let waited_for = lookups.get(name).is_some_and(|lookup| lookup.answer.receiver_count() > 0);
            if !waited_for {
                lookups.remove(name);
            }
            waited_for
        });
    }
}

/// Starts a thread for `lookups`.
fn spawn(lookups: Arc<Lookups>) -> io::Result<()> {
    thread::Builder::new().name("resolver".to_owned()).spawn(move || lookups.work()).map(drop)
}
