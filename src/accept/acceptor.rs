//! Accepting clients: one acceptor for all listening sockets, from the first client to the last one in a queue.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::fd_reserve::{Lent, Reserve, is_shortage};
use super::listening_socket::Door;
use super::workers::{Cores, Job};
use crate::lifecycle::Stopping;
use crate::postgres::listener::Listener;
use crate::session::Steps;
use crate::session::permits::{Counts, DoorLimits, Evicted, NoPlace};
use crate::telemetry::metrics::Metrics;

/// Pause after the first failed accept, doubled up to [`MAX_PAUSE`]: without one, a process that has run out
/// of descriptors spins.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Accept errors are logged at most this often.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Clients that are taken from the queue in one go when there are no descriptors for them.
const MAX_TURNED_AWAY: usize = 64;

/// What a new connection meets: one configuration, whole. A reload makes another one.
#[derive(Debug)]
pub struct Generation {
    /// What it passes through.
    pub steps: Arc<Steps>,
    /// What it meets at each door, in the doors' order.
    pub listeners: Vec<Arc<Listener>>,
    /// When the certificate of each expires, in seconds since 1970.
    pub certificates: Vec<i64>,
    /// How many there may be.
    pub limits: DoorLimits,
    /// How long new clients are told to go elsewhere before the doors close.
    pub shutdown_delay: Duration,
    /// How long sessions may go on after that.
    pub shutdown_timeout: Duration,
}

/// What the acceptor works with.
#[derive(Debug)]
pub struct Acceptor {
    /// Where sessions live.
    pub cores: Cores,
    /// The configuration in force.
    pub current: Arc<ArcSwap<Generation>>,
    /// Who is there.
    pub counts: Arc<Counts>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What has been said about connections that make room.
    pub evictions: EvictionLog,
}

/// Says that connections make room for others, at most once every [`WARN_EVERY`].
#[derive(Debug, Default)]
pub struct EvictionLog(Mutex<(Option<Instant>, u64)>);

impl EvictionLog {
    fn note(&self, evicted: Evicted) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, since) = &mut *said;
        *since += 1;
        if at.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        let (source, left) = (evicted.source, evicted.left);
        tracing::warn!(
            %source, left, evicted = *since,
            "all places for logins are taken: the longest silent connections make room"
        );
        *said = (Some(Instant::now()), 0);
    }
}

/// The doors that are open, with their numbers.
#[derive(Debug)]
pub struct Doors(Vec<(usize, Door)>);

impl Doors {
    /// All doors, in the order of the configuration's listeners.
    pub fn new(doors: Vec<Door>) -> Self {
        Self(doors.into_iter().enumerate().collect())
    }
}

impl Acceptor {
    /// Serves clients of `doors` until all of them are closed, as `stopping` says. Sessions go on. Can be called again
    /// after a panic, with the doors that are left.
    pub async fn run(&self, Doors(doors): &mut Doors, stopping: &Stopping) {
        let (mut trouble, mut reserve) = (Trouble::new(), Reserve::new());
        let mut turn = 0;
        while !doors.is_empty() {
            let next_close = doors.iter().filter_map(|(_, door)| door.closes).min();
            let accepted = tokio::select! {
                biased;
                () = stopping.drain.cancelled() => return doors.clear(),
                () = stopping.asked.cancelled(), if next_close.is_none() => {
                    let delay = self.current.load().shutdown_delay;
                    for (_, door) in &mut *doors {
                        door.close_after(delay);
                    }
                    continue;
                }
                () = until(next_close) => {
                    let now = Instant::now();
                    let due = doors.extract_if(.., |(_, door)| door.closes.is_some_and(|at| at <= now)).collect();
                    self.close(due).await;
                    continue;
                }
                accepted = next(doors, &mut turn), if !trouble.is_pausing() => accepted,
                () = trouble.pause() => continue,
            };
            match accepted {
                Ok((tcp, peer, number, refuse)) => {
                    trouble.over();
                    reserve.refill();
                    self.receive(tcp, peer, number, refuse.then_some(NoPlace::Stopping)).await;
                }
                Err(error) => {
                    self.metrics.accept_failed();
                    trouble.met(&error);
                    if is_shortage(&error) {
                        self.turn_away(doors, &mut turn, &mut reserve).await;
                    }
                }
            }
        }
    }

