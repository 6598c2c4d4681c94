//! Limits of numbers, each at its number and one past it, as clients meet them.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::world::admin::until;
use crate::world::binary::{NotifySocket, ProxyProcess};
use crate::world::raw::{PATIENCE, SSL_REQUEST, query};
use crate::world::{ErrorFields, RawClient, World, database, until_asleep};

impl World {
    /// A login from another address of this machine.
    async fn login_from(&self, ip: &str, user: &str, token: &str) -> Result<RawClient, ErrorFields> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
        let tcp = socket.connect(([127, 0, 0, 1], self.port).into()).await.unwrap();
        let client = RawClient::over(tcp, self.listener_ca()).await;
        client.login(user, Some("app"), token).await.map(|(client, _)| client)
    }

    async fn silent(&self, count: usize) -> Vec<TcpStream> {
        let mut peers = Vec::new();
        for _ in 0..count {
            peers.push(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap());
        }
        peers
    }
}

/// Peers that are told no and do not listen take none of the places for logins, are few, and make room for those who do.
#[tokio::test(flavor = "multi_thread")]
async fn c7_silent_clients_past_the_limit_of_refusals_are_closed_without_an_error() {
    let world =
        World::builder().limits("max_client_conn = 2\nclient_login_timeout = \"1h\"\nlogin_timeout = \"1h\"");
    let world = world.start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    let _other = world.connect("bob", &world.token("bob")).await.unwrap();
    let mut standing = world.silent(64).await;
    assert_eq!(world.refusal("alice", &world.token("alice")).await.sqlstate(), "53300");
    world.metric_is("pgpassport_closed_unheard_total", 1.0).await;
    // Any of them: session threads may record their first steps in another order than that of the connections.
    let mut reads: futures_util::stream::FuturesUnordered<_> =
        standing.iter_mut().map(async |peer| peer.read(&mut [0]).await).collect();
    let read = timeout(PATIENCE, futures_util::StreamExt::next(&mut reads)).await.expect("one is closed");
    assert!(matches!(read, Some(Ok(0) | Err(_))), "{read:?}");
    client.batch_execute("select 1").await.unwrap();
}

