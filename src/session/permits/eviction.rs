//! A bounded set of connections that evicts the longest silent one for a new one.
//!
//! Silence is the time since the client last finished a step, not since its last byte: a client that sends one byte a
//! second is silent. Connections whose next step is the proxy's are not.
//!
//! - While a source has more than half of all places in silence, only sources with at least a quarter lose connections,
//!   however long others have been silent. So one address that floods starves only itself.
//! - Among the sources that may lose, both count: how long a source has been silent, and how many of its connections are.
//!   So silent addresses lose their places to an address with hundreds of clients that log in at once.
//! - If nobody is silent, a source that has more than half of the connections in the set loses one to others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Source;
use crate::sync::lock;

/// Microseconds since the set was created.
type Moment = u64;

/// The connections, each with a permit `T`.
#[derive(Debug)]
pub struct EvictionSet<T> {
    made: Instant,
    members: Mutex<PermitHolders<T>>,
}

#[derive(Debug)]
struct PermitHolders<T> {
    all: HashMap<u64, PermitHolder<T>>,
    next_id: u64,
    waiting_for_client: SilenceRanking,
    waiting_for_proxy: SilenceRanking,
}

#[derive(Debug)]
struct PermitHolder<T> {
    source: Source,
    /// Time of the last completed step.
    since: Moment,
    turn: EvictionStep,
    holds: T,
    signal: EvictionSignal,
}

/// The side that has to act next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionStep {
    /// The client has to send something.
    Client,
    /// The proxy has to answer.
    Proxy,
}

/// Membership of a connection until it is dropped or evicted.
#[derive(Debug)]
pub struct EvictionEntry<T> {
    set: Arc<EvictionSet<T>>,
    id: u64,
}

/// Signals a connection that it was evicted.
#[derive(Clone, Debug, Default)]
pub struct EvictionSignal(Arc<Notify>);

/// The evicted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictedConnection {
    /// Source of the connection.
    pub source: Source,
    /// Number of connections that the source still has.
    pub left: usize,
}

impl EvictionSignal {
    /// Waits until the connection is evicted.
    pub async fn received(&self) {
        self.0.notified().await;
    }
}

impl<T> Default for EvictionSet<T> {
    fn default() -> Self {
        let members = PermitHolders {
            all: HashMap::new(),
            next_id: 0,
            waiting_for_client: SilenceRanking::default(),
            waiting_for_proxy: SilenceRanking::default(),
        };
        Self { made: Instant::now(), members: Mutex::new(members) }
    }
}

impl<T> EvictionSet<T> {
    /// Adds a connection of `source` that holds `holds` and waits for `turn`. If the set has `max` members,
    /// one is evicted. Returns `holds` if none can be.
    pub fn enter(
        self: &Arc<Self>,
        source: Source,
        max: usize,
        holds: T,
        turn: EvictionStep,
        signal: &EvictionSignal,
    ) -> Result<(EvictionEntry<T>, Option<EvictedConnection>), T> {
        let mut members = self.lock();
        let now = self.now();
        let mut evicted = None;
        if members.all.len() >= max {
            match members.evict(source, max, now) {
                Some((_, who)) => evicted = Some(who),
                None => return Err(holds),
            }
        }
        let id = members.add(PermitHolder { source, since: now, turn, holds, signal: signal.clone() });
        drop(members);
        Ok((EvictionEntry { set: Arc::clone(self), id }, evicted))
    }

    /// Adds a connection of `source` that waits for `turn` and takes over the permit of an evicted one;
    /// `None` if none can be evicted.
    pub fn replace(
        self: &Arc<Self>,
        source: Source,
        max: usize,
        turn: EvictionStep,
        signal: &EvictionSignal,
    ) -> Option<(EvictionEntry<T>, EvictedConnection)> {
        let mut members = self.lock();
        let now = self.now();
        let (holds, evicted) = members.evict(source, max, now)?;
        let id = members.add(PermitHolder { source, since: now, turn, holds, signal: signal.clone() });
        drop(members);
        Some((EvictionEntry { set: Arc::clone(self), id }, evicted))
    }

