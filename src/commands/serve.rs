//! `pgpassport serve`: the service from start to stop.

use std::io;
use std::panic::catch_unwind;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::reload::{Load, Reloader};
use crate::accept::acceptor::{Acceptor, EvictionLog, Generation, OpenSockets};
use crate::accept::listening_socket::ListeningSocket;
use crate::accept::workers::WorkerThreads;
use crate::accept::{fd_limit, socket_activation, threads};
use crate::admin::http;
use crate::admin::http::AdminServer;
use crate::app::{AppEnvironment, SharedState};
use crate::config::Config;
use crate::lifecycle::{self, ServiceSignals, ShutdownTokens};
use crate::supervisor::{TaskKind, TaskSupervisor};
use crate::telemetry::logging::LogControl;

/// Threads of the control plane: key sets, STS, health and metrics. Sessions have threads of their own.
const CONTROL_THREADS: usize = 2;

/// How long sessions may take to say goodbye once they have to.
const GOODBYE: Duration = Duration::from_secs(5);

/// Everything a service is started with.
pub struct ServiceOptions {
    /// Its configuration.
    pub config: Config,
    /// Where the next configuration comes from.
    pub load: Load,
    /// One for each of the configuration's listeners, in their order.
    pub doors: Vec<ListeningSocket>,
    /// The admin address, listened on.
    pub admin: Option<TcpListener>,
    /// The running log.
    pub log: LogControl,
    /// Notified when the next configuration should be taken.
    pub reload: Arc<Notify>,
    /// How it is stopped.
    pub stopping: ShutdownTokens,
    /// The signals that end the service or change it; a test does both by hand.
    pub signals: Option<ServiceSignals>,
    /// Tells the time, and where names lead.
    pub outside: AppEnvironment,
}

/// Serves until a signal ends it. `load` reads the configuration again.
pub fn run(config: Config, load: Load, log: LogControl) -> anyhow::Result<()> {
    let control = control_runtime()?;
    fd_limit::provide(config.limits.max_client_conn, config.pool.map_or(0, |pool| pool.max_idle))?;
    control.block_on(async {
        let signals = ServiceSignals::listen().context("signals cannot be listened to")?;
        let sockets = socket_activation::open(&config.listeners)?;
        let admin = match config.admin.addr {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        serve(ServiceOptions {
            config,
            load,
            doors: sockets,
            admin,
            log,
            reload: Arc::default(),
            stopping: ShutdownTokens::default(),
            signals: Some(signals),
            outside: AppEnvironment::default(),
        })
        .await
    })
}

/// The runtime of the control plane. Nothing on it blocks a thread.
fn control_runtime() -> anyhow::Result<Runtime> {
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .max_blocking_threads(1)
            .thread_name("control")
            .enable_all()
            .build()
    };
    let failed = "the control runtime cannot be started";
    // tokio panics when the system gives no thread for a worker; so it is asked for as many before.
    threads::probe(CONTROL_THREADS).context(failed)?;
    let built = catch_unwind(build).map_err(|_| anyhow!("the system gives no thread for it"));
    built.and_then(|built| Ok(built?)).context(failed)
}

async fn listen(addr: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    if !addr.ip().is_loopback() {
        tracing::warn!(%addr, "admin.addr is not a loopback address: whoever reaches it reads health and metrics");
    }
    TcpListener::bind(addr).await.with_context(|| format!("admin.addr: cannot listen on {addr}"))
}

/// Tells what will probably not work.
pub(super) fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Serves clients until it is stopped. Runs on the control runtime; every part of it that must not end is a task of the
/// supervisor.
pub async fn serve(service: ServiceOptions) -> anyhow::Result<()> {
    let ServiceOptions {
        config,
        load,
        doors: sockets,
        admin,
        log,
        reload,
        stopping: shutdown,
        signals,
        outside: environment,
    } = service;
    warn(&config);
    let shared =
        Arc::new(SharedState::new(environment, Handle::current(), shutdown.clone(), log, &config.cancel)?);
    let supervisor = shared.supervisor.clone();
    if let Some(signals) = signals {
        drive(&supervisor, signals, &shutdown, &reload);
    }
    shared.registry.deny(config.denied.clone());
    let current = Arc::new(ArcSwap::from_pointee(shared.build(config.clone(), None)?));
    let count = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers =
        WorkerThreads::start(count, &supervisor).context("the session threads cannot be started")?;

    let addresses =
        sockets.iter().map(|socket| Ok(socket.addr()?.to_string())).collect::<io::Result<Vec<_>>>()?;
    let addr = addresses.join(", ");
    let status = format!("listening on {addr}");
    tracing::info!(addr, workers = workers.count(), version = env!("CARGO_PKG_VERSION"), "listening");

    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let looks = admin.map(|listener| look(listener, &shared, &current, &ended));
    let monitored = supervisor.clone();
    let monitor = move || {
        let supervisor = monitored.clone();
        async move { lifecycle::monitor(&supervisor).await }
    };
    supervisor.spawn(TaskKind::HealthMonitor, ended.clone(), monitor);
    lifecycle::ready(&status);
    let acceptor = Acceptor {
        workers,
        current: Arc::clone(&current),
        permits: Arc::clone(&shared.permits),
        metrics: Arc::clone(&shared.metrics),
        evictions: EvictionLog::default(),
    };
    let reloader = Reloader {
        host: shared,
        current,
        running: Mutex::new(config),
        load,
        status,
        under_way: AtomicBool::new(false),
        reading: Arc::default(),
    };
    reload_when_asked(&supervisor, reloader, reload);

    live(&supervisor, &acceptor, sockets, &shutdown).await;
    ended.cancel();
    if let Some(looks) = looks {
        let _ = looks.await; // it has been told to end
    }
    Ok(())
}

