//! Certificates of clients, versions of TLS and what the record says of them.

use std::sync::Arc;

use aws_emulator::Ca;
use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{PsqlOutput, World, database};

/// A listener that asks for certificates, and the arguments with which psql shows one.
struct CertifiedClient {
    world: World,
    folder: TempDir,
    ca: Ca,
}

impl CertifiedClient {
    async fn start(mode: &str) -> Self {
        let (folder, ca) = (TempDir::new().unwrap(), Ca::new().unwrap());
        let file = ca.write(folder.path()).unwrap();
        let keys = format!(
            "name = \"certified-{mode}\"\nclient_tls_ca_file = \"{}\"\nclient_tls_certificate = \"{mode}\"",
            file.display()
        );
        Self { world: World::builder().listen(&keys).start().await, folder, ca }
    }

    fn shown(&self, signed_by: &Ca, name: &str) -> String {
        let files = signed_by.client(name).unwrap().write(self.folder.path(), "client").unwrap();
        format!("sslcert={} sslkey={}", files.cert.display(), files.key.display())
    }

    async fn psql(&self, more: &str) -> PsqlOutput {
        let token = self.world.token("alice");
        // Without this a psql that finds ~/.postgresql/postgresql.crt would show that.
        let none = if more.contains("sslcert") { "" } else { "sslcert=/nowhere" };
        self.world
            .psql(&format!("user=alice dbname=app {none} {more}"), &token, &["-c", "select current_user"])
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_certificate_is_required_and_recorded() {
    let certified = CertifiedClient::start("require").await;
    let psql = certified.psql("").await;
    assert!(!psql.ok && psql.stderr.contains("certificate required"), "{psql:?}");
    let record = certified.world.audit_of("certified-require", "outcome", "dropped").await;
    assert_eq!(record["reason"], "TLS handshake: peer sent no certificates");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let shown = certified.shown(&certified.ca, &format!("etl, {version}"));
        let psql = certified.psql(&format!("{shown} ssl_max_protocol_version={version}")).await;
        assert_eq!(psql.stdout.trim(), "alice", "{psql:?}");
        let record = certified.world.audit_of("certified-require", "tls", version).await;
        assert_eq!(record["client_certificate"], format!("CN=etl\\, {version}"));
        assert_eq!(record["tls_server_name"], "localhost");
        assert_eq!(record["db_user"], "alice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requested_certificate_may_be_missing_but_not_wrong() {
    let certified = CertifiedClient::start("request").await;
    let psql = certified.psql("").await;
    assert_eq!(psql.stdout.trim(), "alice", "{psql:?}");
    let record = certified.world.audit_of("certified-request", "outcome", "session").await;
    assert!(record["client_certificate"].is_null(), "{record}");
    let shown = certified.shown(&Ca::new().unwrap(), "mallory");
    let psql = certified.psql(&shown).await;
    assert!(!psql.ok, "{psql:?}");
    let record = certified.world.audit_of("certified-request", "outcome", "dropped").await;
    assert!(record["reason"].as_str().unwrap().contains("invalid peer certificate"), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_plaintext_from_loopback_is_a_warning() {
    let world = World::builder().listen("name = \"warned\"\nplaintext_from_loopback = true").start().await;
    let line = world.log_line("\"listener\":\"warned\"").await;
    assert!(line.contains("\"WARN\"") && line.contains("plaintext_from_loopback is on"), "{line}");
}

/// Two round trips would become three. A configuration that has met nobody yet, because a later handshake remembers
/// what the server took.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_handshake_with_the_database_is_not_asked_to_begin_again() {
    let database = tokio::task::spawn_blocking(database).await.unwrap();
    let folder = TempDir::new().unwrap();
    let ca_file = database.ca.write(folder.path()).unwrap();
    for _ in 0..2 {
        let config = pgpassport::net::tls::upstream_config(Some(&ca_file), None).unwrap();
        let mut tcp = TcpStream::connect(database.postgres.addr()).await.unwrap();
        tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap(); // SSLRequest
        assert_eq!(tcp.read_u8().await.unwrap(), b'S');
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}