/// A right cancel key works when all places are taken, those of refusals included.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_cancel_key_works_when_all_places_are_taken() {
    let limits = "max_client_conn = 2\nclient_login_timeout = \"1h\"\nlogin_timeout = \"1h\"";
    for (minor, seconds) in [(0, 660), (2, 661)] {
        let world = World::builder().limits(limits).start().await;
        let (mut client, key) = world.raw().await.login_for_key(minor, "alice", &world.token("alice")).await;
        let _other = world.connect("bob", &world.token("bob")).await.unwrap();
        client.send(&query(&format!("select pg_sleep({seconds})"))).await;
        until_asleep(&database().postgres, seconds).await;
        let _standing = world.silent(64).await;
        let reason = world.cancel(&key).await;
        assert!(reason.starts_with("forwarded to "), "{reason}");
        client.expect_57014().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u7_sessions_of_one_user_have_a_limit() {
    let world = World::builder().limits("max_user_client_connections = 2").start().await;
    let one = world.connect("alice", &world.token("alice")).await.unwrap();
    let _two = world.connect("alice", &world.token("alice")).await.unwrap();
    let calls = world.cloud.sts.count();
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.sqlstate(), "53300");
    assert_eq!(refusal.message(), "too many connections for user \"alice\"");
    assert!(refusal.hint().contains("limits.max_user_client_connections"), "{refusal:?}");
    assert_eq!(world.cloud.sts.count(), calls, "STS was asked for someone who has no place");
    world.connect("bob", &world.token("bob")).await.unwrap();
    drop(one);
    until("a place for alice", async || world.connect("alice", &world.token("alice")).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u7_one_person_cannot_take_every_place_by_default() {
    let world = World::builder().limits("max_client_conn = 4").start().await;
    let _two = [
        world.connect("alice", &world.token("alice")).await.unwrap(),
        world.connect("alice", &world.token("alice")).await.unwrap(),
    ];
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!((refusal.sqlstate(), refusal.message()), ("53300", "too many connections for user \"alice\""));
    assert!(refusal.detail().contains("the limit of sessions of one person is 2"), "{refusal:?}");
    world.connect("bob", &world.token("bob")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn u7_sessions_of_one_cluster_have_a_limit() {
    let world = World::builder().cluster("max_client_conn = 1").start().await;
    let one = world.connect("alice", &world.token("alice")).await.unwrap();
    let refusal = world.refusal("bob", &world.token("bob")).await;
    assert_eq!(
        (refusal.sqlstate(), refusal.message()),
        ("53300", "too many connections for cluster \"app\"")
    );
    assert!(refusal.hint().contains("cluster.max_client_conn"), "{refusal:?}");
    drop(one);
    until("a place for bob", async || world.connect("bob", &world.token("bob")).await.is_ok()).await;
}

/// A group of the cluster, `keys` in it, for those whose token says so, and one for all others.
fn analysts(keys: &str) -> String {
    format!(
        "[[cluster.group]]\nname = \"analysts\"\nwhen = {{ claim = \"groups\", any = [\"analysts\"] }}\n{keys}\n\
         [[cluster.group]]\nname = \"others\"\neveryone = true"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn u7_sessions_of_one_group_have_a_limit() {
    let world = World::builder().user(&analysts("max_client_conn = 1")).start().await;
    let analyst = |user: &str| world.mint(world.claims(user).set("groups", serde_json::json!(["analysts"])));
    let one = world.connect("alice", &analyst("alice")).await.unwrap();
    let refusal = world.refusal("bob", &analyst("bob")).await;
    assert_eq!(
        (refusal.sqlstate(), refusal.message()),
        ("53300", "too many connections for group \"analysts\"")
    );
    assert!(refusal.hint().contains("cluster.group.max_client_conn"), "{refusal:?}");
    let other = world.mint(world.claims("bob").set("groups", serde_json::json!([])));
    world.connect("bob", &other).await.expect("who is in another group is not counted in it");
    drop(one);
    until("a place for bob", async || world.connect("bob", &analyst("bob")).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_group_end_at_its_max_lifetime() {
    let world = World::builder().user(&analysts("max_lifetime = \"1s\"")).start().await;
    let analyst = world.mint(world.claims("alice").set("groups", serde_json::json!(["analysts"])));
    let (mut client, _) = world.raw().await.login("alice", Some("app"), &analyst).await.unwrap();
    let other = world.mint(world.claims("alice").set("groups", serde_json::json!([])));
    let (mut other, _) = world.raw().await.login("alice", Some("app"), &other).await.unwrap();
    let (tag, body) = client.message().await.unwrap();
    let error = ErrorFields::parse(&body);
    assert_eq!((tag, error.sqlstate()), (b'E', "57P01"));
    assert_eq!(error.message(), "terminating connection due to session lifetime limit");
    other.send(&query("select 1")).await;
    while other.message().await.expect("others go on").0 != b'Z' {}
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_each_address_has_its_own_limit_of_logins() {
    // However slow the machine is, the peers stay.
    let patient = "client_login_timeout = \"1h\"\nlogin_timeout = \"1h\"\nmax_logins_per_address = 2";
    let world = World::builder().limits(patient).start().await;
    let mut peers = world.silent(2).await;
    for peer in &mut peers {
        // Who has been answered has been counted.
        peer.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(peer.read_u8().await.unwrap(), b'S');
    }
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!((refusal.sqlstate(), refusal.message()), ("53300", "too many connections for your address"));
    assert!(refusal.hint().contains("limits.max_logins_per_address"), "{refusal:?}");
    let mut clients = Vec::new();
    for _ in 0..3 {
        // A login that has succeeded is none any more.
        clients.push(world.login_from("127.0.0.2", "alice", &world.token("alice")).await.unwrap());
    }
    drop(peers);
    world.metric_is("pgpassport_cl_waiting", 0.0).await;
    world.login_from("127.0.0.1", "alice", &world.token("alice")).await.unwrap();
}

/// Logins that only claim to be alice cost her neither a place nor time.
#[tokio::test(flavor = "multi_thread")]
async fn c8_bad_logins_in_her_name_do_not_stop_alice() {
    let world =
        World::builder().limits("max_user_client_connections = 1\nmax_logins_per_address = 20").start().await;
    let forged = format!("{}.AAAA", world.token("alice").rsplit_once('.').unwrap().0);
    let bad = async || {
        for _ in 0..100 {
            assert_eq!(world.refusal("alice", &forged).await.sqlstate(), "28P01");
        }
    };
    let good = async || {
        for _ in 0..20 {
            let client = world.login_from("127.0.0.2", "alice", &world.token("alice")).await.unwrap();
            drop(client);
            world.metric_is("pgpassport_cl_active", 0.0).await;
        }
    };
    futures_util::future::join(futures_util::future::join_all((0..10).map(|_| bad())), good()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_limits_of_new_connections_only() {
    let world = World::start().await;
    let one = world.connect("alice", &world.token("alice")).await.unwrap();
    world.edit("[limits]", "[limits]\nmax_user_client_connections = 1\nmax_client_conn = 2");
    assert!(world.reloaded().await);
    assert_eq!(
        world.refusal("alice", &world.token("alice")).await.sqlstate(),
        "53300",
        "the first one counts"
    );
    let token = world.token("bob");
    let mut two = None;
    until("a seat for bob", async || {
        two = world.connect("bob", &token).await.ok(); // the refused client has to leave first
        two.is_some()
    })
    .await;
    let refusal = world.refusal("carol", "x").await;
    assert!(refusal.hint().contains("limits.max_client_conn"), "{refusal:?}");
    one.batch_execute("select 1").await.unwrap();
    let gone = Duration::from_secs(30);
    timeout(gone, world.metric_is("pgpassport_max_client_conn", 2.0)).await.unwrap();
}

/// Descriptors that the configuration can need and the system does not give are no surprise for later.
#[tokio::test(flavor = "multi_thread")]
async fn r12_a_start_with_too_few_descriptors_says_what_to_change() {
    let world = World::builder().limits("max_client_conn = 500").start().await;
    let start = |descriptors: usize| {
        let script = format!("ulimit -Sn 256; ulimit -Hn {descriptors}; exec \"$@\"");
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_pgpassport"), "serve", "--config"]);
        command.arg(world.config_file()).kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let output = timeout(PATIENCE, start(1_319).output()).await.expect("it starts").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    for text in ["limits.max_client_conn = 500", "1320", "LimitNOFILE", "at most 499"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let notified = NotifySocket::at(&folder.path().join("notify"));
    let mut enough = start(1_320);
    let _service =
        enough.env("NOTIFY_SOCKET", folder.path().join("notify")).stderr(Stdio::null()).spawn().unwrap();
    assert!(notified.next().contains("READY=1"));
}

/// A process that has run out of descriptors goes on with what it has, tells those who come what is wrong or closes
/// them, says so once in its log, and recovers by itself.
#[tokio::test(flavor = "multi_thread")]
async fn r12_without_free_descriptors_sessions_go_on_and_new_clients_are_refused_at_once() {
    let world =
        World::builder().limits("client_login_timeout = \"1h\"\nlogin_timeout = \"1h\"").start().await;
    let mut small = ProxyProcess::start(&world);
    let mut client = small.login(&world).await.unwrap();
    small.allow_more(4);
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(TcpStream::connect(("127.0.0.1", small.port)).await.unwrap());
    }
    let mut others = Vec::new();
    let refusal = loop {
        match small.login(&world).await {
            // The process had closed something meanwhile, an idle connection to the issuer for example.
            Ok(client) => others.push(client),
            Err(refusal) if refusal.sqlstate() == "57P03" => {
                peers.push(TcpStream::connect(("127.0.0.1", small.port)).await.unwrap());
            }
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refusal.sqlstate(), refusal.message()), ("53300", "too many connections for the proxy"));
    assert!(refusal.detail().contains("run out of file descriptors"), "{refusal:?}");
    assert!(refusal.hint().contains("LimitNOFILE"), "{refusal:?}");
    // Seven that are told and do not listen hold the reserve but for its last descriptor: all others are closed.
    let mut standing: futures_util::stream::FuturesUnordered<_> = (0..20)
        .map(|_| async {
            let mut peer = TcpStream::connect(("127.0.0.1", small.port)).await.unwrap();
            let read = peer.read(&mut [0]).await;
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        })
        .collect();
    for _ in 0..13 {
        timeout(PATIENCE, futures_util::StreamExt::next(&mut standing)).await.expect("they wait in vain");
    }
    client.send(&query("select 1")).await;
    while client.message().await.expect("an answer").0 != b'Z' {}
    drop((peers, others, standing));
    small.allow(1_024);
    until("a login", async || small.login(&world).await.is_ok()).await;
    let lines = small.logged("could not be accepted");
    assert!((1..=3).contains(&lines), "{lines} lines for one shortage");
    assert!(small.runs());
}
