//! Generic set of idle items by key, each key with an owner: limits per key and in total, and eviction. Does
//! not know connections.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// A key with an owner. Owners share the capacity fairly.
pub(super) trait Owned: Eq + Hash {
    type Owner: Clone + Eq + Hash;

    fn owner(&self) -> &Self::Owner;
}

/// Most items in total and per key.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleLimits {
    pub(super) per_key: usize,
    pub(super) total: usize,
}

/// Idle items and reservations.
#[derive(Debug)]
pub(super) struct IdleSet<K: Owned, T> {
    places: HashMap<Arc<K>, IdleEntry<T>>,
    /// Number of items per owner, including reservations.
    owners: HashMap<K::Owner, usize>,
    sizes: IdleLimits,
    taken: usize,
    /// Sequence number of the last insertion; items with smaller numbers have been idle longer.
    puts: u64,
}

#[derive(Debug)]
struct IdleEntry<T> {
    idle: Vec<(u64, T)>,
    coming: usize,
}

/// Result of a reservation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reservation<T> {
    /// Space was free.
    Free,
    /// This item was evicted.
    InsteadOf(T),
}

impl<K: Owned, T> IdleSet<K, T> {
    pub(super) fn new(limits: IdleLimits) -> Self {
        Self { places: HashMap::new(), owners: HashMap::new(), sizes: limits, taken: 0, puts: 0 }
    }

    /// Reserves space for one item; [`IdleSet::put`] or [`IdleSet::release`] has to follow. If the set is
    /// full, the item that has been idle longest is evicted; that of the same owner if the owner already has
    /// an equal share. `None` if the key's limit is reached or nothing is idle.
    pub(super) fn reserve(&mut self, key: &Arc<K>) -> Option<Reservation<T>> {
        let of_key = self.places.get(key).map_or(0, |place| place.idle.len() + place.coming);
        if of_key >= self.sizes.per_key {
            return None;
        }
        let reserved = if self.taken < self.sizes.total {
            Reservation::Free
        } else {
            let owner = key.owner();
            let mine = self.owners.get(owner).copied().unwrap_or_default();
            let owners = self.owners.len() + usize::from(mine == 0);
            let has_its_share = mine >= (self.sizes.total / owners).max(1);
            Reservation::InsteadOf(self.take_oldest(|key, _| !has_its_share || key.owner() == owner)?)
        };
        let place =
            self.places.entry(Arc::clone(key)).or_insert_with(|| IdleEntry { idle: Vec::new(), coming: 0 });
        place.coming += 1;
        self.taken += 1;
        *self.owners.entry(key.owner().clone()).or_default() += 1;
        Some(reserved)
    }

    /// Puts an item into reserved space.
    pub(super) fn put(&mut self, key: &Arc<K>, item: T) {
        if let Some(place) = self.places.get_mut(key) {
            place.coming -= 1;
            self.puts += 1;
            place.idle.push((self.puts, item));
        }
    }

    /// Releases a reservation.
    pub(super) fn release(&mut self, key: &Arc<K>) {
        if let Some(place) = self.places.get_mut(key) {
            place.coming -= 1;
            self.is_gone(key);
        }
    }

    /// Takes the newest item, preferably one that is `liked`; the others may expire.
    pub(super) fn take(&mut self, key: &Arc<K>, liked: impl Fn(&T) -> bool) -> Option<T> {
        let idle = &mut self.places.get_mut(key)?.idle;
        let at = idle.iter().rposition(|(_, item)| liked(item)).or_else(|| idle.len().checked_sub(1))?;
        let (_, item) = idle.remove(at);
        self.is_gone(key);
        Some(item)
    }

    /// Takes the item that has been idle longest among those for which `may_go` is true.
    pub(super) fn take_oldest(&mut self, may_go: impl Fn(&K, &T) -> bool) -> Option<T> {
        let of_key = |(key, place): (&Arc<K>, &IdleEntry<T>)| {
            // In the order of sequence numbers.
            let (number, _) = place.idle.iter().find(|(_, item)| may_go(key, item))?;
            Some((*number, Arc::clone(key)))
        };
        let (number, key) = self.places.iter().filter_map(of_key).min_by_key(|(number, _)| *number)?;
        let idle = &mut self.places.get_mut(&key)?.idle;
        let at = idle.iter().position(|(other, _)| *other == number)?;
        let (_, item) = idle.remove(at);
        self.is_gone(&key);
        Some(item)
    }

    /// Takes all items for which `goes` is true.
    pub(super) fn extract(&mut self, mut goes: impl FnMut(&K, &mut T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        let mut keys = Vec::new();
        for (key, place) in &mut self.places {
            for (_, item) in place.idle.extract_if(.., |(_, item)| goes(key, item)) {
                gone.push(item);
                keys.push(Arc::clone(key));
            }
        }
        for key in keys {
            self.is_gone(&key);
        }
        gone
    }

    /// True if one of these keys has a reservation.
    pub(super) fn awaits(&self, of: impl Fn(&K) -> bool) -> bool {
        self.places.iter().any(|(key, place)| place.coming > 0 && of(key))
    }

    /// Number of idle items.
    pub(super) fn idle(&self) -> usize {
        self.places.values().map(|place| place.idle.len()).sum()
    }

    /// Counts one item less of this key.
    fn is_gone(&mut self, key: &Arc<K>) {
        self.taken -= 1;
        if let Some(count) = self.owners.get_mut(key.owner()) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(key.owner());
            }
        }
        if self.places.get(key).is_some_and(IdleEntry::is_empty) {
            self.places.remove(key);
        }
    }
}

