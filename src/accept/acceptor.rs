//! Accept loop for all listening sockets, from the first client to the last one in a queue.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};

use super::fd_reserve::{FdReserve, SpareFd, is_shortage};
use super::listening_socket::ListeningSocket;
use super::workers::{AcceptedConnection, WorkerThreads};
use crate::config::RunningKey;
use crate::lifecycle::ShutdownTokens;
use crate::names::client_addr::ClientAddr;
use crate::net::client_socket::ClientSocket;
use crate::session::SessionContext;
use crate::session::listener::ListenerService;
use crate::session::permits::{AdmissionError, EvictedConnection};
use crate::session::shared::Shared;
use crate::sync::lock;
use crate::telemetry::connection_metrics::ConnectionMetrics;
use crate::telemetry::login_metrics::SessionRoute;

/// Pause after the first failed accept, doubled up to [`MAX_PAUSE`]. Without a pause, a process without free
/// file descriptors spins.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Least time between two log lines about accept errors.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Most clients taken from the queues at once if no file descriptor is free for them.
const MAX_TURNED_AWAY: usize = 64;

/// Everything built from one configuration. A reload builds the next; live sessions keep theirs.
#[derive(Debug)]
pub struct Generation {
    /// Shared parts of a session: verifier, policy, pool, and so on.
    pub context: Arc<SessionContext>,
    /// The service of each listener, in the order of the sockets.
    pub listeners: Vec<Arc<dyn ListenerService>>,
    /// Expiry of each listener's certificate, in seconds since 1970; absent for a Unix socket.
    pub certificates: Vec<Option<i64>>,
    /// The same of the HTTPS pages, by their tables of the configuration.
    pub page_certificates: Vec<(&'static str, i64)>,
    /// Keys of the configuration with their values.
    pub keys: Arc<[RunningKey]>,
}

impl Generation {
    /// Each cluster with each listener of its protocol.
    pub fn session_routes(&self) -> Vec<SessionRoute> {
        let routes = |listener: &Arc<dyn ListenerService>| {
            let (name, protocol) = (listener.name().to_owned(), listener.protocol());
            let clusters = self.context.clusters_of(protocol).map(str::to_owned);
            clusters.map(move |cluster| SessionRoute { cluster, listener: name.clone(), protocol })
        };
        self.listeners.iter().flat_map(routes).collect()
    }
}

/// The accept loop's parts.
#[derive(Debug)]
pub struct Acceptor {
    /// Worker threads that run the sessions.
    pub workers: WorkerThreads,
    /// The current configuration.
    pub current: Arc<ArcSwap<Generation>>,
    /// The state that outlives a configuration.
    pub shared: Arc<Shared>,
    /// Counts failed accepts, and connections that are closed without a refusal.
    pub metrics: ConnectionMetrics,
    /// Log of evicted connections, rate-limited.
    pub evictions: EvictionLog,
}

/// Logs evictions, at most once per [`WARN_EVERY`].
#[derive(Debug, Default)]
pub struct EvictionLog(Mutex<(Option<Instant>, u64)>);

impl EvictionLog {
    fn note(&self, evicted: EvictedConnection) {
        let mut logged = lock(&self.0);
        let (at, since) = &mut *logged;
        *since += 1;
        if at.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        let (source, left) = (evicted.source, evicted.left);
        tracing::warn!(
            %source, left, evicted = *since,
            "the limit of unauthenticated connections is reached; the longest silent ones are closed"
        );
        *logged = (Some(Instant::now()), 0);
    }
}

/// The open sockets and their indexes.
#[derive(Debug)]
pub struct OpenSockets(Vec<(usize, ListeningSocket)>);

impl OpenSockets {
    /// All sockets, in the order of the configuration's listeners.
    pub fn new(sockets: Vec<ListeningSocket>) -> Self {
        Self(sockets.into_iter().enumerate().collect())
    }
}

impl Acceptor {
    /// Accepts clients of `sockets` until `shutdown` has closed all of them. Sessions continue. Can be called
    /// again after a panic, with the remaining sockets.
    pub async fn run(&self, OpenSockets(sockets): &mut OpenSockets, shutdown: &ShutdownTokens) {
        let (mut backoff, mut reserve) = (AcceptBackoff::new(), FdReserve::new());
        let mut turn = 0;
        while !sockets.is_empty() {
            let next_close = sockets.iter().filter_map(|(_, socket)| socket.closes_at).min();
            let accepted = tokio::select! {
                biased;
                () = shutdown.drain.cancelled() => return sockets.clear(),
                () = shutdown.asked.cancelled(), if next_close.is_none() => {
                    let delay = self.current.load().context.limits.shutdown_delay;
                    for (_, socket) in &mut *sockets {
                        socket.close_after(delay);
                    }
                    continue;
                }
                () = until(next_close) => {
                    let now = Instant::now();
                    let due = sockets.extract_if(.., |(_, socket)| socket.proceed(now)).collect();
                    self.close(due).await;
                    continue;
                }
                accepted = next(sockets, &mut turn), if !backoff.is_pausing() => accepted,
                () = backoff.pause() => continue,
            };
            match accepted {
                Ok((socket, peer, number)) => {
                    backoff.succeeded();
                    reserve.refill();
                    self.receive(socket, peer, number, None).await;
                }
                Err(error) => {
                    self.metrics.accept_failed();
                    backoff.failed(&error);
                    if is_shortage(&error) {
                        self.refuse_waiting(sockets, &mut turn, &mut reserve).await;
                    }
                }
            }
        }
    }

