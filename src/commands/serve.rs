//! `pgpassport serve`: the service from start to stop.

use std::io;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{self, Signals, Stopping};
use crate::server::{self, Door};

/// Threads of the control plane: key sets and STS. Sessions have threads of their own.
const CONTROL_THREADS: usize = 2;

/// Descriptors besides two a session: listener, log, key sets, STS.
const SPARE_DESCRIPTORS: u64 = 64;

/// How long sessions may take to say goodbye once they have to.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves until a signal ends it.
pub fn run(config: Config) -> anyhow::Result<()> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the control runtime cannot be started")?;
    raise_descriptor_limit(config.limits.max_client_conn);
    control.block_on(async {
        let stopping = Stopping::default();
        let signals = Signals::listen().context("signals cannot be listened to")?;
        let mut sockets = Vec::new();
        for listen in &config.listeners {
            let socket = server::bind(listen.addr);
            sockets.push(socket.with_context(|| format!("listen.addr: cannot listen on {}", listen.addr))?);
        }
        let driving = stopping.clone();
        tokio::spawn(async move { signals.drive(&driving).await });
        serve(config, sockets, stopping).await
    })
}

/// Serves clients of `sockets`, one for each of the configuration's listeners and in their order, until
/// `stopping`. Runs on the control runtime.
pub async fn serve(config: Config, sockets: Vec<TcpListener>, stopping: Stopping) -> anyhow::Result<()> {
    let patience = config.limits.shutdown_timeout;
    let control = tokio::runtime::Handle::current();
    let mut doors = Vec::new();
    for (settings, socket) in config.listeners.iter().zip(sockets) {
        doors.push(Door { socket, listener: Arc::new(app::listener(settings)?) });
    }
    let steps = Arc::new(app::build(config, Clock::system(), &control, stopping.now.clone())?);
    let addresses: Vec<_> =
        doors.iter().map(|door| Ok(door.socket.local_addr()?.to_string())).collect::<io::Result<_>>()?;
    let addr = addresses.join(", ");
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tracing::info!(addr, cores, version = env!("CARGO_PKG_VERSION"), "listening");
    lifecycle::ready(&format!("listening on {addr}"));

    let sessions = server::accept(doors, steps, cores, stopping.drain.cancelled()).await?;
    tracing::info!(sessions = sessions.count(), "the listener is closed; waiting for sessions to end");
    let mut ended = std::pin::pin!(sessions.ended());
    tokio::select! {
        () = &mut ended => return Ok(()),
        () = stopping.now.cancelled() => {}
        () = tokio::time::sleep(patience) => stopping.now.cancel(),
    }
    if timeout(GOODBYE, ended).await.is_err() {
        tracing::warn!("some sessions did not end and are cut off");
    }
    Ok(())
}

/// Two descriptors a session; a limit too low for the configured sessions is worth knowing at start.
fn raise_descriptor_limit(max_client_conn: usize) {
    let wanted = 2 * u64::try_from(max_client_conn).unwrap_or(u64::MAX / 4) + SPARE_DESCRIPTORS;
    match rlimit::increase_nofile_limit(wanted.max(1_024)) {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "too few file descriptors for limits.max_client_conn; raise LimitNOFILE (ulimit -n)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of file descriptors cannot be raised"),
    }
}
