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

use super::file_watch::WatchedFiles;
use super::pages::{PageContext, PageSockets, Pages};
use super::reload::{Load, Reloader, log_warnings};
use crate::accept::acceptor::{Acceptor, EvictionLog, Generation, OpenSockets};
use crate::accept::listening_socket::ListeningSocket;
use crate::accept::workers::WorkerThreads;
use crate::accept::{fd_limit, socket_activation, threads};
use crate::admin::http;
use crate::admin::http::AdminServer;
use crate::app::{AppEnvironment, GenerationBuilder};
use crate::config::Config;
use crate::console::state::ConsoleDesk;
use crate::lifecycle::{self, ServiceSignals, ShutdownTokens};
use crate::session::shared::Shared;
use crate::supervisor::{TaskKind, TaskSupervisor};
use crate::telemetry::logging::LogControl;

/// Threads of the control plane: key sets, STS, health and metrics. Sessions run on worker threads.
const CONTROL_THREADS: usize = 2;

/// Time for which sessions may close properly after they have to end.
const GOODBYE: Duration = Duration::from_secs(5);

/// Parameters of a service.
pub struct ServiceOptions {
    /// Configuration.
    pub config: Config,
    /// Reads the next configuration.
    pub load: Load,
    /// Listening sockets, one per configured listener, in order.
    pub sockets: Vec<ListeningSocket>,
    /// Listening socket of the admin address.
    pub admin: Option<TcpListener>,
    /// Listening sockets of the HTTPS pages.
    pub pages: PageSockets,
    /// Handle of the running log.
    pub log: LogControl,
    /// Notified to request a reload.
    pub reload: Arc<Notify>,
    /// Tokens that stop the service.
    pub stopping: ShutdownTokens,
    /// Signals that stop or reload the service; tests use the tokens directly.
    pub signals: Option<ServiceSignals>,
    /// Wall clock and DNS.
    pub outside: AppEnvironment,
}

/// Serves until a signal stops the service. `load` reads the configuration again.
pub fn run(config: Config, load: Load, log: LogControl) -> anyhow::Result<()> {
    let control = control_runtime()?;
    fd_limit::provide(config.limits.max_client_conn, config.pool.map_or(0, |pool| pool.max_idle))?;
    control.block_on(async {
        let signals = ServiceSignals::listen().context("cannot listen to signals")?;
        let sockets = socket_activation::open(&config.listeners)?;
        let admin = match config.admin.addr {
            Some(addr) => Some(listen(addr, config.admin.public).await?),
            None => None,
        };
        let pages = PageSockets::bind(&config).await?;
        serve(ServiceOptions {
            config,
            load,
            sockets,
            admin,
            pages,
            log,
            reload: Arc::default(),
            stopping: ShutdownTokens::default(),
            signals: Some(signals),
            outside: AppEnvironment::default(),
        })
        .await
    })
}

/// Runtime of the control plane. Its tasks make no blocking calls.
fn control_runtime() -> anyhow::Result<Runtime> {
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .max_blocking_threads(1)
            .thread_name("control")
            .enable_all()
            .build()
    };
    let failed = "cannot start the control runtime";
    // tokio panics if the system allows no thread for a worker, so threads are probed first.
    threads::probe(CONTROL_THREADS).context(failed)?;
    let built = catch_unwind(build).map_err(|_| anyhow!("the system allows no more threads"));
    built.and_then(|built| Ok(built?)).context(failed)
}

async fn listen(addr: std::net::SocketAddr, is_public: bool) -> anyhow::Result<TcpListener> {
    if is_reachable(addr, is_public) {
        tracing::warn!(
            %addr,
            "admin.addr is not a loopback address: anyone who reaches it can read health and metrics; if that is intended, \
             set admin.public"
        );
    }
    TcpListener::bind(addr).await.with_context(|| format!("admin.addr: cannot listen on {addr}"))
}

/// True for an address that other machines can reach although the configuration does not say that this is intended.
fn is_reachable(addr: std::net::SocketAddr, is_public: bool) -> bool {
    !addr.ip().is_loopback() && !is_public
}

