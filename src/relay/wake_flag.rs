//! Tells who has woken a session: a bell of one's own in place of the task's waker, so that only what has called
//! is looked at. To ask the others too would cost each message a walk through TLS and runtime for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Wakes the task, and remembers it.
struct Ring {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// One of several things that a task waits for.
#[derive(Default)]
pub(super) struct Bell(Option<(Arc<Ring>, Waker)>);

impl Bell {
    /// Whether it has rung since the last time. A new one has, and so has one whose task got another waker: what
    /// was left with the old one is to be left again.
    pub(super) fn take_ring(&mut self, cx: &Context<'_>) -> bool {
        match &self.0 {
            Some((ring, _)) if ring.task.will_wake(cx.waker()) => {
                ring.rung.load(Ordering::Relaxed) && ring.rung.swap(false, Ordering::Acquire)
            }
            _ => {
                let ring = Arc::new(Ring { rung: AtomicBool::new(false), task: cx.waker().clone() });
                self.0 = Some((Arc::clone(&ring), ring.into()));
                true
            }
        }
    }

    /// Rings it. A bell that nobody has looked at yet counts as rung anyway.
    pub(super) fn ring(&self) {
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
        let mut bell = Bell::default();
        bell.ring();
        assert!(bell.waker().is_none());
        let mut left = Waker::noop().clone();
        for _ in 0..2 {
            let task = Arc::new(Task::default());
            let waker = Waker::from(Arc::clone(&task));
            let cx = Context::from_waker(&waker);
            assert!(bell.take_ring(&cx) && !bell.take_ring(&cx), "new for this task");
            left.wake_by_ref();
            assert!(!bell.take_ring(&cx), "left with another task's");
            bell.ring();
            left = bell.waker().unwrap().clone();
            left.wake_by_ref();
            assert!(bell.take_ring(&cx) && !bell.take_ring(&cx));
            assert_eq!(task.0.load(Ordering::Relaxed), 2);
        }
    }
}