    /// Serves whoever waits, when there is no descriptor for another client, with those of the reserve: some are told
    /// so, and the others closed. Both are better than to wait for nothing.
    async fn turn_away(&self, doors: &[(usize, Door)], turn: &mut usize, reserve: &mut Reserve) {
        for _ in 0..MAX_TURNED_AWAY {
            let Some(lent) = reserve.lend() else { return };
            let Some(Ok((tcp, peer, number, _))) = next(doors, turn).now_or_never() else { break };
            match lent {
                Lent::ToTell => self.receive(tcp, peer, number, Some(NoPlace::Descriptors)).await,
                Lent::ToClose => self.metrics.closed_unheard(),
            }
        }
        reserve.refill();
    }

    /// Closes doors when whoever is in their queues has been received.
    async fn close(&self, doors: Vec<(usize, Door)>) {
        for (number, door) in doors {
            let refuse = (!door.has_successor()).then_some(NoPlace::Stopping);
            match door.into_waiting() {
                Ok(waiting) => {
                    for (tcp, peer) in waiting {
                        self.receive(tcp, peer, number, refuse.clone()).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "clients in a listener's queue may be lost"),
            }
        }
    }

    async fn receive(&self, tcp: TcpStream, peer: SocketAddr, number: usize, refuse: Option<NoPlace>) {
        let now = self.current.load();
        let (place, evicted) = match refuse {
            Some(why) => (self.counts.refuse(why, peer.ip().into()), None),
            None => self.counts.admit(&now.limits, peer.ip().into()),
        };
        if let Some(evicted) = evicted {
            self.evictions.note(evicted);
        }
        match (place, now.listeners.get(number)) {
            (Some(place), Some(listener)) => {
                let (steps, listener) = (Arc::clone(&now.steps), Arc::clone(listener));
                drop(now);
                self.cores.serve(Job { tcp, peer, steps, listener, place }).await;
            }
            _ => self.metrics.closed_unheard(), // even saying no has a limit
        }
    }
}

/// The next client of any door, the door's number, and whether to tell it no. Doors take turns, so that a busy
/// one does not starve the others.
async fn next(doors: &[(usize, Door)], turn: &mut usize) -> io::Result<(TcpStream, SocketAddr, usize, bool)> {
    poll_fn(|cx| {
        let from = *turn % doors.len().max(1);
        let (later, first) = doors.split_at(from);
        for (place, (number, door)) in first.iter().chain(later).enumerate() {
            if let Poll::Ready(accepted) = door.socket.poll_accept(cx) {
                *turn = from + place + 1;
                let refuse = door.closes.is_some() && !door.has_successor();
                return Poll::Ready(accepted.map(|(tcp, peer)| (tcp, peer, *number, refuse)));
            }
        }
        Poll::Pending
    })
    .await
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Accepting fails, for example for want of file descriptors: it goes on after a pause, and not every failure is
/// worth a line.
#[derive(Debug)]
struct Trouble {
    next_pause: Duration,
    until: Option<Instant>,
    warned: Option<Instant>,
    unsaid: u64,
}

impl Trouble {
    fn new() -> Self {
        Self { next_pause: FIRST_PAUSE, until: None, warned: None, unsaid: 0 }
    }

    fn met(&mut self, error: &io::Error) {
        let now = Instant::now();
        self.until = Some(now + self.next_pause);
        self.next_pause = (self.next_pause * 2).min(MAX_PAUSE);
        if self.warned.is_some_and(|at| now - at < WARN_EVERY) {
            self.unsaid += 1;
            return;
        }
        tracing::warn!(%error, times_before = self.unsaid, "a connection could not be accepted; pausing");
        (self.warned, self.unsaid) = (Some(now), 0);
    }

    fn over(&mut self) {
        self.next_pause = FIRST_PAUSE;
    }

    fn is_pausing(&self) -> bool {
        self.until.is_some()
    }

    /// Waits for the end of the pause, if there is one.
    async fn pause(&mut self) {
        until(self.until).await;
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::runtime::Builder;
    use tokio::time::advance;

    use super::*;
    use crate::app::{Host, Outside};
    use crate::config::Config;
    use crate::telemetry::logging;
    use crate::telemetry::metrics::Snapshot;

    /// An acceptor whose clients would meet the smallest configuration that there is. What runs on `control` are its
    /// key sets.
    fn acceptor(control: &tokio::runtime::Runtime) -> Acceptor {
        let folder = tempfile::tempdir().unwrap();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for (name, text) in [
            ("server.crt", issued.cert.pem()),
            ("server.key", issued.signing_key.serialize_pem()),
            ("rds.pem", issued.cert.pem()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let text = include_str!("../../tests/config/valid/smallest.toml");
        let config = Config::from_toml(text, folder.path().join("proxy.toml")).unwrap();
        let _context = control.enter();
        let log = logging::build(&config.log, &config.audit, Box::new(io::sink()), false).unwrap().1;
        let host =
            Host::new(Outside::default(), control.handle().clone(), Stopping::default(), log, &config.cancel);
        let host = host.unwrap();
        Acceptor {
            cores: Cores::start(1, &host.supervisor).unwrap(),
            current: Arc::new(ArcSwap::from_pointee(host.build(config, None).unwrap())),
            counts: host.counts,
            metrics: host.metrics,
            evictions: EvictionLog::default(),
        }
    }

    /// Real failures to accept, counted over a minute of the timers' clock. A socket that has been shut down has no
    /// client and never will have; each call says so at once, as it does for want of descriptors while clients wait.
    #[test]
    fn r12_an_acceptor_that_cannot_accept_tries_about_once_a_second() {
        const STEP: Duration = FIRST_PAUSE;
        let control = Builder::new_current_thread().enable_all().build().unwrap(); // never turns: nobody asks for keys
        let acceptor = acceptor(&control);
        let errors = || {
            let text = acceptor.metrics.text(Snapshot::default()).unwrap();
            let count = text.lines().find_map(|line| line.strip_prefix("pgpassport_accept_errors_total "));
            count.unwrap().parse::<u64>().unwrap()
        };
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
            let door = Door::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
            SockRef::from(&door.socket).shutdown(std::net::Shutdown::Read).unwrap();
            let (stopping, mut doors) = (Stopping::default(), Doors::new(vec![door]));
            let minute = async {
                // Step by step, because the clock does not go on by itself for those who do not sleep.
                for _ in 0..Duration::from_mins(1).as_millis() / STEP.as_millis() {
                    advance(STEP).await;
                }
                let tries = errors();
                stopping.drain.cancel(); // which it hears in a pause too
                tries
            };
            let ((), tries) = tokio::join!(acceptor.run(&mut doors, &stopping), minute);
            // Pauses of 10, 20, … 640 ms take 1.27 s; then one a second, each at most a step late.
            assert!((60..=66).contains(&tries), "{tries} tries in a minute");
        });
    }

    /// An hour in which nothing can be accepted: few tries, fewer lines, and an end of it at once when it is over.
    #[tokio::test(start_paused = true)]
    async fn r12_failures_to_accept_neither_spin_nor_flood() {
        let (mut trouble, start) = (Trouble::new(), Instant::now());
        let (mut tries, mut lines) = (0, 0);
        let mut pauses = Vec::new();
        while start.elapsed() < Duration::from_hours(1) && tries < 10_000 {
            let before = trouble.warned;
            trouble.met(&io::Error::other("too many open files"));
            tries += 1;
            lines += u32::from(trouble.warned != before);
            assert!(trouble.is_pausing());
            let since = Instant::now();
            trouble.pause().await;
            pauses.push(since.elapsed());
            assert!(!trouble.is_pausing());
        }
        assert_eq!(pauses[..3], [10, 20, 40].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&MAX_PAUSE));
        assert!((3_600..3_620).contains(&tries), "{tries} tries");
        assert!((320..=360).contains(&lines), "{lines} lines");
        trouble.over();
        trouble.met(&io::Error::other("again"));
        let since = Instant::now();
        trouble.pause().await;
        assert_eq!(since.elapsed(), FIRST_PAUSE);
    }
}