    fn lock(&self) -> MutexGuard<'_, PermitHolders<T>> {
        lock(&self.members)
    }

    /// Called with the lock held, so that no member is newer than the set's last change.
    fn now(&self) -> Moment {
        u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl<T> EvictionEntry<T> {
    /// Corrects the source of the connection.
    pub fn relocate(&self, source: Source) {
        self.change(|member, _| member.source = source);
    }

    /// Records a completed step. The next one is that of `turn`.
    pub fn step(&self, turn: EvictionStep) {
        self.change(|member, now| (member.since, member.turn) = (now, turn));
    }

    /// Leaves the set and returns the permit; `None` if the connection was evicted.
    pub fn leave(self) -> Option<T> {
        self.set.lock().remove(self.id).map(|member| member.holds)
    }

    fn change(&self, change: impl FnOnce(&mut PermitHolder<T>, Moment)) {
        let mut members = self.set.lock();
        let now = self.set.now();
        if let Some(mut member) = members.remove(self.id) {
            change(&mut member, now);
            members.insert(self.id, member);
        }
    }
}

impl<T> Drop for EvictionEntry<T> {
    fn drop(&mut self) {
        drop(self.set.lock().remove(self.id));
    }
}

impl<T> PermitHolders<T> {
    fn add(&mut self, member: PermitHolder<T>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.insert(id, member);
        id
    }

    fn insert(&mut self, id: u64, member: PermitHolder<T>) {
        self.ranking(member.turn).insert(member.source, member.since, id);
        self.all.insert(id, member);
    }

    fn remove(&mut self, id: u64) -> Option<PermitHolder<T>> {
        let member = self.all.remove(&id)?;
        self.ranking(member.turn).remove(member.source, member.since, id);
        Some(member)
    }

    fn ranking(&mut self, turn: EvictionStep) -> &mut SilenceRanking {
        match turn {
            EvictionStep::Client => &mut self.waiting_for_client,
            EvictionStep::Proxy => &mut self.waiting_for_proxy,
        }
    }

    /// Evicts a member for a connection of `newcomer`, in a set of `max`.
    fn evict(&mut self, newcomer: Source, max: usize, now: Moment) -> Option<(T, EvictedConnection)> {
        let silent = self.waiting_for_client.first(now, max);
        let of_others = |victim: &(Source, u64)| victim.0 != newcomer;
        let (source, id) =
            silent.or_else(|| self.waiting_for_proxy.first_of_majority(self.all.len()).filter(of_others))?;
        let member = self.remove(id)?;
        member.signal.0.notify_one();
        let left = self.waiting_for_client.count(source) + self.waiting_for_proxy.count(source);
        Some((member.holds, EvictedConnection { source, left }))
    }
}

/// A client that completes steps faster keeps its membership while a few other sources hold the rest, however
/// quickly they open new connections.
const QUICK_STEP: Duration = Duration::from_millis(250);

/// While a source has more than half of all places, sources with less than one in this many lose none.
const LARGE_SHARE: usize = 4;

/// Connections by source, for choosing the one to evict.
///
/// The set evicts a connection of the source with the greatest `count * (silence⁴ + QUICK_STEP⁴ / max)`. While a source
/// has more than half of all places, only sources with at least one in [`LARGE_SHARE`] are compared. The fourth power makes a hundred connections that have been silent for a tenth
/// of a second weigh less than one that has been silent for half a second, and more than one that has been silent for a
/// quarter.
///
/// Of sources with the same count the one with the longest silence is first at any time, so that only one source of each
/// count has to be compared. Among n connections there are fewer than √(2n) different counts.
#[derive(Debug, Default)]
struct SilenceRanking {
    /// Connections of each source, longest silent first.
    sources: HashMap<Source, BTreeSet<(Moment, u64)>>,
    /// Sources by count of connections, ordered by their longest silent one.
    by_count: BTreeMap<usize, BTreeSet<(Moment, Source)>>,
}

impl SilenceRanking {
    fn insert(&mut self, source: Source, since: Moment, id: u64) {
        self.change(source, |connections| connections.insert((since, id)));
    }

    fn remove(&mut self, source: Source, since: Moment, id: u64) {
        self.change(source, |connections| connections.remove(&(since, id)));
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut BTreeSet<(Moment, u64)>) -> bool) {
        let connections = self.sources.entry(source).or_default();
        if let Some((since, _)) = connections.first()
            && let Some(same) = self.by_count.get_mut(&connections.len())
        {
            same.remove(&(*since, source));
            if same.is_empty() {
                self.by_count.remove(&connections.len());
            }
        }
        change(connections);
        match connections.first() {
            Some((since, _)) => {
                self.by_count.entry(connections.len()).or_default().insert((*since, source));
            }
            None => drop(self.sources.remove(&source)),
        }
    }

    fn count(&self, source: Source) -> usize {
        self.sources.get(&source).map_or(0, BTreeSet::len)
    }

    /// The connection to evict at `now` from a set of `max`.
    fn first(&self, now: Moment, max: usize) -> Option<(Source, u64)> {
        let fewest = self.majority(max).map_or(0, |(most, _)| most.min((max / LARGE_SHARE).max(2)));
        let candidates = self.by_count.range(fewest..).filter_map(|(count, same)| {
            let (since, source) = same.first()?;
            Some((weight(*count, now.saturating_sub(*since), max), *source))
        });
        let (_, source) = candidates.max()?;
        self.first_of(source)
    }

    /// The longest silent connection of the source that has more than half of `max`.
    fn first_of_majority(&self, max: usize) -> Option<(Source, u64)> {
        let (_, source) = self.majority(max)?;
        self.first_of(source)
    }

    /// The source that has more than half of `max`, and its count.
    fn majority(&self, max: usize) -> Option<(usize, Source)> {
        let (count, same) = self.by_count.last_key_value()?;
        let (_, source) = same.first().filter(|_| *count > max / 2)?;
        Some((*count, *source))
    }

    fn first_of(&self, source: Source) -> Option<(Source, u64)> {
        let (_, id) = self.sources.get(&source)?.first()?;
        Some((source, *id))
    }
}

/// Weight of a source in the choice. Times are in tenths of milliseconds.
fn weight(count: usize, silence: Moment, max: usize) -> u128 {
    let wide = |number: usize| u128::try_from(number).unwrap_or(u128::MAX);
    let fourth_power = |micros: u128| (micros / 100).saturating_pow(4);
    let quick = fourth_power(QUICK_STEP.as_micros()) / wide(max.max(1));
    fourth_power(silence.into()).saturating_add(quick).saturating_mul(wide(count))
}

#[cfg(test)]
mod tests;
