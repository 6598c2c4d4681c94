//! Log lines and records that strangers cause: none for a probe, and otherwise a few lines and a count.

use aws_emulator::names;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ADMIN, parsed};
use crate::world::admin::until;
use crate::world::binary::{Launch, ProxyProcess};
use crate::world::raw::{SSL_REQUEST, cancel, startup};
use crate::world::{RawClient, World};

/// More connections of each kind than are recorded at once.
const FLOOD: usize = 250;

/// Kinds of connections that anybody can make, without a token that anybody trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    Silent,
    Junk,
    Http,
    ProxyHeader,
    GivesUpTls,
    PlainStartup,
    WrongCancel,
    AsksForThePassword,
    BadToken,
}

impl Stranger {
    const ALL: [Self; 9] = [
        Self::Silent,
        Self::Junk,
        Self::Http,
        Self::ProxyHeader,
        Self::GivesUpTls,
        Self::PlainStartup,
        Self::WrongCancel,
        Self::AsksForThePassword,
        Self::BadToken,
    ];

    /// The series that counts it, and whether it is recorded at level `info`.
    fn counted(self) -> (&'static str, bool) {
        match self {
            Self::Silent => ("connections_dropped_total{reason=\"silent\"}", false),
            Self::Junk | Self::Http => ("connections_dropped_total{reason=\"junk\"}", false),
            Self::ProxyHeader => ("connections_dropped_total{reason=\"proxy_header\"}", true),
            Self::GivesUpTls => ("connections_dropped_total{reason=\"tls\"}", true),
            Self::PlainStartup => ("logins_refused_total{stage=\"startup\"}", true),
            Self::WrongCancel => ("cancels_total{outcome=\"ignored\"}", true),
            Self::AsksForThePassword => ("connections_total{outcome=\"no_token\"}", false),
            Self::BadToken => ("logins_refused_total{stage=\"token\"}", true),
        }
    }

    async fn comes(self, world: &World, binary: &ProxyProcess) {
        let first = match self {
            Self::Silent => Vec::new(),
            Self::Junk => b"junk".to_vec(),
            Self::Http => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Self::ProxyHeader => b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            Self::GivesUpTls => [&SSL_REQUEST[..], b"\x15\x03\x03\0\x02\x02\x30"].concat(), // unknown_ca
            Self::PlainStartup => startup(&[("user", "alice")]),
            Self::WrongCancel => cancel(&[7; 8]),
            Self::AsksForThePassword => {
                let mut client = RawClient::connect(binary.port, world.listener_ca()).await;
                client.start("alice", Some(names::DATABASE)).await;
                return drop(client.message().await);
            }
            Self::BadToken => {
                return drop(
                    binary.login_with(world, "alice", "no.good.token").await.err().expect("a refusal"),
                );
            }
        };
        let mut tcp = TcpStream::connect(("127.0.0.1", binary.port)).await.unwrap();
        if self == Self::GivesUpTls {
            // The server may be slower than the handshake's first byte.
            tcp.write_all(&first[..8]).await.unwrap();
            tcp.read_u8().await.unwrap();
            tcp.write_all(&first[8..]).await.unwrap();
        } else {
            tcp.write_all(&first).await.unwrap();
        }
        tcp.shutdown().await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await; // closed, or reset because of what was not read
    }
}

/// A service whose log is JSON in a file, at `level`.
fn start(world: &World, level: &'static str) -> ProxyProcess {
    let args = vec!["--log-format", "json", "--log-level", level];
    ProxyProcess::launch(world, Launch { config: ADMIN.to_owned(), args, ..Launch::usual() })
}

fn records(binary: &ProxyProcess) -> Vec<Value> {
    let log = binary.log();
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    parsed(whole)
        .into_iter()
        .filter(|line| line["target"] == "audit" && line["event"] != "session.start")
        .collect()
}

/// Connections of one kind of stranger, again and again.
async fn flood(world: &World, level: &'static str, stranger: Stranger) {
    let mut binary = start(world, level);
    let (series, is_recorded) = stranger.counted();
    for _ in 0..FLOOD {
        stranger.comes(world, &binary).await;
    }
    until(&format!("all {stranger:?} are counted"), async || {
        binary.metric(&format!("pgpassport_{series}")).await == FLOOD
    })
    .await;
    // People are recorded whatever strangers do.
    for _ in 0..3 {
        binary.login(world).await.unwrap();
    }
    let of_strangers =
        |records: &[Value]| records.iter().filter(|record| record["outcome"] != "session").count();
    let left_out = async || binary.metric("pgpassport_log_lines_left_out_total{kind=\"audit\"}").await;
    let is_recorded = is_recorded || level == "debug";
    if is_recorded {
        until(&format!("each {stranger:?} is recorded or left out"), async || {
            of_strangers(&records(&binary)) + left_out().await == FLOOD
        })
        .await;
    }
    let left_out = left_out().await;
    binary.signal("TERM");
    assert_eq!(binary.ended().await, Some(0));
    let records = records(&binary);
    assert_eq!(records.len() - of_strangers(&records), 3, "{stranger:?}");
    assert_eq!(
        (of_strangers(&records) > 0, left_out > 0),
        (is_recorded, is_recorded),
        "{stranger:?}: {left_out}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_is_counted_and_a_part_of_it_recorded() {
    let world = World::builder().limits("shutdown_timeout = \"0s\"").start().await;
    for stranger in Stranger::ALL {
        flood(&world, "info", stranger).await;
    }
    flood(&world, "debug", Stranger::Junk).await;
}

/// Troubles that all logins have at once, and that strangers can take part in.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_all_logins_is_logged_at_a_limited_rate() {
    let world = World::builder()
        .limits("max_client_conn = 2\nmax_logins = 1\nshutdown_timeout = \"0s\"")
        .start()
        .await;
    let mut binary = start(&world, "info");
    let bob = binary.login_with(&world, "bob", &world.token("bob")).await.unwrap();
    let live = (binary.login(&world).await.unwrap(), bob);
    for _ in 0..FLOOD {
        let refused = binary.login(&world).await.err().expect("a refusal");
        assert_eq!(refused.sqlstate(), "53300", "{refused:?}");
    }
    drop(live);
    let lines = "pgpassport_log_lines_left_out_total{kind=\"log\"}";
    until("all are counted", async || {
        binary.metric("pgpassport_logins_refused_total{stage=\"limits\"}").await == FLOOD
    })
    .await;
    let left_out = binary.metric(lines).await;
    binary.signal("TERM");
    assert_eq!(binary.ended().await, Some(0));
    let written = binary.logged("not by the client's fault");
    assert!(written > 0 && left_out > 0, "{written} lines");
    assert_eq!(written + left_out, FLOOD, "{written} lines");
}

/// The rate of a person who is refused is that person's own.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_an_often_refused_person_hide_no_other_record() {
    let world = World::builder().limits("shutdown_timeout = \"0s\"").start().await;
    let mut binary = start(&world, "info");
    let (mallory, bob) = (world.token("mallory"), world.token("bob"));
    for _ in 0..FLOOD {
        binary.login_with(&world, "alice", &mallory).await.err().expect("a refusal");
    }
    binary.login_with(&world, "alice", &bob).await.err().expect("a refusal");
    binary.signal("TERM");
    assert_eq!(binary.ended().await, Some(0));
    let of = |subject: &str| records(&binary).iter().filter(|record| record["subject"] == subject).count();
    assert_eq!(of("bob"), 1);
    assert!((60..FLOOD).contains(&of("mallory")), "{} records", of("mallory"));
}
