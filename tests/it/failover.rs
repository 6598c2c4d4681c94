//! Names that move, clocks that jump, and the other things that happen around a proxy that runs for long.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use aws_emulator::{Ca, HttpFault, IssuerPage, names};
use pgpassport::net::resolver::Resolver;

use crate::world::admin::until;
use crate::world::process::ServiceProcess;
use crate::world::raw::PATIENCE;
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::{RawClient, World};

/// A name server whose one name a test can move.
#[derive(Clone, Default)]
struct MovingName(Arc<Mutex<Vec<SocketAddr>>>);

impl MovingName {
    fn moves_to(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = addresses.to_vec();
    }

    fn resolver(&self) -> Resolver {
        let name = self.clone();
        Resolver::from_fn(move |host| {
            assert_eq!(host, names::ENDPOINT_HOST);
            Ok(name.0.lock().unwrap().clone())
        })
    }
}

async fn server(ca: &Ca) -> ScriptedServer {
    ScriptedServer::start(ca, Script::AfterPassword(welcome())).await
}

async fn let_in(world: &World, token: &str) -> RawClient {
    world.raw().await.login("alice", Some(names::DATABASE), token).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_after_a_failover_new_logins_go_where_the_name_leads() {
    let ca = Ca::new().unwrap();
    let (old, new) = (server(&ca).await, server(&ca).await);
    let name = MovingName::default();
    name.moves_to(&[old.addr]);
    let world = World::builder().resolver(name.resolver(), &ca).start().await;
    let token = world.token("alice");
    let session = let_in(&world, &token).await;
    old.clients(1).await;
    // The old writer goes on answering, as a reader does.
    name.moves_to(&[new.addr]);
    let after = let_in(&world, &token).await;
    new.clients(1).await;
    assert_eq!(old.count(), 1, "nobody sticks to the old address");
    assert_eq!(world.cloud.sts.count(), 1);
    drop((session, after));
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_missing_name_is_reported_and_the_last_address_is_not_used() {
    let ca = Ca::new().unwrap();
    let server = server(&ca).await;
    let name = MovingName::default();
    name.moves_to(&[server.addr]);
    let world = World::builder().resolver(name.resolver(), &ca).start().await;
    let token = world.token("alice");
    drop(let_in(&world, &token).await);
    name.moves_to(&[]);
    let refusal = world.refusal("alice", &token).await;
    assert_eq!(refusal.sqlstate(), "57P03");
    assert_eq!(refusal.detail(), "Stage upstream_name: the name of the database does not resolve.");
    assert_eq!(server.count(), 1);
    // Refusing addresses before a good one, an IPv6 address among them.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], nobody.port()));
    name.moves_to(&[v6, nobody, server.addr]);
    drop(let_in(&world, &token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_a_bundle_of_old_and_new_authorities_spans_their_rotation() {
    let (old, new) = (Ca::new().unwrap(), Ca::new().unwrap());
    let name = MovingName::default();
    let before = server(&old).await;
    name.moves_to(&[before.addr]);
    let world = World::builder().resolver(name.resolver(), &old).start().await;
    let token = world.token("alice");
    drop(let_in(&world, &token).await);
    // The server has a certificate of the new authority, which the file does not have.
    let after = server(&new).await;
    name.moves_to(&[after.addr]);
    let refusal = world.refusal("alice", &token).await;
    assert_eq!(refusal.message(), "cannot connect now: database not trusted");
    assert!(after.heard().is_empty());
    // A file with both serves both.
    let both = World::builder().resolver(name.resolver(), &old.beside(&new)).start().await;
    let token = both.token("alice");
    drop(let_in(&both, &token).await);
    name.moves_to(&[before.addr]);
    drop(let_in(&both, &token).await);
}

/// The whole story with the binary: the server has a certificate of a new authority, people are told what is wrong, the
/// file is replaced, SIGHUP, and the same process lets them in.
#[tokio::test(flavor = "multi_thread")]
async fn r7_a_new_authority_is_loaded_at_sighup_without_a_restart() {
    let (old, new) = (Ca::new().unwrap(), Ca::new().unwrap());
    let server = server(&old).await;
    let world = World::builder().upstream(server.addr, &old).start().await;
    let (folder, token) = (tempfile::tempdir().unwrap(), world.token("alice"));
    let notices = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    notices.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut service = ServiceProcess::start(&world.config_file(), &folder.path().join("notify"));
    let log = service.log();
    let mut state = [0; 512];
    let read = notices.recv(&mut state).unwrap();
    let ready = String::from_utf8_lossy(&state[..read]).into_owned();
    let port = ready.split("127.0.0.1:").nth(1).unwrap().trim().parse().unwrap();
    let login = async || {
        let client = RawClient::connect(port, world.listener_ca()).await;
        client.login("alice", Some(names::DATABASE), &token).await.map(|(client, _)| client)
    };
    let refused = async || {
        let refusal = login().await.err().expect("a certificate that nobody vouches for");
        assert_eq!(refusal.sqlstate(), "57P03");
        assert_eq!(refusal.message(), "cannot connect now: database not trusted");
        assert!(refusal.detail().starts_with("Stage upstream_tls: "), "{refusal:?}");
        assert!(refusal.hint().contains("for the operator of the proxy"), "{refusal:?}");
    };
    let mut session = login().await.unwrap();
    server.shows(&new.server(&[names::ENDPOINT_HOST]).unwrap());
    refused().await;
    new.write(&world.folder().join("upstream")).unwrap();
    refused().await; // nothing is read before it is asked for
    service.signal("HUP");
    while !log.recv_timeout(PATIENCE).expect("a word about it").contains("configuration reloaded") {}
    drop(login().await.unwrap());
    // The old session has not noticed.
    session.send(b"still there").await;
    until("the session goes on", async || String::from_utf8_lossy(&server.heard()).contains("still there"))
        .await;
    // And what is wrong in another way is not taken either.
    server.shows(&new.server(&["other.example"]).unwrap());
    refused().await;
    server.shows(&new.expired(&[names::ENDPOINT_HOST]).unwrap());
    refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_a_clock_that_jumps_cuts_no_session_and_extends_no_token() {
    let ca = Ca::new().unwrap();
    let server = server(&ca).await;
    let world = World::builder().upstream(server.addr, &ca).one_clock().start().await;
    let token = world.token("alice");
    let mut session = let_in(&world, &token).await;
    for jump in [3_600, -7_200, 3_600] {
        world.cloud.clock.advance(jump);
        if jump > 0 {
            session.send(b"still there").await;
        }
        let now = world.token("alice");
        drop(let_in(&world, &now).await);
    }
    let heard = || String::from_utf8_lossy(&server.heard()).matches("still there").count();
    while heard() < 2 {
        tokio::task::yield_now().await;
    }
    world.cloud.clock.advance(3_600);
    let refusal = world.refusal("alice", &token).await;
    assert!(refusal.detail().contains("the token expired"), "{refusal:?}");
    // Back in the future of that token: it was issued after now.
    world.cloud.clock.advance(-7_200);
    let refusal = world.refusal("alice", &token).await;
    assert!(
        refusal.detail().contains("not valid yet") || refusal.detail().contains("in the future"),
        "{refusal:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_a_clock_that_differs_from_that_of_sts_is_a_warning() {
    let ca = Ca::new().unwrap();
    let server = server(&ca).await;
    let world = World::builder().upstream(server.addr, &ca).one_clock().start().await;
    world.cloud.clock.advance(-300); // the answers' Date is that of the machine
    drop(let_in(&world, &world.token("alice")).await);
    // The log is that of all tests.
    let line = world.log_line(&format!("\"peer\":\"{}\",\"seconds_ahead\":-", world.cloud.sts.addr())).await;
    assert!(line.contains("this machine's clock differs from an HTTPS peer's"), "{line}");
}

/// Refusals that are about times name the clock, if it is that of this machine that differs.
#[tokio::test(flavor = "multi_thread")]
async fn r17_a_wrong_clock_is_named_to_the_person_and_measured_for_the_operator() {
    let world = World::builder().one_clock().start().await;
    let refused = async |token: String, detail: &str| {
        let refusal = world.refusal("alice", &token).await;
        assert!(refusal.detail().contains(detail), "{refusal:?}");
        refusal.hint().to_owned()
    };
    let early = || world.mint(world.claims("alice").set("exp", world.cloud.clock.unix() - 60));
    let hint = refused(early(), "the token expired").await;
    assert!(!hint.contains("clock"), "it is right: {hint}");
    world.cloud.clock.advance(450); // the answers' Date is that of the machine, in whole seconds
    let hint = refused(early(), "the token expired").await;
    assert!(hint.contains("This proxy's clock is 7 minutes ahead of that of every server"), "{hint}");
    let (_, metrics) = world.get("/metrics").await;
    let ahead =
        metrics.lines().find(|line| line.starts_with("pgpassport_issuer_clock_ahead_seconds{")).unwrap();
    let ahead: i64 = ahead.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((430..=480).contains(&ahead), "{ahead}");
    // A token of now, with which STS and the database compare clocks of their own.
    let mut role =
        world.cloud.role(aws_emulator::PolicyTemplate::Trust, aws_emulator::PolicyTemplate::Permission);
    role.permission_policy = role.permission_policy.replace("rds-db:connect", "rds-db:nothing");
    world.cloud.sts.put_role(&role).unwrap();
    let hint = refused(world.token("alice"), "the database refused the IAM token").await;
    assert!(hint.contains("This proxy's clock is 7 minutes ahead"), "{hint}");
    let later = world.mint(world.claims("alice").set("nbf", world.cloud.clock.unix() + 600));
    world.cloud.clock.advance(-900);
    let hint = refused(later, "not valid yet").await;
    assert!(hint.contains("This proxy's clock is 7 minutes behind that of every server"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_partition_to_sts_leaves_known_tokens_until_their_credentials_end() {
    let ca = Ca::new().unwrap();
    let server = server(&ca).await;
    let world = World::builder().upstream(server.addr, &ca).one_clock().start().await;
    let known = world.mint(world.claims("alice").set("exp", world.cloud.clock.unix() + 3_600));
    drop(let_in(&world, &known).await);
    world.cloud.sts.fail(HttpFault::Close);
    for _ in 0..5 {
        world.cloud.clock.advance(160);
        drop(let_in(&world, &known).await);
    }
    let refusal = world.refusal("bob", &world.token("bob")).await;
    assert_eq!(refusal.message(), "cannot connect now: AWS STS unavailable");
    for (series, value) in [
        ("pgpassport_sts_tries_total{endpoint=\"127.0.0.1\",outcome=\"granted\"}", 1.0),
        ("pgpassport_sts_tries_total{endpoint=\"127.0.0.1\",outcome=\"failing\"}", 3.0),
        ("pgpassport_sts_cache_hits_total", 5.0),
        ("pgpassport_sts_paused{endpoint=\"127.0.0.1\"}", 0.0),
        ("pgpassport_logins_queued", 0.0),
    ] {
        world.metric_is(series, value).await;
    }
    world.cloud.clock.advance(160);
    let refusal = world.refusal("alice", &known).await;
    assert_eq!(refusal.message(), "cannot connect now: AWS STS unavailable");
    world.cloud.sts.heal();
    drop(let_in(&world, &known).await);
}

/// Ten minutes by the clock, in each of which the keys are asked for in vain, and somebody new comes. (What the keys'
/// age is by the steady clock, which a test of the whole cannot turn, is shown in `auth::keys`.)
#[tokio::test(flavor = "multi_thread")]
async fn r16_an_issuer_that_is_down_for_ten_minutes_costs_no_login() {
    let ca = Ca::new().unwrap();
    let server = server(&ca).await;
    let world = World::builder().upstream(server.addr, &ca).user("startup_user = \"ignore\"").one_clock();
    let world = world.start().await;
    let token = world.token("alice");
    drop(let_in(&world, &token).await);
    world.cloud.issuer.go_down();
    for minute in 1..=10 {
        world.cloud.clock.advance(60);
        let asked = world.cloud.issuer.count(IssuerPage::Discovery);
        assert!(world.reloaded().await, "which has the keys fetched at once");
        world.cloud.issuer.reaches(IssuerPage::Discovery, asked + 1).await;
        world.log_line("key set fetch failed").await;
        drop(let_in(&world, &token).await);
        drop(let_in(&world, &world.token(&format!("newcomer{minute}"))).await);
    }
    assert_eq!(world.cloud.sts.count(), 11, "alice is known, the others are not");
}
