//! Which fault comes next: a queue that tests fill and a stand-in empties.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::sync::lock;

/// Faults in the order they will be shown.
#[derive(Debug)]
pub(crate) struct Faults<F>(Mutex<VecDeque<(Option<usize>, F)>>);

impl<F> Default for Faults<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<F: Clone> Faults<F> {
    /// Adds a fault for `times` requests, or for all until [`Faults::clear`].
    pub(crate) fn add(&self, times: Option<usize>, fault: F) {
        if times != Some(0) {
            lock(&self.0).push_back((times, fault));
        }
    }

    /// Forgets all faults.
    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// Forgets the faults that match.
    pub(crate) fn clear_for(&self, concerned: impl Fn(&F) -> bool) {
        lock(&self.0).retain(|(_, fault)| !concerned(fault));
    }

    /// The fault for the request that has just come.
    pub(crate) fn next(&self) -> Option<F> {
        self.next_for(|_| true)
    }

    /// The first fault that concerns the request that has just come.
    pub(crate) fn next_for(&self, concerns: impl Fn(&F) -> bool) -> Option<F> {
        let mut queue = lock(&self.0);
        let at = queue.iter().position(|(_, fault)| concerns(fault))?;
        let (times, fault) = queue.get_mut(at)?;
        let fault = fault.clone();
        if let Some(left) = times {
            *left -= 1;
            if *left == 0 {
                queue.remove(at);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_faults_end_and_the_open_one_stays_until_cleared() {
        let faults = Faults::default();
        faults.add(Some(2), 'a');
        faults.add(Some(0), 'x');
        faults.add(None, 'b');
        let seen: Vec<_> = (0..5).map(|_| faults.next()).collect();
        assert_eq!(seen, [Some('a'), Some('a'), Some('b'), Some('b'), Some('b')]);
        faults.clear();
        assert_eq!(faults.next(), None);
    }
}
