//! Queue of faults that tests fill and a stand-in empties.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::sync::lock;

/// Faults in the order they will be shown.
#[derive(Debug)]
pub(crate) struct FaultQueue<F>(Mutex<VecDeque<(FaultTimes, F)>>);

/// Requests that a fault is for.
#[derive(Clone, Copy, Debug)]
enum FaultTimes {
    All,
    Left(usize),
    /// Half of them, as a coin falls; holds the state of the coin.
    Half(u64),
}

impl FaultTimes {
    /// True if the request that has just come is one of them.
    fn strikes(&mut self) -> bool {
        match self {
            Self::All => true,
            Self::Left(left) => {
                *left -= 1;
                true
            }
            // A linear congruential generator (Knuth's MMIX): the same falls in every run.
            Self::Half(state) => {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *state >> 63 == 1
            }
        }
    }
}

impl<F> Default for FaultQueue<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<F: Clone> FaultQueue<F> {
    /// Adds a fault for `times` requests, or for all until [`FaultQueue::clear`].
    pub(crate) fn add(&self, times: Option<usize>, fault: F) {
        if times != Some(0) {
            lock(&self.0).push_back((times.map_or(FaultTimes::All, FaultTimes::Left), fault));
        }
    }

    /// Adds a fault for half of all requests until [`FaultQueue::clear`].
    pub(crate) fn add_for_half(&self, fault: F) {
        lock(&self.0).push_back((FaultTimes::Half(0), fault));
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
        let shown = times.strikes().then(|| fault.clone());
        if matches!(times, FaultTimes::Left(0)) {
            queue.remove(at);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_faults_end_and_the_open_one_stays_until_cleared() {
        let faults = FaultQueue::default();
        faults.add(Some(2), 'a');
        faults.add(Some(0), 'x');
        faults.add(None, 'b');
        let seen: Vec<_> = (0..5).map(|_| faults.next()).collect();
        assert_eq!(seen, [Some('a'), Some('a'), Some('b'), Some('b'), Some('b')]);
        faults.clear();
        assert_eq!(faults.next(), None);
    }

    #[test]
    fn half_of_the_requests_is_about_half_and_never_a_long_run() {
        let faults = FaultQueue::default();
        faults.add_for_half('a');
        let shown: Vec<bool> = (0..4_000).map(|_| faults.next().is_some()).collect();
        let count = shown.iter().filter(|shown| **shown).count();
        assert!((1_900..2_100).contains(&count), "{count}");
        let longest = shown.split(|shown| !shown).map(<[bool]>::len).max().unwrap();
        assert!(longest < 15, "{longest}");
    }
}
