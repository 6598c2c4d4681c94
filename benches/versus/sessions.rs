//! Sessions of our own, where pgbench does not tell what is asked: how long each login takes, and what a session costs
//! that does nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_emulator::names;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::ground::Contestant;
use crate::measure::{cpu_seconds, figure, resident_kib};
use crate::quiet_server::ROW_BYTES;

/// Logins at the same time while idle sessions are opened.
pub(crate) const AT_ONCE: usize = 8;

/// Sessions that pay for what all share, before the others are counted.
pub(crate) const FIRST: usize = 8;

/// Way to log in to a contestant.
#[derive(Clone)]
pub(crate) struct LoginRoute {
    config: tokio_postgres::Config,
    tls: rustls::ClientConfig,
}

/// Cost of idle sessions.
#[derive(Clone, Copy)]
pub(crate) struct IdleCost {
    /// KiB of resident memory each.
    pub(crate) kib: f64,
    /// CPU time of all of them, in percent of a processor.
    pub(crate) percent: f64,
}

/// Results of logins at the same time.
#[derive(Clone)]
pub(crate) struct LoginStorm {
    /// Until the last, seconds.
    pub(crate) whole: f64,
    /// Of each that got its answer, seconds.
    pub(crate) times: Vec<f64>,
    /// Logins that failed.
    pub(crate) failed: usize,
}

/// The runtime of all clients here.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// TLS of a client that trusts the authority in this file.
pub(crate) fn client_tls(ca: &Path) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(ca).expect("the certificate authority");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl LoginRoute {
    pub(crate) fn to(to: &Contestant) -> Self {
        let tls = client_tls(&to.ca);
        let mut config = tokio_postgres::Config::new();
        config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(to.port).user(to.user);
        config.password(&to.password).dbname(names::DATABASE).ssl_mode(SslMode::Require);
        Self { config, tls }
    }

    pub(crate) fn with_password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    pub(crate) async fn log_in(self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(MakeRustlsConnect::new(self.tls)).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Memory and CPU time that each of `count` sessions adds to the contestant once it has sent and received something, and `watched` of
/// doing nothing.
pub(crate) fn idle(to: &Contestant, count: usize, watched: Duration) -> IdleCost {
    runtime().block_on(async {
        let way = LoginRoute::to(to);
        let first = open(&way, FIRST).await;
        let before = resident_kib(&to.pids);
        let sessions = open(&way, count).await;
        tokio::time::sleep(Duration::from_secs(1)).await; // buffers are given back a moment after they were used
        let kib = (resident_kib(&to.pids) - before) / figure(count);
        let (cpu, began) = (cpu_seconds(&to.pids), Instant::now());
        tokio::time::sleep(watched).await;
        let percent = (cpu_seconds(&to.pids) - cpu) / began.elapsed().as_secs_f64() * 100.0;
        drop((first, sessions));
        IdleCost { kib, percent }
    })
}

async fn open(way: &LoginRoute, count: usize) -> Vec<tokio_postgres::Client> {
    let activity: Arc<str> = format!("select /* {} */ 1", "x".repeat(ROW_BYTES)).into();
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let mut group = JoinSet::new();
        for _ in 0..AT_ONCE.min(count - sessions.len()) {
            let (way, activity) = (way.clone(), Arc::clone(&activity));
            group.spawn(async move {
                let client = way.log_in().await.expect("a login");
                client.simple_query(&activity).await.expect("an answer");
                client
            });
        }
        sessions.extend(group.join_all().await);
    }
    sessions
}

/// A login for each of `ways`, all at the same time, each to the answer of its first query: PgBouncer welcomes its
/// clients before it has a server for them.
pub(crate) fn storm(ways: Vec<LoginRoute>) -> LoginStorm {
    runtime().block_on(async {
        let began = Instant::now();
        let mut logins = JoinSet::new();
        for way in ways {
            logins.spawn(
                async move { way.log_in().await.map(|client| (began.elapsed().as_secs_f64(), client)) },
            );
        }
        let ended = logins.join_all().await;
        let whole = began.elapsed().as_secs_f64();
        let failed = ended.iter().filter(|login| login.is_err()).count();
        let times = ended.iter().flatten().map(|(time, _)| *time).collect();
        LoginStorm { whole, times, failed }
    })
}