/// Serves clients until the service stops. Runs on the control runtime. Every part that must not end is a
/// task of the supervisor.
pub async fn serve(service: ServiceOptions) -> anyhow::Result<()> {
    let ServiceOptions {
        config,
        load,
        sockets,
        admin,
        pages,
        log,
        reload,
        stopping: shutdown,
        signals,
        outside: environment,
    } = service;
    // Before the files are read: what changes from here on is a change.
    let watched = WatchedFiles::of(&config);
    log_warnings(&config);
    let threads = environment.threads;
    let builder =
        GenerationBuilder::new(environment, Handle::current(), shutdown.clone(), log, &config.cancel)?;
    let shared = Arc::clone(&builder.shared);
    let supervisor = shared.supervisor.clone();
    if let Some(signals) = signals {
        drive(&supervisor, signals, &shutdown, &reload);
    }
    shared.registry.deny(config.denied.clone());
    shared.console.sessions.deny(config.denied.clone());
    let current = Arc::new(ArcSwap::from_pointee(builder.build(config.clone(), None)?));
    let context = PageContext { shared: Arc::clone(&shared), current: Arc::clone(&current) };
    let page_content = Pages::build(&config, &context)?;
    let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = threads.unwrap_or_else(cores);
    let workers = WorkerThreads::start(count, &supervisor).context("cannot start the worker threads")?;

    let addresses =
        sockets.iter().map(|socket| Ok(socket.addr()?.to_string())).collect::<io::Result<Vec<_>>>()?;
    let addr = addresses.join(", ");
    let status = format!("listening on {addr}");
    tracing::info!(addr, workers = workers.count(), version = env!("CARGO_PKG_VERSION"), "listening");

    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    serve_console(&shared, &current, &ended);
    let admin_task = admin.map(|listener| serve_admin(listener, &shared, &current, &ended));
    let pages = page_content.start(pages, &shared, &ended);
    monitor_health(&supervisor, &ended);
    lifecycle::ready(&status);
    let acceptor = Acceptor {
        workers,
        current: Arc::clone(&current),
        metrics: shared.metrics.connections.clone(),
        shared,
        evictions: EvictionLog::default(),
    };
    let reloader = Reloader {
        builder: Arc::new(builder),
        current,
        watched: Mutex::new(watched),
        pages,
        running: Mutex::new(config),
        load,
        status,
        under_way: AtomicBool::new(false),
        reading: Arc::default(),
    };
    reload_when_asked(&supervisor, reloader, reload);

    serve_until_stopped(&supervisor, &acceptor, sockets, &shutdown).await;
    ended.cancel();
    if let Some(admin_task) = admin_task {
        let _ = admin_task.await; // its stop was requested
    }
    Ok(())
}

/// Turns signals into stop and reload requests.
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

/// Checks the health of all tasks until `ended`.
fn monitor_health(supervisor: &TaskSupervisor, ended: &CancellationToken) {
    let monitored = supervisor.clone();
    let monitor = move || {
        let supervisor = monitored.clone();
        async move { lifecycle::monitor(&supervisor).await }
    };
    supervisor.spawn(TaskKind::HealthMonitor, ended.clone(), monitor);
}

/// Serves health and metrics on `listener`.
fn serve_admin(
    listener: TcpListener,
    shared: &Arc<Shared>,
    current: &Arc<ArcSwap<Generation>>,
    ended: &CancellationToken,
) -> JoinHandle<()> {
    let admin = Arc::new(AdminServer::new(Arc::clone(shared), Arc::clone(current)));
    let listener = Arc::new(listener);
    shared.supervisor.spawn(TaskKind::AdminServer, ended.clone(), move || {
        let (listener, admin) = (Arc::clone(&listener), Arc::clone(&admin));
        async move { http::serve(&listener, admin).await }
    })
}

/// Executes the commands of the console.
fn serve_console(shared: &Arc<Shared>, current: &Arc<ArcSwap<Generation>>, ended: &CancellationToken) {
    let Some(incoming) = shared.console.incoming() else { return };
    let desk = Arc::new(ConsoleDesk::new(Arc::clone(shared), Arc::clone(current)));
    let incoming = Arc::new(tokio::sync::Mutex::new(incoming));
    shared.supervisor.spawn(TaskKind::Console, ended.clone(), move || {
        let (desk, incoming) = (Arc::clone(&desk), Arc::clone(&incoming));
        async move { desk.serve(&incoming).await }
    });
}

/// Reloads on request until the service stops.
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

/// Accepts clients until the sockets are closed, then ends the sessions.
async fn serve_until_stopped(
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

/// Lets sessions end by themselves for `shutdown_timeout`, then ends the remaining ones.
async fn end_sessions(acceptor: &Acceptor, shutdown: &ShutdownTokens) {
    let Acceptor { workers, current, .. } = acceptor;
    tracing::info!(sessions = workers.sessions(), "listeners closed; waiting for sessions to end");
    shutdown.drain.cancel();
    current.load().context.close_pool();
    let patience = current.load().context.limits.shutdown_timeout;
    let mut ended = std::pin::pin!(workers.ended());
    tokio::select! {
        () = &mut ended => return,
        () = shutdown.now.cancelled() => {}
        () = sleep(patience) => shutdown.now.cancel(),
    }
    if timeout(GOODBYE, ended).await.is_err() {
        tracing::warn!("some sessions did not end in time and are aborted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_address_that_is_meant_to_be_public_is_no_surprise() {
        let reachable = |addr: &str, public| is_reachable(addr.parse().unwrap(), public);
        assert!(
            reachable("0.0.0.0:9127", false)
                && reachable("[::]:9127", false)
                && reachable("10.0.0.7:9127", false)
        );
        assert!(
            !reachable("0.0.0.0:9127", true)
                && !reachable("127.0.0.1:9127", false)
                && !reachable("[::1]:9127", false)
        );
    }
}
