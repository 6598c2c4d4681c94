//! Panics that tests inject into supervised tasks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::{TaskKind, TaskName};
use crate::sync::lock;

/// Pending panics. The default has none and accepts none.
#[derive(Clone, Debug, Default)]
pub struct Failpoints(Option<Arc<Mutex<FailpointOrders>>>);

#[derive(Debug, Default)]
struct FailpointOrders {
    panics: HashMap<TaskKind, u32>,
    /// Wakers of idle tasks.
    wakers: HashMap<TaskName, Waker>,
}

impl Failpoints {
    /// Failpoints that accept orders.
    pub fn enabled() -> Self {
        Self(Some(Arc::default()))
    }

    /// Makes tasks of `kind` panic at their next `times` polls, and wakes them.
    pub fn order(&self, kind: TaskKind, times: u32) {
        let Some(orders) = &self.0 else { return };
        let mut orders = lock(orders);
        orders.panics.insert(kind, times);
        orders.wakers.retain(|task, waker| {
            if task.kind == kind {
                waker.wake_by_ref();
            }
            task.kind != kind
        });
    }

    /// Number of pending panics.
    pub fn ordered(&self, kind: TaskKind) -> u32 {
        let Some(orders) = &self.0 else { return 0 };
        lock(orders).panics.get(&kind).copied().unwrap_or(0)
    }

    /// A poll of `task`, which panics if ordered.
    #[expect(clippy::panic, reason = "that is its purpose, and only tests can order it")]
    pub(super) fn pass(&self, task: &TaskName, waker: &Waker) {
        let Some(orders) = &self.0 else { return };
        let mut orders = lock(orders);
        match orders.panics.get_mut(&task.kind) {
            Some(times) if *times > 0 => *times -= 1,
            _ => {
                orders.wakers.insert(task.clone(), waker.clone());
                return;
            }
        }
        drop(orders);
        panic!("failpoint of {task}");
    }
}