    /// Serves waiting clients with reserved file descriptors if no other is free: most are refused with a
    /// reason, the last is closed. Both are better than leaving clients in the queue.
    async fn refuse_waiting(
        &self,
        sockets: &[(usize, ListeningSocket)],
        turn: &mut usize,
        reserve: &mut FdReserve,
    ) {
        for _ in 0..MAX_TURNED_AWAY {
            let Some(spare) = reserve.take_spare() else { return };
            let Some(Ok((socket, peer, number))) = next(sockets, turn).now_or_never() else { break };
            match spare {
                SpareFd::ForRefusal => {
                    self.receive(socket, peer, number, Some(AdmissionError::Descriptors)).await;
                }
                SpareFd::ForClose => self.metrics.closed_unheard(),
            }
        }
        reserve.refill();
    }

    /// Closes sockets, and serves the connections in their queues.
    async fn close(&self, sockets: Vec<(usize, ListeningSocket)>) {
        for (number, socket) in sockets {
            match socket.into_waiting() {
                Ok(waiting) => {
                    for (socket, peer) in waiting {
                        self.receive(socket, peer, number, None).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "clients in a listener's queue may be lost"),
            }
        }
    }

    async fn receive(
        &self,
        socket: ClientSocket,
        peer: ClientAddr,
        number: usize,
        refuse: Option<AdmissionError>,
    ) {
        let now = self.current.load();
        let (admission, evicted) = match refuse {
            Some(why) => (self.shared.permits.refuse(why, peer.into()), None),
            None => self.shared.permits.admit(&now.context.limits, peer.into()),
        };
        if let Some(evicted) = evicted {
            self.evictions.note(evicted);
        }
        match (admission, now.listeners.get(number)) {
            (Some(admission), Some(service)) => {
                let (shared, service) = (Arc::clone(&self.shared), Arc::clone(service));
                drop(now);
                self.workers.serve(AcceptedConnection { socket, peer, shared, service, admission }).await;
            }
            _ => self.metrics.closed_unheard(), // even saying no has a limit
        }
    }
}

/// The next client of any socket, and the socket's number. Sockets take turns, so that a busy one does not starve the
/// others.
async fn next(
    sockets: &[(usize, ListeningSocket)],
    turn: &mut usize,
) -> io::Result<(ClientSocket, ClientAddr, usize)> {
    poll_fn(|cx| {
        let from = *turn % sockets.len().max(1);
        let (later, first) = sockets.split_at(from);
        for (place, (number, socket)) in first.iter().chain(later).enumerate() {
            if let Poll::Ready(accepted) = socket.listener.poll_accept(cx) {
                *turn = from + place + 1;
                return Poll::Ready(accepted.map(|(socket, peer)| (socket, peer, *number)));
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

/// Backoff after failed accepts, for example without free file descriptors: pauses, and logs only some
/// failures.
#[derive(Debug)]
struct AcceptBackoff {
    next_pause: Duration,
    until: Option<Instant>,
    warned: Option<Instant>,
    unlogged: u64,
}

impl AcceptBackoff {
    fn new() -> Self {
        Self { next_pause: FIRST_PAUSE, until: None, warned: None, unlogged: 0 }
    }

    fn failed(&mut self, error: &io::Error) {
        let now = Instant::now();
        self.until = Some(now + self.next_pause);
        self.next_pause = (self.next_pause * 2).min(MAX_PAUSE);
        if self.warned.is_some_and(|at| now - at < WARN_EVERY) {
            self.unlogged += 1;
            return;
        }
        tracing::warn!(%error, times_before = self.unlogged, "a connection could not be accepted; pausing");
        (self.warned, self.unlogged) = (Some(now), 0);
    }

    fn succeeded(&mut self) {
        self.next_pause = FIRST_PAUSE;
    }

    fn is_pausing(&self) -> bool {
        self.until.is_some()
    }

    /// Waits for the end of the pause, if any.
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
    use crate::accept::client_listener::ClientListener;
    use crate::app::{AppEnvironment, GenerationBuilder};
    use crate::config::Config;
    use crate::telemetry::logging;
    use crate::telemetry::metrics::MetricsSnapshot;
    use crate::telemetry::metrics_format::MetricsFormat;

    /// An acceptor with the smallest possible configuration. Its key stores run on `control`.
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
        let builder = GenerationBuilder::new(
            AppEnvironment::default(),
            control.handle().clone(),
            ShutdownTokens::default(),
            log,
            &config.cancel,
        );
        let builder = builder.unwrap();
        Acceptor {
            workers: WorkerThreads::start(1, &builder.shared.supervisor).unwrap(),
            current: Arc::new(ArcSwap::from_pointee(builder.build(config, None).unwrap())),
            metrics: builder.shared.metrics.connections.clone(),
            shared: builder.shared,
            evictions: EvictionLog::default(),
        }
    }

    /// Counts real accept failures during one minute of the paused clock. A socket that was shut down fails
    /// every accept immediately, as accept does without free file descriptors while clients wait.
    #[test]
    fn r12_an_acceptor_that_cannot_accept_tries_about_once_a_second() {
        const STEP: Duration = FIRST_PAUSE;
        let control = Builder::new_current_thread().enable_all().build().unwrap(); // never turns: nobody asks for keys
        let acceptor = acceptor(&control);
        let errors = || {
            let text =
                acceptor.shared.metrics.text(MetricsSnapshot::default(), MetricsFormat::OpenMetrics).unwrap();
            let count = text.lines().find_map(|line| line.strip_prefix("pgpassport_accept_errors_total "));
            count.unwrap().parse::<u64>().unwrap()
        };
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
            let socket = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
            let ClientListener::Tcp(listener) = &socket.listener else { panic!("{socket:?}") };
            SockRef::from(listener).shutdown(std::net::Shutdown::Read).unwrap();
            let (shutdown, mut sockets) = (ShutdownTokens::default(), OpenSockets::new(vec![socket]));
            let minute = async {
                // Advances in steps, because the paused clock advances only for sleeping tasks.
                for _ in 0..Duration::from_mins(1).as_millis() / STEP.as_millis() {
                    advance(STEP).await;
                }
                let tries = errors();
                shutdown.drain.cancel(); // which it hears in a pause too
                tries
            };
            let ((), tries) = tokio::join!(acceptor.run(&mut sockets, &shutdown), minute);
            // Pauses of 10, 20, … 640 ms take 1.27 s; then one second each, at most one step late.
            assert!((60..=66).contains(&tries), "{tries} tries in a minute");
        });
    }

    /// An hour of failing accepts: few attempts, fewer log lines, and immediate recovery.
    #[tokio::test(start_paused = true)]
    async fn r12_failures_to_accept_neither_spin_nor_flood() {
        let (mut backoff, start) = (AcceptBackoff::new(), Instant::now());
        let (mut tries, mut lines) = (0, 0);
        let mut pauses = Vec::new();
        while start.elapsed() < Duration::from_hours(1) && tries < 10_000 {
            let before = backoff.warned;
            backoff.failed(&io::Error::other("too many open files"));
            tries += 1;
            lines += u32::from(backoff.warned != before);
            assert!(backoff.is_pausing());
            let since = Instant::now();
            backoff.pause().await;
            pauses.push(since.elapsed());
            assert!(!backoff.is_pausing());
        }
        assert_eq!(pauses[..3], [10, 20, 40].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&MAX_PAUSE));
        assert!((3_600..3_620).contains(&tries), "{tries} tries");
        assert!((320..=360).contains(&lines), "{lines} lines");
        backoff.succeeded();
        backoff.failed(&io::Error::other("again"));
        let since = Instant::now();
        backoff.pause().await;
        assert_eq!(since.elapsed(), FIRST_PAUSE);
    }
}
