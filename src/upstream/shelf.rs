//! Idle things by key: how many there may be of each key and in all. Knows nothing of connections.

use std::collections::HashMap;
use std::hash::Hash;

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) per_key: usize,
    pub(super) in_all: usize,
}

/// What is there, and what is about to come.
#[derive(Debug)]
pub(super) struct Shelf<K, T> {
    places: HashMap<K, Place<T>>,
    sizes: Sizes,
    taken: usize,
}

#[derive(Debug)]
struct Place<T> {
    idle: Vec<T>,
    coming: usize,
}

impl<K: Clone + Eq + Hash, T> Shelf<K, T> {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self { places: HashMap::new(), sizes, taken: 0 }
    }

    /// Keeps room for one, if there is any: to be followed by [`Shelf::put`] or [`Shelf::release`].
    pub(super) fn reserve(&mut self, key: &K) -> bool {
        let of_key = self.places.get(key).map_or(0, |place| place.idle.len() + place.coming);
        if self.taken >= self.sizes.in_all || of_key >= self.sizes.per_key {
            return false;
        }
        let place = self.places.entry(key.clone()).or_insert_with(|| Place { idle: Vec::new(), coming: 0 });
        place.coming += 1;
        self.taken += 1;
        true
    }

    /// Puts one where room was kept for it.
    pub(super) fn put(&mut self, key: &K, item: T) {
        if let Some(place) = self.places.get_mut(key) {
            place.coming -= 1;
            place.idle.push(item);
        }
    }

    /// Gives up a room.
    pub(super) fn release(&mut self, key: &K) {
        if let Some(place) = self.places.get_mut(key) {
            place.coming -= 1;
            self.taken -= 1;
            self.forget_empty(key);
        }
    }

    /// The one that came last: the others may get old enough to go.
    pub(super) fn take(&mut self, key: &K) -> Option<T> {
        let item = self.places.get_mut(key)?.idle.pop()?;
        self.taken -= 1;
        self.forget_empty(key);
        Some(item)
    }

    /// Takes out all those that `goes` is true of.
    pub(super) fn extract(&mut self, mut goes: impl FnMut(&K, &mut T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        for (key, place) in &mut self.places {
            gone.extend(place.idle.extract_if(.., |item| goes(key, item)));
        }
        self.taken -= gone.len();
        self.places.retain(|_, place| !place.is_empty());
        gone
    }

    /// How many are idle.
    pub(super) fn idle(&self) -> usize {
        self.places.values().map(|place| place.idle.len()).sum()
    }

    fn forget_empty(&mut self, key: &K) {
        if self.places.get(key).is_some_and(Place::is_empty) {
            self.places.remove(key);
        }
    }
}

impl<T> Place<T> {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.coming == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(per_key: usize, in_all: usize) -> Shelf<char, u32> {
        Shelf::new(Sizes { per_key, in_all })
    }

    #[test]
    fn u4_sizes_hold_at_the_limit_and_not_one_past_it() {
        let mut shelf = shelf(2, 3);
        assert!(shelf.reserve(&'a') && shelf.reserve(&'a'));
        assert!(!shelf.reserve(&'a'), "the third of one key");
        shelf.put(&'a', 1);
        assert!(!shelf.reserve(&'a'), "one that is there counts as one that comes");
        assert!(shelf.reserve(&'b'));
        assert!(!shelf.reserve(&'c'), "the fourth in all");
        shelf.release(&'b');
        assert!(shelf.reserve(&'c'));
        assert_eq!((shelf.idle(), shelf.taken), (1, 3));
        assert_eq!(shelf.take(&'a'), Some(1));
        assert!(shelf.reserve(&'a'), "room again");
    }

    #[test]
    fn u4_each_key_has_its_own_and_nothing_is_left_of_those_that_are_gone() {
        let mut shelf = shelf(9, 9);
        for (key, item) in [('a', 1), ('a', 2), ('b', 3)] {
            assert!(shelf.reserve(&key));
            shelf.put(&key, item);
        }
        assert_eq!(shelf.take(&'c'), None);
        assert_eq!((shelf.take(&'a'), shelf.take(&'a'), shelf.take(&'a')), (Some(2), Some(1), None));
        assert_eq!(shelf.extract(|key, _| *key == 'c'), [0; 0]);
        assert_eq!(shelf.extract(|_, item| *item == 3), [3]);
        assert!(shelf.places.is_empty() && shelf.taken == 0, "{shelf:?}");
    }
}
