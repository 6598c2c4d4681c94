//! Strangers who hold all connections that they can get, beside people who log in. All limits have their defaults.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_emulator::{AnswerHold, Ca, HttpFault, IssuerPage, KeyChoice};
use futures_util::future::join_all;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::balancer::{PROXY, header};
use crate::world::raw::{SSL_REQUEST, password, startup, trusting};
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::{ErrorFields, RawClient, World};

/// `limits.max_logins` and `limits.max_client_conn` by default.
const MAX_LOGINS: f64 = 750.0;
const MAX_CLIENT_CONN: usize = 1_000;

/// Silence after which eviction prefers strangers to clients that log in. Before it, the proxy evicts from the address with
/// the most connections, which is that of the logins.
const STRANGERS_ARE_SILENT: Duration = Duration::from_millis(500);

/// Step at which strangers stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    Silent,
    /// A good first packet, one byte a second.
    Trickling,
    BeforeTls,
    BeforeStartup,
    BeforeToken,
    /// They have been refused, and keep their side open.
    Refused,
}

/// Opens `count` connections, each of which is held until the proxy closes it or the set is dropped. `connect` gives the
/// connection with a number.
async fn flood<F>(world: &World, count: usize, stuck: Stuck, connect: impl Fn(usize) -> F) -> JoinSet<()>
where
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let tls = Arc::new(trusting(world.listener_ca()));
    let mut going = JoinSet::new();
    for number in 0..count {
        going.spawn(go(connect(number), stuck, Arc::clone(&tls)));
    }
    let mut holding = JoinSet::new();
    for stranger in going.join_all().await.into_iter().flatten() {
        holding.spawn(stranger.hold());
    }
    holding
}

/// Opens a thousand connections from one address of this machine.
async fn flood_from(world: &World, ip: &'static str, stuck: Stuck) -> JoinSet<()> {
    let port = world.port;
    flood(world, 1_000, stuck, |_| connect(ip.to_owned(), port)).await
}

async fn connect(ip: String, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{ip}:0").parse().unwrap())?;
    socket.connect(([127, 0, 0, 1], port).into()).await
}

