//! Supervisor of all tasks that live as long as the process. A task that panics or returns too early is
//! counted, logged and restarted after a pause. `/livez` and the watchdog report the health of all tasks.

mod failpoints;
mod watched;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

pub use self::failpoints::Failpoints;
use self::watched::Watched;
pub use self::watched::{Heartbeat, TaskDefect, TaskFault};
use crate::names::visible;
use crate::sync::lock;
use crate::words::word_enum;

/// Longest panic message in the log.
const MAX_MESSAGE: usize = 500;

word_enum! {
    /// Kinds of tasks that must not end before the process. The words are in metrics, log lines and the answer of `/livez`.
    #[derive(Hash)]
    pub enum TaskKind {
        /// Accepts clients on all listeners.
        Acceptor = "acceptor",
        /// Accepts connections of the admin address.
        AdminServer = "admin_server",
        /// Executes the commands of the console.
        Console = "console",
        /// Checks the health of all tasks, logs it, and feeds the systemd watchdog.
        HealthMonitor = "health_monitor",
        /// Refreshes the keys of one issuer.
        KeyRefresher = "key_refresher",
        /// Closes pooled connections that have expired.
        PoolKeeper = "pool_keeper",
        /// Accepts connections of the page of profiles.
        ProfilesServer = "profiles_server",
        /// Reloads the configuration on request.
        Reloader = "reloader",
        /// Receives connections for one worker thread.
        SessionThread = "session_thread",
        /// Ends the sessions after the listeners are closed.
        Shutdown = "shutdown",
        /// Accepts connections of the sign-in page.
        SignInServer = "sign_in_server",
        /// Turns signals into stop and reload requests.
        SignalDriver = "signal_driver",
        /// Sends traces of logins to the collector.
        TraceExporter = "trace_exporter",
    }
}

/// The name of one task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskName {
    /// The kind.
    pub kind: TaskKind,
    /// The issuer's name or the thread's number, if there are several tasks of the kind.
    pub which: Option<String>,
}

impl TaskName {
    /// Name of one of several tasks.
    pub fn of(kind: TaskKind, which: impl fmt::Display) -> Self {
        Self { kind, which: Some(which.to_string()) }
    }
}

impl From<TaskKind> for TaskName {
    fn from(kind: TaskKind) -> Self {
        Self { kind, which: None }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Some(which) => write!(f, "{} {which}", self.kind.word()),
            None => f.write_str(self.kind.word()),
        }
    }
}

/// Restart policy and thresholds of the supervisor.
#[derive(Clone, Debug)]
pub struct TaskRules {
    /// Pause after a first failure, doubled for each further consecutive one.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// Run time after which a task counts as stable, so that its next failure is a first one.
    pub stable_after: Duration,
    /// Consecutive failures from which the task counts as failing.
    pub failing_after: u32,
    /// Longest time for one poll of a task, or between two heartbeats of a worker thread.
    pub stuck_after: Duration,
    /// Panics that a test injects; none in the service.
    pub failpoints: Failpoints,
}

impl Default for TaskRules {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            stable_after: Duration::from_secs(10),
            failing_after: 5,
            stuck_after: Duration::from_secs(10),
            failpoints: Failpoints::default(),
        }
    }
}

/// Status of the tasks of one kind, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// The kind.
    pub kind: TaskKind,
    /// Restarts since start.
    pub restarts: u64,
    /// True if all tasks of the kind run.
    pub up: bool,
}

/// The supervisor of a process; clones share its state.
#[derive(Clone, Debug)]
pub struct TaskSupervisor(Arc<SupervisorState>);

#[derive(Debug)]
struct SupervisorState {
    control: Handle,
    rules: TaskRules,
    restarts: [AtomicU64; TaskKind::ALL.len()],
    tasks: Mutex<Vec<Arc<Watched>>>,
}

impl TaskSupervisor {
    /// A supervisor without tasks. Tasks run on `control` by default.
    pub fn new(control: Handle, rules: TaskRules) -> Self {
        Self(Arc::new(SupervisorState {
            control,
            rules,
            restarts: Default::default(),
            tasks: Mutex::default(),
        }))
    }

