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
use crate::accept::acceptor::{Acceptor, Doors, EvictionLog, Generation};
use crate::accept::listening_socket::Door;
use crate::accept::workers::Cores;
use crate::accept::{fd_limit, socket_activation, threads};
use crate::admin::http;
use crate::admin::http::Admin;
use crate::app::{Host, Outside};
use crate::config::Config;
use crate::lifecycle::{self, Signals, Stopping};
use crate::supervisor::{TaskKind, TaskSupervisor};
use crate::telemetry::logging::LogControl;

/// Threads of the control plane: key sets, STS, health and metrics. Sessions have threads of their own.
const CONTROL_THREADS: usize = 2;

/// How long the last clients of a listener that has a successor may take to begin their work before idle sessions
/// are ended: they have been let in a moment ago, and nobody should regret having come here.
const SETTLE: Duration = Duration::from_secs(1);

/// How long sessions may take to say goodbye once they have to.
const GOODBYE: Duration = Duration::from_secs(5);

/// Everything a service is started with.
pub struct Service {
    /// Its configuration.
    pub config: Config,
    /// Where the next configuration comes from.
    pub load: Load,
    /// One for each of the configuration's listeners, in their order.
    pub doors: Vec<Door>,
    /// The admin address, listened on.
    pub admin: Option<TcpListener>,
    /// The running log.
    pub log: LogControl,
    /// Notified when the next configuration should be taken.
    pub reload: Arc<Notify>,
    /// How it is stopped.
    pub stopping: Stopping,
    /// The signals that end the service or change it; a test does both by hand.
    pub signals: Option<Signals>,
    /// Tells the time, and where names lead.
    pub outside: Outside,
}

/// Serves until a signal ends it. `load` reads the configuration again.
pub fn run(config: Config, load: Load, log: LogControl) -> anyhow::Result<()> {
    let control = control_runtime()?;
    fd_limit::provide(config.limits.max_client_conn, config.pool.map_or(0, |pool| pool.max_idle))?;
    control.block_on(async {
        let signals = Signals::listen().context("signals cannot be listened to")?;
        let doors = socket_activation::open(&config.listeners)?;
        let admin = match config.admin.addr {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        serve(Service {
            config,
            load,
            doors,
            admin,
            log,
            reload: Arc::default(),
            stopping: Stopping::default(),
            signals: Some(signals),
            outside: Outside::default(),
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
pub async fn serve(service: Service) -> anyhow::Result<()> {
    let Service { config, load, doors, admin, log, reload, stopping, signals, outside } = service;
    warn(&config);
    let host = Arc::new(Host::new(outside, Handle::current(), stopping.clone(), log, &config.cancel)?);
    let supervisor = host.supervisor.clone();
    if let Some(signals) = signals {
        drive(&supervisor, signals, &stopping, &reload);
    }
    host.roll.deny(config.denied.clone());
    let current = Arc::new(ArcSwap::from_pointee(host.build(config.clone(), None)?));
    let count = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = Cores::start(count, &supervisor).context("the session threads cannot be started")?;

    let addresses = doors.iter().map(|door| Ok(door.addr()?.to_string())).collect::<io::Result<Vec<_>>>()?;
    let addr = addresses.join(", ");
    let status = format!("listening on {addr}");
    tracing::info!(addr, cores = cores.count(), version = env!("CARGO_PKG_VERSION"), "listening");

    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let looks = admin.map(|listener| look(listener, &host, &current, &ended));
    let monitored = supervisor.clone();
    let monitor = move || {
        let supervisor = monitored.clone();
        async move { lifecycle::monitor(&supervisor).await }
    };
    supervisor.spawn(TaskKind::HealthMonitor, ended.clone(), monitor);
    lifecycle::ready(&status);
    let acceptor = Acceptor {
        cores,
        current: Arc::clone(&current),
        counts: Arc::clone(&host.counts),
        metrics: Arc::clone(&host.metrics),
        evictions: EvictionLog::default(),
    };
    let reloader = Reloader {
        host,
        current,
        running: Mutex::new(config),
        load,
        status,
        under_way: AtomicBool::new(false),
        reading: Arc::default(),
    };
    reload_when_asked(&supervisor, reloader, reload);

    live(&supervisor, &acceptor, doors, &stopping).await;
    ended.cancel();
    if let Some(looks) = looks {
        let _ = looks.await; // it has been told to end
    }
    Ok(())
}

/// Turns signals into stopping and reloading.
fn drive(supervisor: &TaskSupervisor, signals: Signals, stopping: &Stopping, reload: &Arc<Notify>) {
    let signals = Arc::new(tokio::sync::Mutex::new(signals));
    let (until, stopping, reload) = (stopping.now.clone(), stopping.clone(), Arc::clone(reload));
    supervisor.spawn(TaskKind::SignalDriver, until, move || {
        let (signals, stopping, reload) = (Arc::clone(&signals), stopping.clone(), Arc::clone(&reload));
        async move { signals.lock().await.drive(&stopping, &reload).await }
    });
}

/// Serves health and metrics on `listener`.
fn look(
    listener: TcpListener,
    host: &Host,
    current: &Arc<ArcSwap<Generation>>,
    ended: &CancellationToken,
) -> JoinHandle<()> {
    let admin = Arc::new(Admin {
        stopping: host.stopping.clone(),
        current: Arc::clone(current),
        counts: Arc::clone(&host.counts),
        metrics: Arc::clone(&host.metrics),
        resolver: host.outside.resolver.clone(),
        supervisor: host.supervisor.clone(),
        log: host.log.clone(),
    });
    let listener = Arc::new(listener);
    host.supervisor.spawn(TaskKind::AdminServer, ended.clone(), move || {
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
async fn live(supervisor: &TaskSupervisor, acceptor: &Acceptor, doors: Vec<Door>, stopping: &Stopping) {
    let succeeded = doors.iter().any(Door::has_successor);
    let (doors, closed) = (tokio::sync::Mutex::new(Doors::new(doors)), CancellationToken::new());
    let accept = || async {
        acceptor.run(&mut *doors.lock().await, stopping).await;
        closed.cancel();
    };
    supervisor.run(TaskKind::Acceptor, &closed, accept).await;
    let ended = CancellationToken::new();
    let end = || async {
        end_sessions(acceptor, succeeded, stopping).await;
        ended.cancel();
    };
    supervisor.run(TaskKind::Shutdown, &ended, end).await;
}

/// Lets sessions end by themselves, for as long as the configuration says, and ends those that are left.
async fn end_sessions(acceptor: &Acceptor, succeeded: bool, stopping: &Stopping) {
    let Acceptor { cores, current, .. } = acceptor;
    tracing::info!(sessions = cores.sessions(), "the listener is closed; waiting for sessions to end");
    if succeeded {
        tokio::select! {
            () = sleep(SETTLE) => {}
            () = stopping.drain.cancelled() => {}
        }
    }
    stopping.drain.cancel();
    current.load().steps.close_pool();
    let patience = current.load().shutdown_timeout;
    let mut ended = std::pin::pin!(cores.ended());
    tokio::select! {
        () = &mut ended => return,
        () = stopping.now.cancelled() => {}
        () = sleep(patience) => stopping.now.cancel(),
    }
    if timeout(GOODBYE, ended).await.is_err() {
        tracing::warn!("some sessions did not end and are cut off");
    }
}
