//! Memory of idle sessions: many at once, each having done something first.

use std::sync::Arc;
use std::time::Duration;

use aws_emulator::names;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::contestants::Contestant;
use crate::measure::resident_kib;

/// Logins at the same time while the sessions are opened.
const AT_ONCE: usize = 8;

/// KiB of resident memory that each of `count` idle sessions adds to the contestant.
pub(crate) fn memory(to: &Contestant, count: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        // The first sessions pay for what all share.
        let first = open(to, AT_ONCE).await;
        let before = resident_kib(&to.pids);
        let sessions = open(to, count).await;
        tokio::time::sleep(Duration::from_secs(1)).await; // buffers are given back a moment after they were used
        let after = resident_kib(&to.pids);
        drop((first, sessions));
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let count = count as f64;
        (after - before) / count
    })
}

async fn open(to: &Contestant, count: usize) -> Vec<tokio_postgres::Client> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(&to.ca).expect("the certificate authority");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = tokio_postgres::Config::new();
    config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(to.port).user(to.user);
    config.password(&to.password).dbname(names::DATABASE).ssl_mode(SslMode::Require);
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let mut group = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE.min(count - sessions.len()) {
            let (config, tls) = (config.clone(), MakeRustlsConnect::new(tls.clone()));
            group.spawn(async move {
                let (client, connection) = config.connect(tls).await.expect("a login");
                tokio::spawn(connection);
                client.query("select repeat('x', 40000)", &[]).await.expect("an answer");
                client
            });
        }
        sessions.extend(group.join_all().await);
    }
    sessions
}
