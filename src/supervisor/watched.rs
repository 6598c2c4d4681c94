//! Health state of one supervised task.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{TaskName, TaskRules};
use crate::sync::lock;

/// Heartbeats within [`TaskRules::stuck_after`].
const BEATS: u32 = 10;

/// Heartbeats that a thread may miss before it gets no new work.
const MISSED_BEATS: u32 = 3;

/// State of one task.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) name: TaskName,
    registered: Instant,
    beat_every: Duration,
    /// Milliseconds from `registered` to the last heartbeat. Only threads have heartbeats.
    last_beat: AtomicU64,
    has_heart: AtomicBool,
    /// Milliseconds from `registered` to the beginning of the current poll, plus one; 0 between polls.
    step: AtomicU64,
    lock_progress: Mutex<TaskProgress>,
}

#[derive(Clone, Copy, Debug)]
struct TaskProgress {
    state: TaskState,
    /// Time of the last state change, on tokio's clock, as are the pauses.
    since: tokio::time::Instant,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskState {
    Running,
    Pausing,
    Dead,
}

/// A task that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFault {
    /// The task.
    pub task: TaskName,
    /// The defect.
    pub defect: TaskDefect,
}

/// Kinds of defects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskDefect {
    /// Number of consecutive failures.
    Failing(u32),
    /// Duration of a poll that has not returned.
    Blocked(Duration),
    /// Time since the thread's last heartbeat.
    Silent(Duration),
    /// The task has ended and cannot be restarted.
    Dead,
}

impl fmt::Display for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = &self.task;
        match self.defect {
            TaskDefect::Failing(failures) => {
                write!(f, "{task} keeps failing: {failures} consecutive failures")
            }
            TaskDefect::Blocked(time) => write!(f, "{task} has been blocked for {} s", time.as_secs()),
            TaskDefect::Silent(time) => write!(f, "{task} has not answered for {} s", time.as_secs()),
            TaskDefect::Dead => write!(f, "{task} has ended"),
        }
    }
}

/// Heartbeat of a thread.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Watched>);

impl Heartbeat {
    pub(super) fn of(watched: &Arc<Watched>) -> Self {
        watched.has_heart.store(true, Ordering::Relaxed);
        watched.beat();
        Self(Arc::clone(watched))
    }

    /// True if the thread has answered recently and can take new work.
    pub fn is_recent(&self) -> bool {
        self.0.since_beat() < self.0.beat_every * MISSED_BEATS
            && self.0.lock_progress().state != TaskState::Dead
    }
}

/// Guard of a poll in progress.
pub(super) struct WatchedStep<'a>(&'a Watched);

impl Drop for WatchedStep<'_> {
    fn drop(&mut self) {
        self.0.step.store(0, Ordering::Relaxed);
    }
}

impl Watched {
    pub(super) fn new(name: TaskName, rules: &TaskRules) -> Self {
        let lock_progress =
            TaskProgress { state: TaskState::Running, since: tokio::time::Instant::now(), failures: 0 };
        Self {
            name,
            registered: Instant::now(),
            beat_every: rules.stuck_after / BEATS,
            last_beat: AtomicU64::new(0),
            has_heart: AtomicBool::new(false),
            step: AtomicU64::new(0),
            lock_progress: Mutex::new(lock_progress),
        }
    }

    pub(super) fn beat_every(&self) -> Duration {
        self.beat_every
    }

    pub(super) fn beat(&self) {
        self.last_beat.store(self.now(), Ordering::Relaxed);
    }

    /// Records the beginning of a poll.
    pub(super) fn steps(&self) -> WatchedStep<'_> {
        self.step.store(self.now() + 1, Ordering::Relaxed);
        WatchedStep(self)
    }

    /// Records the beginning of a run.
    pub(super) fn begins(&self) {
        let mut lock_progress = self.lock_progress();
        (lock_progress.state, lock_progress.since) = (TaskState::Running, tokio::time::Instant::now());
    }

    /// Records a failed run. Returns the pause before the next one.
    pub(super) fn failed(&self, rules: &TaskRules) -> Duration {
        let mut lock_progress = self.lock_progress();
        lock_progress.failures =
            if lock_progress.is_stable(rules) { 1 } else { lock_progress.failures.saturating_add(1) };
        (lock_progress.state, lock_progress.since) = (TaskState::Pausing, tokio::time::Instant::now());
        rules.first_pause.saturating_mul(1 << (lock_progress.failures - 1).min(16)).min(rules.longest_pause)
    }

    /// Records that the task has ended because of a fault of its supervisor.
    pub(super) fn died(&self) {
        self.lock_progress().state = TaskState::Dead;
    }

    pub(super) fn is_up(&self, rules: &TaskRules) -> bool {
        self.lock_progress().state == TaskState::Running && self.hang(rules).is_none()
    }

    pub(super) fn fault(&self, rules: &TaskRules) -> Option<TaskFault> {
        let lock_progress = *self.lock_progress();
        let defect = if lock_progress.state == TaskState::Dead {
            TaskDefect::Dead
        } else if lock_progress.failures >= rules.failing_after && !lock_progress.is_stable(rules) {
            TaskDefect::Failing(lock_progress.failures)
        } else {
            self.hang(rules)?
        };
        Some(TaskFault { task: self.name.clone(), defect })
    }

    /// The defect if a poll or a heartbeat takes too long.
    fn hang(&self, rules: &TaskRules) -> Option<TaskDefect> {
        let silent = self.since_beat();
        if self.has_heart.load(Ordering::Relaxed) && silent >= rules.stuck_after {
            return Some(TaskDefect::Silent(silent));
        }
        let begun = self.step.load(Ordering::Relaxed).checked_sub(1)?;
        let time = Duration::from_millis(self.now().saturating_sub(begun));
        (time >= rules.stuck_after).then_some(TaskDefect::Blocked(time))
    }

    fn since_beat(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last_beat.load(Ordering::Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.registered.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn lock_progress(&self) -> MutexGuard<'_, TaskProgress> {
        lock(&self.lock_progress)
    }
}

impl TaskProgress {
    /// True if the task has run long enough to count as stable.
    fn is_stable(&self, rules: &TaskRules) -> bool {
        self.state == TaskState::Running && self.since.elapsed() >= rules.stable_after
    }
}
