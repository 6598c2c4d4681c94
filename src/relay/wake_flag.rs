//! Tells who has woken a session: a flag of one's own in place of the task's waker, so that only what has called
//! is looked at. To ask the others too would cost each message a walk through TLS and runtime for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Wakes the task, and remembers it.
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

/// One of several things that a task waits for.
#[derive(Default)]
pub(super) struct WakeFlag(Option<(Arc<FlagWaker>, Waker)>);

impl WakeFlag {
    /// Whether it has rung since the last time. A new one has, and so has one whose task got another waker: what
    /// was left with the old one is to be left again.
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

    /// Rings it. A flag that nobody has looked at yet counts as rung anyway.
    pub(super) fn raise(&self) {
        if let Some(waker) = self.waker() {
            waker.wake_by_ref();
        }
    }

    /// What is left with whoever is to ring it; nothing before the first look.
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
    fn a_bell_is_heard_once_and_wakes_whoever_waits_now() {
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