impl<T> IdleEntry<T> {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.coming == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An owner and the number of the key.
    type PoolKey = (char, u8);

    impl Owned for PoolKey {
        type Owner = char;

        fn owner(&self) -> &char {
            &self.0
        }
    }

    fn shelf(per_key: usize, in_all: usize) -> IdleSet<PoolKey, u32> {
        IdleSet::new(IdleLimits { per_key, total: in_all })
    }

    fn key(owner: char) -> Arc<PoolKey> {
        Arc::new((owner, 0))
    }

    /// Puts an item of `owner`; returns the evicted one.
    fn put(idle_set: &mut IdleSet<PoolKey, u32>, key: &Arc<PoolKey>, item: u32) -> Option<u32> {
        let reserved = idle_set.reserve(key).expect("room");
        idle_set.put(key, item);
        match reserved {
            Reservation::Free => None,
            Reservation::InsteadOf(gone) => Some(gone),
        }
    }

    #[test]
    fn u4_sizes_hold_at_the_limit_and_not_one_past_it() {
        let mut idle_set = shelf(2, 3);
        let [a, b, c] = ['a', 'b', 'c'].map(key);
        assert_eq!(
            (idle_set.reserve(&a), idle_set.reserve(&a)),
            (Some(Reservation::Free), Some(Reservation::Free))
        );
        assert_eq!(idle_set.reserve(&a), None, "the third of one key");
        idle_set.put(&a, 1);
        assert_eq!(idle_set.reserve(&a), None, "one that is there counts as one that comes");
        assert_eq!(idle_set.reserve(&b), Some(Reservation::Free));
        assert_eq!(idle_set.reserve(&c), Some(Reservation::InsteadOf(1)), "the fourth in all");
        assert_eq!(idle_set.reserve(&key('d')), None, "and nothing is idle");
        idle_set.release(&b);
        assert_eq!(idle_set.reserve(&c), Some(Reservation::Free));
        assert_eq!((idle_set.idle(), idle_set.taken), (0, 3));
        idle_set.put(&a, 2);
        assert_eq!(idle_set.take(&a, |_| true), Some(2));
        assert_eq!(idle_set.reserve(&a), Some(Reservation::Free), "room again");
    }

    #[test]
    fn u4_each_key_has_its_own_and_nothing_is_left_of_those_that_are_gone() {
        let mut idle_set = shelf(9, 9);
        let [a, b, c] = ['a', 'b', 'c'].map(key);
        for (key, item) in [(&a, 1), (&a, 2), (&b, 3), (&a, 4)] {
            assert_eq!(put(&mut idle_set, key, item), None);
        }
        assert_eq!(idle_set.take(&c, |_| true), None);
        assert_eq!(idle_set.take(&a, |item| *item < 3), Some(2), "the last one that is liked");
        assert_eq!(idle_set.take(&a, |item| *item > 9), Some(4), "or else the last one");
        assert_eq!((idle_set.take(&a, |_| true), idle_set.take(&a, |_| true)), (Some(1), None));
        assert_eq!(idle_set.extract(|key, _| key.0 == 'c'), [0; 0]);
        assert_eq!(idle_set.extract(|_, item| *item == 3), [3]);
        assert!(
            idle_set.places.is_empty() && idle_set.owners.is_empty() && idle_set.taken == 0,
            "{idle_set:?}"
        );
    }

    #[test]
    fn the_one_that_is_idle_for_the_longest_time_gives_way() {
        let mut idle_set = shelf(9, 3);
        for (owner, item) in [('a', 1), ('b', 2), ('c', 3)] {
            assert_eq!(put(&mut idle_set, &key(owner), item), None);
        }
        assert_eq!(put(&mut idle_set, &key('d'), 4), Some(1));
        assert_eq!(idle_set.take(&key('b'), |_| true), Some(2));
        assert_eq!(put(&mut idle_set, &key('b'), 5), None);
        assert_eq!(put(&mut idle_set, &key('e'), 6), Some(3), "it was used less lately than b");
        assert_eq!(idle_set.take_oldest(|key, _| key.0 != 'd'), Some(5));
        assert_eq!(idle_set.take_oldest(|key, _| key.0 == 'a'), None);
        assert_eq!((idle_set.idle(), idle_set.taken), (2, 2));
    }

    #[test]
    fn an_owner_with_its_equal_share_makes_room_for_itself() {
        let mut idle_set = shelf(9, 6);
        let keys: Vec<_> = (0..9).map(|number| Arc::new(('a', number))).collect();
        assert_eq!(put(&mut idle_set, &key('b'), 100), None);
        for (item, key) in (0..5).zip(&keys) {
            assert_eq!(put(&mut idle_set, key, item), None);
        }
        // Five of six: the owner's own oldest item goes, though that of b is older.
        assert_eq!(put(&mut idle_set, &keys[5], 5), Some(0));
        // For other owners the oldest item of all goes.
        assert_eq!(put(&mut idle_set, &key('c'), 200), Some(100));
        assert_eq!(put(&mut idle_set, &key('d'), 300), Some(1));
        assert_eq!(put(&mut idle_set, &keys[6], 6), Some(2));
    }
}