/// Turns signals into stopping and reloading.
fn drive(
    supervisor: &TaskSupervisor,
    signals: ServiceSignals,
    shutdown: &ShutdownTokens,
    reload: &Arc<Notify>,
) {
    let signals = Arc::new(tokio::sync::Mutex::new(signals));
    let (until, shutdown, reload) = (shutdown.now.clone(), shutdown.clone(), Arc::clone(reload));
    supervisor.spawn(TaskKind::SignalDriver, until, move || {
        let (signals, shutdown, reload) = (Arc::clone(&signals), shutdown.clone(), Arc::clone(&reload));
        async move { signals.lock().await.drive(&shutdown, &reload).await }
    });
}

/// Serves health and metrics on `listener`.
fn look(
    listener: TcpListener,
    shared: &SharedState,
    current: &Arc<ArcSwap<Generation>>,
    ended: &CancellationToken,
) -> JoinHandle<()> {
    let admin = Arc::new(AdminServer {
        stopping: shared.shutdown.clone(),
        current: Arc::clone(current),
        counts: Arc::clone(&shared.permits),
        metrics: Arc::clone(&shared.metrics),
        resolver: shared.outside.resolver.clone(),
        supervisor: shared.supervisor.clone(),
        log: shared.log.clone(),
    });
    let listener = Arc::new(listener);
    shared.supervisor.spawn(TaskKind::AdminServer, ended.clone(), move || {
        let (listener, admin) = (Arc::clone(&listener), Arc::clone(&admin));
        async move { http::serve(&listener, admin).await }
    })
}

/// Takes changed configurations until the service stops.
fn reload_when_asked(supervisor: &TaskSupervisor, reloader: Reloader, wanted: Arc<Notify>) {
    let (reloader, over) = (Arc::new(reloader), CancellationToken::new());
    supervisor.spawn(TaskKind::Reloader, over.clone(), move || {
        let (reloader, wanted, over) = (Arc::clone(&reloader), Arc::clone(&wanted), over.clone());
        async move {
            reloader.run(&wanted).await;
            over.cancel();
        }
    });
}

/// Accepts clients, and lets their sessions end when it is time.
async fn live(
    supervisor: &TaskSupervisor,
    acceptor: &Acceptor,
    sockets: Vec<ListeningSocket>,
    shutdown: &ShutdownTokens,
) {
    let (sockets, closed) = (tokio::sync::Mutex::new(OpenSockets::new(sockets)), CancellationToken::new());
    let accept = || async {
        acceptor.run(&mut *sockets.lock().await, shutdown).await;
        closed.cancel();
    };
    supervisor.run(TaskKind::Acceptor, &closed, accept).await;
    let ended = CancellationToken::new();
    let end = || async {
        end_sessions(acceptor, shutdown).await;
        ended.cancel();
    };
    supervisor.run(TaskKind::Shutdown, &ended, end).await;
}

/// Lets sessions end by themselves, for as long as the configuration says, and ends those that are left.
async fn end_sessions(acceptor: &Acceptor, shutdown: &ShutdownTokens) {
    let Acceptor { workers, current, .. } = acceptor;
    tracing::info!(sessions = workers.sessions(), "the listener is closed; waiting for sessions to end");
    shutdown.drain.cancel();
    current.load().context.close_pool();
    let patience = current.load().shutdown_timeout;
    let mut ended = std::pin::pin!(workers.ended());
    tokio::select! {
        () = &mut ended => return,
        () = shutdown.now.cancelled() => {}
        () = sleep(patience) => shutdown.now.cancel(),
    }
    if timeout(GOODBYE, ended).await.is_err() {
        tracing::warn!("some sessions did not end and are cut off");
    }
}