/// A stranger who has come as far as it wants.
enum Stranger {
    Plain(TcpStream, bool),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Goes as far as `stuck` says; an error is the proxy's having closed the connection on the way.
async fn go(
    tcp: impl Future<Output = io::Result<TcpStream>>,
    stuck: Stuck,
    tls: Arc<ClientConfig>,
) -> io::Result<Stranger> {
    let mut tcp = tcp.await?;
    if matches!(stuck, Stuck::Silent | Stuck::Trickling) {
        return Ok(Stranger::Plain(tcp, stuck == Stuck::Trickling));
    }
    tcp.write_all(&SSL_REQUEST).await?;
    tcp.read_u8().await?;
    if stuck == Stuck::BeforeTls {
        return Ok(Stranger::Plain(tcp, false));
    }
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(tls).connect(name, tcp).await?;
    if stuck != Stuck::BeforeStartup {
        tls.write_all(&startup(&[("user", "alice"), ("database", "app")])).await?;
        tls.read_exact(&mut [0; 9]).await?; // the question for a password
    }
    if stuck == Stuck::Refused {
        tls.write_all(&password("no token")).await?;
        tls.read_u8().await?;
    }
    Ok(Stranger::Tls(Box::new(tls)))
}

impl Stranger {
    /// Holds the connection until the proxy closes it.
    async fn hold(self) {
        match self {
            Self::Tls(mut tls) => drop(tls.read_to_end(&mut Vec::new()).await),
            Self::Plain(mut tcp, false) => drop(tcp.read_to_end(&mut Vec::new()).await),
            Self::Plain(mut tcp, true) => {
                for byte in startup(&[("user", "alice"), ("database", "app")]) {
                    if tcp.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Lets one flood run at a time: the tests are about places and not about the capacity of the machine.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    rlimit::increase_nofile_limit(20_000).unwrap();
    ALONE.lock().await
}

/// A world with a server that welcomes everybody.
async fn crowded_world(listen: &str, limits: &str) -> (World, ScriptedServer) {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::AfterPassword(welcome())).await;
    (World::builder().upstream(server.addr, &ca).listen(listen).limits(limits).start().await, server)
}

/// Logs in `count` times at once from the connections that `connect` gives, and keeps the sessions.
async fn logins<F>(world: &World, count: usize, connect: impl Fn(usize) -> F) -> Vec<RawClient>
where
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let tls = Arc::new(trusting(world.listener_ca()));
    let token = world.token("alice");
    let login = |number| {
        let (tcp, tls, token) = (connect(number), Arc::clone(&tls), token.clone());
        tokio::spawn(async move {
            let client = RawClient::with(tcp.await.unwrap(), tls).await;
            client.login("alice", Some("app"), &token).await.map(|(client, _)| client)
        })
    };
    let fared = join_all((0..count).map(login)).await;
    let fared: Result<Vec<_>, ErrorFields> = fared.into_iter().map(Result::unwrap).collect();
    fared.unwrap_or_else(|refused| panic!("a good login is refused: {refused:?}"))
}

async fn logins_from_here(world: &World, count: usize) -> Vec<RawClient> {
    let port = world.port;
    logins(world, count, |_| connect("127.0.0.1".to_owned(), port)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_thousand_connections_of_one_address_keep_no_other_address_out() {
    let _alone = alone().await;
    for stuck in [
        Stuck::Silent,
        Stuck::Trickling,
        Stuck::BeforeTls,
        Stuck::BeforeStartup,
        Stuck::BeforeToken,
        Stuck::Refused,
    ] {
        let world = World::start().await;
        let live = world.connect("alice", &world.token("alice")).await.unwrap();
        let strangers = flood_from(&world, "127.0.0.9", stuck).await;
        if stuck != Stuck::Refused {
            world.metric_is("pgpassport_cl_waiting", MAX_LOGINS).await;
        }
        let mut clients = Vec::new();
        for _ in 0..5 {
            let psql = world.psql("user=alice dbname=app", &world.token("alice"), &["-c", "select 7"]).await;
            assert!(psql.ok && psql.stdout == "7\n", "{stuck:?}: {psql:?}");
            let client = world.connect("alice", &world.token("alice")).await;
            clients.push(client.unwrap_or_else(|error| panic!("{stuck:?}: {error:?}")));
        }
        live.batch_execute("select 1").await.unwrap();
        assert_eq!(world.get("/readyz").await.0, 200, "a flood is no reason to leave");
        if stuck != Stuck::Refused {
            assert!(world.metric("pgpassport_logins_evicted_total").await >= 250.0);
            world.log_line("the longest silent ones are closed").await;
        }
        drop(strangers);
        world.metric_is("pgpassport_cl_waiting", 0.0).await;
    }
}

/// They come again at once, so that there is always one more.
#[tokio::test(flavor = "multi_thread")]
async fn c7_strangers_that_reconnect_at_once_keep_no_other_address_out() {
    let _alone = alone().await;
    let world = World::start().await;
    let mut strangers = JoinSet::new();
    let port = world.port;
    for _ in 0..800 {
        strangers.spawn(async move {
            loop {
                if let Ok(mut tcp) = connect("127.0.0.9".to_owned(), port).await {
                    let _ = tcp.read(&mut [0]).await; // closed
                }
            }
        });
    }
    world.metric_is("pgpassport_cl_waiting", MAX_LOGINS).await;
    for _ in 0..20 {
        world.connect("alice", &world.token("alice")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_five_hundred_at_once_from_one_address_are_let_in() {
    let _alone = alone().await;
    let (world, _server) = crowded_world("", "").await;
    let clients = logins_from_here(&world, 500).await;
    world.metric_is("pgpassport_cl_active", 500.0).await;
    assert!(world.metric("pgpassport_logins_evicted_total").await < 0.5);
    drop(clients);
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_five_hundred_at_once_are_let_in_beside_a_thousand_silent_ones() {
    /// The strangers have been silent for this much longer than the clients, also where a login takes seconds.
    const SILENCE: Duration = Duration::from_secs(5);
    let _alone = alone().await;
    let limits = "client_login_timeout = \"10m\"\nlogin_timeout = \"20m\"";
    let (world, _server) = crowded_world("", limits).await;
    let _strangers = flood_from(&world, "127.0.0.9", Stuck::Silent).await;
    world.metric_is("pgpassport_cl_waiting", MAX_LOGINS).await;
    sleep(SILENCE).await;
    let _clients = logins_from_here(&world, 500).await;
    world.metric_is("pgpassport_cl_active", 500.0).await;
}

/// Of many addresses none has more than a few places, and the one of the good logins has most.
#[tokio::test(flavor = "multi_thread")]
async fn c7_twenty_at_once_are_let_in_beside_many_silent_addresses() {
    let _alone = alone().await;
    for addresses in [250, 1_000] {
        let (world, _server) = crowded_world("", "").await;
        let port = world.port;
        let from = |number| {
            let address = number % addresses;
            connect(format!("127.0.{}.{}", 9 + address / 250, 1 + address % 250), port)
        };
        let _strangers = flood(&world, 1_000, Stuck::Silent, from).await;
        world.metric_is("pgpassport_cl_waiting", MAX_LOGINS).await;
        sleep(STRANGERS_ARE_SILENT).await;
        for _ in 0..10 {
            logins_from_here(&world, 20).await;
        }
    }
}

/// Places that sessions have left over are not the strangers' for good either.
#[tokio::test(flavor = "multi_thread")]
async fn c7_strangers_do_not_hold_the_last_places() {
    let _alone = alone().await;
    // The strangers stay as long as the test takes.
    let limits = "max_user_client_connections = 0\nclient_login_timeout = \"10m\"\nlogin_timeout = \"20m\"";
    let (world, _server) = crowded_world("", limits).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.extend(logins_from_here(&world, 200).await);
    }
    let _strangers = flood_from(&world, "127.0.0.9", Stuck::Silent).await;
    world.metric_is("pgpassport_cl_waiting", 200.0).await;
    for _ in 0..20 {
        clients.extend(logins_from_here(&world, 10).await);
    }
    assert_eq!(clients.len(), MAX_CLIENT_CONN);
    world.metric_is("pgpassport_cl_active", 1_000.0).await;
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(
        (refusal.sqlstate(), refusal.message()),
        ("53300", "too many connections for the proxy"),
        "sessions make no room"
    );
}

/// Behind a balancer the client in its header counts; and as long as there is no header, the balancer's address.
#[tokio::test(flavor = "multi_thread")]
async fn c10_a_client_that_floods_through_a_balancer_keeps_no_other_client_out() {
    let _alone = alone().await;
    let through = |client: Option<[u8; 4]>, port| async move {
        let mut tcp = connect("127.0.0.1".to_owned(), port).await?;
        if let Some(client) = client {
            tcp.write_all(&header(PROXY, client)).await?;
        }
        Ok(tcp)
    };
    let keys = "proxy_protocol_from = [\"127.0.0.0/8\"]";
    for (stuck, stranger) in [
        (Stuck::Silent, Some([192, 0, 2, 66])),
        (Stuck::BeforeToken, Some([192, 0, 2, 66])),
        (Stuck::Silent, None), // the balancer sends its header with the client's first bytes
    ] {
        let (world, _server) = crowded_world(keys, "").await;
        let port = world.port;
        let _strangers = flood(&world, 1_000, stuck, |_| through(stranger, port)).await;
        world.metric_is("pgpassport_cl_waiting", MAX_LOGINS).await;
        let office = |_| through(Some([192, 0, 2, 1]), port);
        logins(&world, 100, office).await;
        for number in 2..10 {
            logins(&world, 1, |_| through(Some([192, 0, 2, number]), port)).await;
        }
    }
}

/// A client that has sent its token waits for the proxy and does not count as silent.
#[tokio::test(flavor = "multi_thread")]
async fn c7_a_login_that_waits_for_keys_keeps_its_place() {
    let _alone = alone().await;
    let world = World::start().await;
    let old = world.token("alice");
    world.connect("alice", &old).await.unwrap();
    tokio::task::block_in_place(|| world.cloud.issuer.rotate(true).unwrap());
    world.cloud.sts.forget_keys();
    let hold = AnswerHold::new();
    world.cloud.issuer.fail(IssuerPage::Jwks, HttpFault::Hold(hold.clone()));
    let token = world.token("alice");
    let (waits, ()) = tokio::join!(world.connect("alice", &token), async {
        hold.arrived(1).await;
        let _strangers = flood_from(&world, "127.0.0.1", Stuck::Silent).await;
        // One more than all other places: the one that waits is the longest silent one if it is silent at all.
        world.metric_is("pgpassport_cl_waiting", MAX_LOGINS).await;
        hold.release();
        world.connect("alice", &old).await.unwrap();
    });
    waits.unwrap();
}

/// Tokens that keep the proxy waiting for keys take no more than half of the places from others.
#[tokio::test(flavor = "multi_thread")]
async fn c7_tokens_with_unknown_keys_keep_no_other_address_out() {
    let _alone = alone().await;
    let world = World::builder().limits("max_client_conn = 40\nmax_logins = 20").start().await;
    let good = world.token("alice");
    world.connect("alice", &good).await.unwrap();
    let hold = AnswerHold::new();
    world.cloud.issuer.fail(IssuerPage::Jwks, HttpFault::Hold(hold.clone()));
    let payload = Value::from(world.claims("alice")).to_string();
    let header = json!({ "alg": "RS256", "kid": "nobody" }).to_string();
    let unknown = world.cloud.issuer.sign(&header, payload.as_bytes(), &KeyChoice::Rs256);
    let mut strangers = Vec::new();
    for _ in 0..20 {
        let tcp = connect("127.0.0.9".to_owned(), world.port).await.unwrap();
        let mut client = RawClient::over(tcp, world.listener_ca()).await;
        client.start("alice", Some("app")).await;
        assert_eq!(client.message().await.unwrap().0, b'R');
        client.send(&password(&unknown)).await;
        strangers.push(client);
    }
    hold.arrived(1).await;
    world.metric_is("pgpassport_cl_waiting", 20.0).await;
    for _ in 0..10 {
        world.connect("alice", &good).await.unwrap();
    }
    hold.release();
}
