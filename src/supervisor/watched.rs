//! One supervised task as the supervisor sees it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{TaskName, TaskRules};

/// Heartbeats within [`TaskRules::stuck_after`].
const BEATS: u32 = 10;

/// Heartbeats that a thread may miss before it gets no new work.
const MISSED_BEATS: u32 = 3;

/// The course of one task.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) name: TaskName,
    registered: Instant,
    beat_every: Duration,
    /// Milliseconds from `registered` to the last heartbeat; only threads have heartbeats.
    last_beat: AtomicU64,
    has_heart: AtomicBool,
    /// Milliseconds from `registered` to the beginning of the step in progress, plus one; 0 between steps.
    step: AtomicU64,
    course: Mutex<TaskProgress>,
}

#[derive(Clone, Copy, Debug)]
struct TaskProgress {
    state: TaskState,
    /// Since when it is in this state. On the timers' clock, as are the pauses.
    since: tokio::time::Instant,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskState {
    Running,
    Pausing,
    Dead,
}

/// A task that does not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFault {
    /// The task.
    pub task: TaskName,
    /// The fault.
    pub trouble: TaskDefect,
}

/// Ways not to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskDefect {
    /// It has failed this many times in a row.
    Failing(u32),
    /// One step of it has taken this long and goes on.
    Blocked(Duration),
    /// Its thread has had no heartbeat for this long.
    Silent(Duration),
    /// It has ended and cannot begin again.
    Dead,
}

impl fmt::Display for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = &self.task;
        match self.trouble {
            TaskDefect::Failing(failures) => write!(f, "{task} keeps failing: {failures} times in a row"),
            TaskDefect::Blocked(time) => write!(f, "{task} is blocked, for {} s now", time.as_secs()),
            TaskDefect::Silent(time) => write!(f, "{task} does not answer, for {} s now", time.as_secs()),
            TaskDefect::Dead => write!(f, "{task} has ended"),
        }
    }
}

/// Whether a thread answers.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Watched>);

impl Heartbeat {
    pub(super) fn of(watched: &Arc<Watched>) -> Self {
        watched.has_heart.store(true, Ordering::Relaxed);
        watched.beat();
        Self(Arc::clone(watched))
    }

    /// Whether the thread can take new work: it has answered lately.
    pub fn is_recent(&self) -> bool {
        self.0.since_beat() < self.0.beat_every * MISSED_BEATS && self.0.course().state != TaskState::Dead
    }
}

/// A step in progress, until it is dropped.
pub(super) struct WatchedStep<'a>(&'a Watched);

impl Drop for WatchedStep<'_> {
    fn drop(&mut self) {
        self.0.step.store(0, Ordering::Relaxed);
    }
}

impl Watched {
    pub(super) fn new(name: TaskName, rules: &TaskRules) -> Self {
        let course =
            TaskProgress { state: TaskState::Running, since: tokio::time::Instant::now(), failures: 0 };
        Self {
            name,
            registered: Instant::now(),
            beat_every: rules.stuck_after / BEATS,
            last_beat: AtomicU64::new(0),
            has_heart: AtomicBool::new(false),
            step: AtomicU64::new(0),
            course: Mutex::new(course),
        }
    }

    pub(super) fn beat_every(&self) -> Duration {
        self.beat_every
    }

    pub(super) fn beat(&self) {
        self.last_beat.store(self.now(), Ordering::Relaxed);
    }

    /// A step begins.
    pub(super) fn steps(&self) -> WatchedStep<'_> {
        self.step.store(self.now() + 1, Ordering::Relaxed);
        WatchedStep(self)
    }

    /// A run begins.
    pub(super) fn begins(&self) {
        let mut course = self.course();
        (course.state, course.since) = (TaskState::Running, tokio::time::Instant::now());
    }

    /// A run has failed; the pause before the next one.
    pub(super) fn failed(&self, rules: &TaskRules) -> Duration {
        let mut course = self.course();
        course.failures = if course.is_stable(rules) { 1 } else { course.failures.saturating_add(1) };
        (course.state, course.since) = (TaskState::Pausing, tokio::time::Instant::now());
        rules.first_pause.saturating_mul(1 << (course.failures - 1).min(16)).min(rules.longest_pause)
    }

    /// It has ended by a fault of its supervisor.
    pub(super) fn died(&self) {
        self.course().state = TaskState::Dead;
    }

    pub(super) fn is_up(&self, rules: &TaskRules) -> bool {
        self.course().state == TaskState::Running && self.hang(rules).is_none()
    }

    pub(super) fn fault(&self, rules: &TaskRules) -> Option<TaskFault> {
        let course = *self.course();
        let trouble = if course.state == TaskState::Dead {
            TaskDefect::Dead
        } else if course.failures >= rules.failing_after && !course.is_stable(rules) {
            TaskDefect::Failing(course.failures)
        } else {
            self.hang(rules)?
        };
        Some(TaskFault { task: self.name.clone(), trouble })
    }

    /// Whether a step, or a heartbeat, takes too long.
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

    fn course(&self) -> MutexGuard<'_, TaskProgress> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskProgress {
    /// Whether it has run long enough to be trusted again.
    fn is_stable(&self, rules: &TaskRules) -> bool {
        self.state == TaskState::Running && self.since.elapsed() >= rules.stable_after
    }
}
