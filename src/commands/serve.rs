//! `pgpassport serve`: the service from start to stop.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::reload::{Load, Reloader};
use crate::admin::{self, Admin};
use crate::app::{Host, Outside};
use crate::config::Config;
use crate::lifecycle::{self, Signals, Stopping};
use crate::server::{Acceptor, Cores, Door, descriptors, inherited};
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
    /// Tells the time, and where names lead.
    pub outside: Outside,
}

/// Serves until a signal ends it. `load` reads the configuration again.
pub fn run(config: Config, load: Load, log: LogControl) -> anyhow::Result<()> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the control runtime cannot be started")?;
    descriptors::provide(config.limits.max_client_conn, config.pool.map_or(0, |pool| pool.max_idle))?;
    control.block_on(async {
        let (stopping, reload) = (Stopping::default(), Arc::new(Notify::new()));
        let signals = Signals::listen().context("signals cannot be listened to")?;
        let doors = inherited::open(&config.listeners)?;
        let admin = match config.admin.addr {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        let driving = (stopping.clone(), Arc::clone(&reload));
        tokio::spawn(async move { signals.drive(&driving.0, &driving.1).await });
        serve(Service { config, load, doors, admin, log, reload, stopping, outside: Outside::default() })
            .await
    })
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

/// Serves clients until it is stopped. Runs on the control runtime.
pub async fn serve(service: Service) -> anyhow::Result<()> {
    let Service { config, load, doors, admin, log, reload, stopping, outside } = service;
    warn(&config);
    let host = Arc::new(Host::new(outside, Handle::current(), stopping.clone(), &config.cancel)?);
    host.roll.deny(config.denied.clone());
    let current = Arc::new(ArcSwap::from_pointee(host.build(config.clone(), None)?));
    let cores = Cores::start(thread::available_parallelism().map_or(1, std::num::NonZero::get))?;
    let pulse = cores.pulse();

    let addresses = doors.iter().map(|door| Ok(door.addr()?.to_string())).collect::<io::Result<Vec<_>>>()?;
    let addr = addresses.join(", ");
    let status = format!("listening on {addr}");
    tracing::info!(addr, cores = cores.count(), version = env!("CARGO_PKG_VERSION"), "listening");

    let (counts, metrics) = (Arc::clone(&host.counts), Arc::clone(&host.metrics));
    let eyes = admin.map(|listener| {
        let (stopping, current) = (stopping.clone(), Arc::clone(&current));
        let (counts, metrics, log) = (Arc::clone(&counts), Arc::clone(&metrics), log.clone());
        let resolver = host.outside.resolver.clone();
        let admin = Admin { stopping, current, counts, metrics, resolver, log };
        tokio::spawn(admin::serve(listener, Arc::new(admin)))
    });
    lifecycle::ready(&status);
    let reloader = Reloader { host, current: Arc::clone(&current), running: config, load, log, status };
    tokio::spawn(reloader.run(reload));

    let acceptor = Acceptor { cores, current, counts, metrics };
    tokio::select! {
        () = live(acceptor, doors, &stopping) => {}
        // In the same task: an acceptor that is stuck stops the beat.
        () = lifecycle::feed_watchdog(|| pulse.feel()) => {}
    }
    if let Some(eyes) = eyes {
        eyes.abort();
        let _ = eyes.await; // it has been told to
    }
    Ok(())
}

/// Accepts clients, and lets their sessions end when it is time.
async fn live(acceptor: Acceptor, doors: Vec<Door>, stopping: &Stopping) {
    let succeeded = doors.iter().any(Door::has_successor);
    acceptor.run(doors, stopping).await;
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
