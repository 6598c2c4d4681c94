//! A waker with a memory. Each direction and the timers register their own, so that one wake-up polls only
//! one of them: polling all costs each message a walk through TLS and the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Wakes the task and records it.
struct FlagWaker {
    raised: AtomicBool,
    task: Waker,
}

impl Wake for FlagWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// Flag for one of several things that a task waits for.
#[derive(Default)]
pub(super) struct WakeFlag(Option<(Arc<FlagWaker>, Waker)>);

impl WakeFlag {
    /// True if the flag was raised since the last call. A new flag is raised, and so is one whose task has
    /// got another waker, because the old one is registered and has to be replaced.
    pub(super) fn take(&mut self, cx: &Context<'_>) -> bool {
        match &self.0 {
            Some((waker, _)) if waker.task.will_wake(cx.waker()) => {
                waker.raised.load(Ordering::Relaxed) && waker.raised.swap(false, Ordering::Acquire)
            }
            _ => {
                let waker = Arc::new(FlagWaker { raised: AtomicBool::new(false), task: cx.waker().clone() });
                self.0 = Some((Arc::clone(&waker), waker.into()));
                true
            }
        }
    }

    /// Raises the flag. A flag that was never taken counts as raised.
    pub(super) fn raise(&self) {
        if let Some(waker) = self.waker() {
            waker.wake_by_ref();
        }
    }

    /// The waker to register; `None` before the first [`WakeFlag::take`].
    pub(super) fn waker(&self) -> Option<&Waker> {
        self.0.as_ref().map(|(_, waker)| waker)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_up_is_seen_once_and_wakes_the_latest_waiter() {
        let mut flag = WakeFlag::default();
        flag.raise();
        assert!(flag.waker().is_none());
        let mut left = Waker::noop().clone();
        for _ in 0..2 {
            let task = Arc::new(Task::default());
            let waker = Waker::from(Arc::clone(&task));
            let cx = Context::from_waker(&waker);
            assert!(flag.take(&cx) && !flag.take(&cx), "new for this task");
            left.wake_by_ref();
            assert!(!flag.take(&cx), "left with another task's");
            flag.raise();
            left = flag.waker().unwrap().clone();
            left.wake_by_ref();
            assert!(flag.take(&cx) && !flag.take(&cx));
            assert_eq!(task.0.load(Ordering::Relaxed), 2);
        }
    }
}
