//! Clocks of HTTPS peers compared with this machine's clock, by the `Date` header.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Clock;
use crate::sync::lock;

/// Difference that is worth a warning: tokens, credentials and signatures are valid for minutes.
const WARN_FROM: Duration = Duration::from_mins(1);

/// Least time between two such warnings about one peer.
const WARN_EVERY: Duration = Duration::from_mins(10);

/// Difference that can matter to a token. The resolution of `Date` and the latency of a response are far
/// below it.
pub const NAME_FROM: Duration = Duration::from_secs(10);

/// Most peers remembered. They are hosts of the configuration, and hosts that issuers name.
const MAX_PEERS: usize = 1_024;

/// Last `Date` of each peer. Comparisons stay correct if this machine's clock is set meanwhile.
#[derive(Clone, Debug)]
pub struct PeerClocks(Arc<ClockState>);

#[derive(Debug)]
struct ClockState {
    clock: Clock,
    /// Peers by host and port.
    peers: Mutex<HashMap<String, PeerClock>>,
}

#[derive(Clone, Copy, Debug)]
struct PeerClock {
    date_time: SystemTime,
    at: Instant,
    warned: Option<Instant>,
}

/// Difference between this machine's clock and those of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockDifference {
    /// Seconds by which this machine's clock is ahead; negative if it is behind.
    pub seconds_ahead: i64,
    /// True if the clock differs from that of every peer.
    pub with_all: bool,
}

impl PeerClocks {
    /// Compares peers with `clock`.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(ClockState { clock, peers: Mutex::default() }))
    }

    /// Records the `Date` of a response (RFC 9110, section 6.6.1). An invalid `Date` is ignored.
    pub(super) fn record(&self, peer: &str, date: &str) {
        let Ok(date_time) = httpdate::parse_http_date(date) else { return };
        let now = Instant::now();
        let mut peers = self.peers();
        if peers.len() >= MAX_PEERS && !peers.contains_key(peer) {
            return;
        }
        let known = peers.entry(peer.to_owned()).or_insert(PeerClock { date_time, at: now, warned: None });
        (known.date_time, known.at) = (date_time, now);
        let seconds_ahead = self.ahead_of(known);
        let is_due = known.warned.is_none_or(|last| now - last >= WARN_EVERY);
        if is_due && is_at_least(seconds_ahead, WARN_FROM) {
            known.warned = Some(now);
            drop(peers);
            tracing::warn!(
                peer,
                seconds_ahead,
                "this machine's clock differs from an HTTPS peer's; correct it (NTP), or logins will fail"
            );
        }
    }

    /// Seconds by which this machine's clock is ahead of a peer's; `None` before its first response.
    pub fn seconds_ahead_of(&self, peer: &str) -> Option<i64> {
        let known = self.peers().get(peer).copied();
        known.map(|known| self.ahead_of(&known))
    }

    /// Seconds by which this machine's clock is ahead of each peer's, in the order of the peers' names.
    pub fn all_seconds_ahead(&self) -> Vec<(String, i64)> {
        let mut all: Vec<_> =
            self.peers().iter().map(|(peer, clock)| (peer.clone(), self.ahead_of(clock))).collect();
        all.sort_unstable();
        all
    }

    /// The difference that can matter to a token: the smallest one if all peers differ, else the largest.
    pub fn difference(&self) -> Option<ClockDifference> {
        let mut differences: Vec<i64> = self.peers().values().map(|peer| self.ahead_of(peer)).collect();
        differences.sort_unstable_by_key(|seconds| seconds.unsigned_abs());
        let with_all = is_at_least(*differences.first()?, NAME_FROM);
        let seconds_ahead = if with_all { *differences.first()? } else { *differences.last()? };
        is_at_least(seconds_ahead, NAME_FROM).then_some(ClockDifference { seconds_ahead, with_all })
    }

    fn ahead_of(&self, peer: &PeerClock) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let (ours, theirs) = (self.0.clock.now(), peer.date_time + peer.at.elapsed());
        ours.duration_since(theirs).map_or_else(|behind| -seconds(behind.duration()), seconds)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<String, PeerClock>> {
        lock(&self.0.peers)
    }
}

fn is_at_least(seconds: i64, limit: Duration) -> bool {
    seconds.unsigned_abs() >= limit.as_secs()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::UNIX_EPOCH;

    use super::*;

    /// 784111777 is the moment of RFC 9110's example (section 5.6.7).
    const EXAMPLE: u64 = 784_111_777;

    /// A clock that is set by hand, and what is compared with it.
    fn at(seconds: u64) -> (Arc<AtomicU64>, PeerClocks) {
        let now = Arc::new(AtomicU64::new(seconds));
        let date_time = Arc::clone(&now);
        let clock =
            Clock::from_fn(move || UNIX_EPOCH + Duration::from_secs(date_time.load(Ordering::Relaxed)));
        (now, PeerClocks::new(clock))
    }

    fn warned(clocks: &PeerClocks, peer: &str) -> bool {
        clocks.peers()[peer].warned.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn r17_the_difference_is_measured_and_nonsense_ignored() {
        let (_, clocks) = at(EXAMPLE + 60);
        clocks.record("a:443", "yesterday");
        assert_eq!((clocks.seconds_ahead_of("a:443"), clocks.difference()), (None, None));
        clocks.record("a:443", "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!((clocks.seconds_ahead_of("a:443"), warned(&clocks, "a:443")), (Some(59), false));
        clocks.record("a:443", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!((clocks.seconds_ahead_of("a:443"), warned(&clocks, "a:443")), (Some(60), true));
        let (_, behind) = at(0);
        behind.record("a:443", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!((behind.seconds_ahead_of("a:443"), warned(&behind, "a:443")), (Some(-784_111_777), true));
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_time_and_a_clock_that_is_set() {
        let (now, clocks) = at(EXAMPLE);
        clocks.record("a:443", "Sun, 06 Nov 1994 08:49:37 GMT");
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(clocks.seconds_ahead_of("a:443"), Some(-300), "ours has stood still");
        now.store(EXAMPLE + 300 + 7, Ordering::Relaxed);
        assert_eq!(clocks.seconds_ahead_of("a:443"), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn one_peer_that_differs_is_told_from_all() {
        let (now, clocks) = at(EXAMPLE + 9);
        clocks.record("a:443", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(clocks.difference(), None);
        clocks.record("b:443", "Sun, 06 Nov 1994 08:49:36 GMT");
        assert_eq!(clocks.difference(), Some(ClockDifference { seconds_ahead: 10, with_all: false }));
        now.store(EXAMPLE - 12, Ordering::Relaxed);
        assert_eq!(clocks.difference(), Some(ClockDifference { seconds_ahead: -11, with_all: true }));
    }

    #[tokio::test(start_paused = true)]
    async fn peers_are_remembered_up_to_a_limit() {
        let (_, clocks) = at(EXAMPLE);
        for n in 0..=MAX_PEERS {
            clocks.record(&n.to_string(), "Sun, 06 Nov 1994 08:49:37 GMT");
        }
        assert_eq!(clocks.peers().len(), MAX_PEERS);
        clocks.record("0", "Sun, 06 Nov 1994 08:49:36 GMT");
        assert_eq!(clocks.seconds_ahead_of("0"), Some(1));
    }
}