    /// Runs a task on the control runtime until `until` is cancelled. See [`TaskEntry::run`].
    pub fn spawn<F, Fut>(&self, name: impl Into<TaskName>, until: CancellationToken, run: F) -> JoinHandle<()>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let entry = self.register(name);
        self.0.control.spawn(async move { entry.run(&until, run).await })
    }

    /// Runs a task within the caller's task. See [`TaskEntry::run`].
    pub async fn run<F, Fut>(&self, name: impl Into<TaskName>, until: &CancellationToken, run: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        self.register(name).run(until, run).await;
    }

    /// Registers a task before it runs.
    pub fn register(&self, name: impl Into<TaskName>) -> TaskEntry {
        let watched = Arc::new(Watched::new(name.into(), &self.0.rules));
        self.0.tasks().push(Arc::clone(&watched));
        TaskEntry { supervisor: self.clone(), watched }
    }

    /// Current faults of tasks; empty in a healthy process.
    pub fn faults(&self) -> Vec<TaskFault> {
        self.0.tasks().iter().filter_map(|task| task.fault(&self.0.rules)).collect()
    }

    /// Status of all kinds, including those without a task.
    pub fn status(&self) -> Vec<TaskStatus> {
        let tasks = self.0.tasks();
        let status = |(kind, restarts): (TaskKind, &AtomicU64)| {
            let mut of_kind = tasks.iter().filter(|task| task.name.kind == kind);
            TaskStatus {
                kind,
                restarts: restarts.load(Ordering::Relaxed),
                up: of_kind.all(|task| task.is_up(&self.0.rules)),
            }
        };
        TaskKind::ALL.into_iter().zip(&self.0.restarts).map(status).collect()
    }
}

impl SupervisorState {
    fn tasks(&self) -> MutexGuard<'_, Vec<Arc<Watched>>> {
        lock(&self.tasks)
    }

    fn count_restart(&self, kind: TaskKind) {
        for (known, restarts) in TaskKind::ALL.into_iter().zip(&self.restarts) {
            if known == kind {
                restarts.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Registration of a task. One that is dropped in a panic stays registered as dead.
#[derive(Debug)]
pub struct TaskEntry {
    supervisor: TaskSupervisor,
    watched: Arc<Watched>,
}

impl TaskEntry {
    /// Runs the task until `until` is cancelled. `run` creates the task's future. If the future panics or
    /// returns before `until` is cancelled, it is created again after a pause that grows with consecutive
    /// failures.
    pub async fn run<F, Fut>(self, until: &CancellationToken, mut run: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        loop {
            self.watched.begins();
            let problem = tokio::select! {
                biased;
                () = until.cancelled() => return,
                problem = self.once(async { run().await }) => problem,
            };
            if until.is_cancelled() {
                return;
            }
            let pause = self.watched.failed(&self.supervisor.0.rules);
            self.supervisor.0.count_restart(self.watched.name.kind);
            tracing::error!(
                task = %self.watched.name,
                problem,
                pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "task failed; restarting after a pause"
            );
            tokio::select! {
                () = until.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Runs the task like [`TaskEntry::run`] on a thread's own runtime, with a heartbeat of that runtime.
    pub async fn run_thread<F, Fut>(self, until: &CancellationToken, run: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        let watched = Arc::clone(&self.watched);
        let beats = async {
            let mut beat = interval(watched.beat_every());
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                watched.beat();
            }
        };
        tokio::select! {
            () = self.run(until, run) => {}
            () = beats => {}
        }
    }

    /// Heartbeat of a task that runs with [`TaskEntry::run_thread`].
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat::of(&self.watched)
    }

    /// Runs the task once. Returns the description of its end.
    async fn once(&self, task: impl Future<Output = ()>) -> String {
        let mut task = pin!(task);
        let failpoints = &self.supervisor.0.rules.failpoints;
        std::future::poll_fn(|cx| {
            let _step = self.watched.steps();
            let polled = catch_unwind(AssertUnwindSafe(|| {
                failpoints.pass(&self.watched.name, cx.waker());
                task.as_mut().poll(cx)
            }));
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready("it returned".to_owned()),
                Err(panic) => Poll::Ready(format!("it panicked: {}", message(&*panic))),
            }
        })
        .await
    }
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return self.watched.died();
        }
        self.supervisor.0.tasks().retain(|task| !Arc::ptr_eq(task, &self.watched));
    }
}

/// Message of a panic, cut at [`MAX_MESSAGE`].
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    visible(text.unwrap_or("no message"), MAX_MESSAGE)
}

#[cfg(test)]
mod tests;
