//! Which connection makes room, against the definition.

use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::time::advance;

use super::*;

fn source(number: u8) -> Source {
    std::net::IpAddr::from([192, 0, 2, number]).into()
}

/// One connection of a test: its number, its entry, and its signal.
struct Peer {
    number: usize,
    entry: EvictionEntry<usize>,
    signal: EvictionSignal,
}

impl Peer {
    fn is_evicted(&self) -> bool {
        self.signal.received().now_or_never().is_some()
    }
}

fn enter(set: &Arc<EvictionSet<usize>>, from: u8, max: usize, number: usize) -> Result<Peer, usize> {
    let signal = EvictionSignal::default();
    let (entry, _) = set.enter(source(from), max, number, EvictionStep::Client, &signal)?;
    Ok(Peer { number, entry, signal })
}

fn enter_many(set: &Arc<EvictionSet<usize>>, from: u8, max: usize, count: usize) -> Vec<Peer> {
    (0..count).map(|number| enter(set, from, max, number).unwrap()).collect()
}

/// The numbers of those who have been evicted since the last time.
fn evicted(peers: &[Peer]) -> Vec<usize> {
    peers.iter().filter(|peer| peer.is_evicted()).map(|peer| peer.number).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn c7_an_address_that_floods_loses_its_own_connections_oldest_first() {
    let set = Arc::default();
    let honest = enter_many(&set, 1, 100, 3);
    advance(60 * SECOND).await;
    let flood = enter_many(&set, 9, 100, 1_000);
    assert!(evicted(&honest).is_empty());
    assert_eq!(evicted(&flood), (0..903).collect::<Vec<_>>());
    advance(SECOND).await;
    let late = enter_many(&set, 2, 100, 40);
    assert_eq!(evicted(&flood), (903..943).collect::<Vec<_>>());
    assert!(evicted(&honest).is_empty() && evicted(&late).is_empty());
}

/// An address with hundreds of quick clients is not the one that has been silent longest, although it has most.
#[tokio::test(start_paused = true)]
async fn c7_many_quick_clients_of_one_address_keep_their_places_beside_silent_addresses() {
    let set = Arc::default();
    let silent: Vec<_> = (0..150).map(|from| enter(&set, 100 + from, 150, from.into()).unwrap()).collect();
    advance(SECOND).await;
    let mut gateway = Vec::new();
    for _ in 0..75 {
        gateway.extend(enter_many(&set, 1, 150, 1));
        advance(SECOND / 1_000).await;
    }
    assert_eq!(evicted(&silent).len(), 75);
    assert!(evicted(&gateway).is_empty());
}

/// Sessions leave the unverified connections few places, so that one address with many logins has more than half of them.
#[tokio::test(start_paused = true)]
async fn c7_more_than_half_of_all_places_in_use_by_logins_cost_the_silent_crowd_its_places_first() {
    let set = Arc::default();
    let silent = enter_many(&set, 9, 100, 40);
    advance(5 * SECOND).await;
    let logins = enter_many(&set, 1, 100, 60);
    advance(SECOND / 10).await;
    let more = enter_many(&set, 1, 100, 15);
    assert_eq!(evicted(&silent), (0..15).collect::<Vec<_>>());
    assert!(evicted(&logins).is_empty() && evicted(&more).is_empty());
}

/// However quickly addresses open new connections and close old ones, they take no place of a client that goes on.
#[tokio::test(start_paused = true)]
async fn c7_churning_addresses_take_no_place_of_others() {
    for (max, addresses, patience) in [(10, 1, 60 * SECOND), (750, 1, 60 * SECOND), (750, 4, QUICK_STEP / 2)]
    {
        let set = Arc::default();
        let slow = enter_many(&set, 1, max, 1);
        for _ in 0..4 {
            advance(patience / 4).await;
            let flood = || {
                (0..2 * max)
                    .map(|number| enter(&set, 100 + u8::try_from(number % addresses).unwrap(), max, number))
            };
            drop(flood().collect::<Vec<_>>());
            let _flood: Vec<_> = flood().collect();
            assert!(evicted(&slow).is_empty(), "max {max}, {addresses} addresses, {:?}", set.made.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c7_a_finished_step_ends_the_silence_and_a_proxy_step_protects() {
    let set = Arc::default();
    let peers = enter_many(&set, 1, 4, 4);
    for (peer, turn) in [(0, EvictionStep::Client), (1, EvictionStep::Proxy), (2, EvictionStep::Client)] {
        advance(SECOND).await;
        peers[peer].entry.step(turn);
    }
    let mut order = Vec::new();
    let mut late = Vec::new();
    for number in 10..12 {
        late.extend(enter(&set, 1, 4, number));
        order.extend(evicted(&peers));
    }
    assert_eq!(order, [3, 0]);
    advance(SECOND).await;
    peers[1].entry.step(EvictionStep::Client);
    late.extend(enter(&set, 1, 4, 12));
    assert_eq!((evicted(&peers), evicted(&late)), (vec![2], vec![]));
    late.extend(enter(&set, 1, 4, 13));
    assert_eq!((evicted(&peers), evicted(&late)), (vec![], vec![10]));
}

#[tokio::test(start_paused = true)]
async fn c7_a_login_that_waits_for_the_proxy_stays_unless_its_address_has_more_than_half() {
    let set = Arc::default();
    let many = enter_many(&set, 9, 4, 3);
    let one = enter_many(&set, 1, 4, 1);
    for peer in many.iter().chain(&one) {
        peer.entry.step(EvictionStep::Proxy);
    }
    assert_eq!(enter(&set, 9, 4, 7).err(), Some(7), "its own address gets no more");
    let other = enter(&set, 2, 4, 8).unwrap();
    assert_eq!((evicted(&many), evicted(&one)), (vec![0], vec![]));
    other.entry.step(EvictionStep::Proxy);
    for newcomer in [1, 2, 3, 9] {
        assert_eq!(enter(&set, newcomer, 4, 7).err(), Some(7), "half is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_moves_to_the_newcomer_or_comes_back() {
    let set: Arc<EvictionSet<usize>> = Arc::default();
    let signal = EvictionSignal::default();
    assert!(set.replace(source(1), 1, EvictionStep::Client, &signal).is_none(), "there is nobody to replace");
    let old = enter(&set, 1, 1, 42).unwrap();
    let (new, who) = set.replace(source(2), 1, EvictionStep::Client, &signal).unwrap();
    assert!(old.is_evicted());
    assert_eq!(who, EvictedConnection { source: source(1), left: 0 });
    assert_eq!((old.entry.leave(), new.leave()), (None, Some(42)));
    let members = set.lock();
    assert!(members.all.is_empty());
    for ranking in [&members.waiting_for_client, &members.waiting_for_proxy] {
        assert!(ranking.sources.is_empty() && ranking.by_count.is_empty(), "{ranking:?}");
    }
}

/// A lowered limit is reached as connections end; each newcomer takes one place.
#[tokio::test(start_paused = true)]
async fn a_lowered_limit_makes_one_newcomer_replace_one() {
    let set = Arc::default();
    let peers = enter_many(&set, 1, 5, 5);
    let late = enter(&set, 2, 3, 9).unwrap();
    assert_eq!(evicted(&peers).len(), 1);
    assert_eq!(set.lock().all.len(), 5);
    drop((peers, late));
    assert_eq!(set.lock().all.len(), 0);
}

/// The ranking agrees with a look at every source, whatever was inserted, moved and removed before.
#[test]
fn c7_the_ranking_equals_that_of_a_full_scan() {
    const MAX: usize = 10;
    let changes = prop::collection::vec((0..4_u8, 0..2_000_000_u64, any::<bool>()), 1..80);
    let weight_of = |members: &[(Source, Moment, u64)], from: Source, now: Moment| {
        let own = || members.iter().filter(|member| member.0 == from);
        own().map(|member| weight(own().count(), now - member.1, MAX)).max()
    };
    proptest!(|(changes in changes)| {
        let (mut ranking, mut members) = (SilenceRanking::default(), Vec::new());
        for (id, (from, since, leave)) in changes.into_iter().enumerate() {
            let id = u64::try_from(id).unwrap();
            if leave && let Some((from, since, id)) = members.pop() {
                ranking.remove(from, since, id);
            } else {
                ranking.insert(source(from), since, id);
                members.insert(0, (source(from), since, id));
            }
            let now = 2_000_000 + id;
            let first = ranking.first(now, MAX);
            prop_assert_eq!(first.is_some(), !members.is_empty());
            let count = |from: Source| members.iter().filter(|member| member.0 == from).count();
            let greatest = members.iter().map(|member| count(member.0)).max();
            if let Some((from, id)) = first {
                let fewest = if greatest > Some(MAX / 2) { MAX / LARGE_SHARE } else { 0 };
                let large = members.iter().filter(|member| count(member.0) >= fewest);
                let most = large.filter_map(|member| weight_of(&members, member.0, now)).max();
                prop_assert!(count(from) >= fewest);
                prop_assert_eq!(weight_of(&members, from, now), most);
                let own = members.iter().filter(|member| member.0 == from);
                prop_assert_eq!(own.map(|member| (member.1, member.2)).min().map(|oldest| oldest.1), Some(id));
            }
        }
    });
}
