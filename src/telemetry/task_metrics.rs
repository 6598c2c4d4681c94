//! Metrics of supervised tasks: restarts, and whether they run.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::supervisor::{TaskKind, TaskStatus};

/// Label with a kind of tasks.
type Task = [(&'static str, &'static str); 1];

/// The task series.
#[derive(Debug, Default)]
pub(super) struct TaskMetrics {
    restarts: Family<Task, Counter>,
    up: Family<Task, Gauge>,
}

impl TaskMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        for kind in TaskKind::ALL {
            drop(self.restarts.get_or_create(&[("task", kind.word())]));
            drop(self.up.get_or_create(&[("task", kind.word())]));
        }
        let help = "Restarts of a task after a panic or an early return";
        registry.register("task_restarts", help, self.restarts.clone());
        registry.register("task_up", "1 if all tasks of this kind run", self.up.clone());
    }

    pub(super) fn set(&self, now: &[TaskStatus]) {
        for status in now {
            let task = [("task", status.kind.word())];
            self.restarts.get_or_create(&task).inner().store(status.restarts, Ordering::Relaxed);
            self.up.get_or_create(&task).set(i64::from(status.up));
        }
    }
}
