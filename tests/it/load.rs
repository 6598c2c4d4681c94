//! Crowds: how many calls AWS sees, who waits, and whom a failing STS or issuer costs a login.

use std::sync::{Arc, OnceLock};

use aws_emulator::{Ca, Fault, Hold, KeyChoice, StsFault};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::world::admin::until;
use crate::world::fake::{FakeServer, Part, welcome};
use crate::world::raw::trusting;
use crate::world::{ErrorFields, RawClient, World};

/// A thousand connections are four thousand descriptors of this process: two of the proxy, one of the client and
/// one of the server.
const LIMITS: &str = "max_client_conn = 2000\nlogin_timeout = \"2m\"\nclient_login_timeout = \"1m\"\n\
                      server_connect_timeout = \"1m\"";

/// Clients and server have threads of their own, as they have elsewhere: their work must not keep the proxy's control
/// plane waiting, which runs on the test's own.
fn outside() -> &'static Runtime {
    static OUTSIDE: OnceLock<Runtime> = OnceLock::new();
    OUTSIDE.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// A world for many people, with a server that welcomes all of them.
async fn world(cluster: &str) -> (World, FakeServer) {
    rlimit::increase_nofile_limit(10_000).unwrap();
    let ca = Ca::new().unwrap();
    let authority = ca.clone();
    let start = async move { FakeServer::start(&authority, Part::AfterPassword(welcome())).await };
    let server = outside().spawn(start).await.unwrap();
    (World::wishes().upstream(server.addr, &ca).limits(LIMITS).cluster(cluster).start().await, server)
}

/// Tokens of `count` people. They are not planted as secrets: looking for each of them would take too long.
fn tokens(world: &World, count: usize) -> Vec<(String, String)> {
    let token = |number| {
        let user = format!("user{number}");
        let token = world.cloud.issuer.mint_with(world.claims(&user), &KeyChoice::Es256);
        (user, token)
    };
    (0..count).map(token).collect()
}

/// Logs everybody in at the same time, and gives how each one fared when all have. Those who are in stay in.
async fn crowd(world: &World, people: Vec<(String, String)>) -> Vec<Result<RawClient, ErrorFields>> {
    let tls = Arc::new(trusting(world.listener_ca()));
    let logins: Vec<_> = people
        .into_iter()
        .map(|(user, token)| {
            let (port, tls) = (world.port, Arc::clone(&tls));
            outside().spawn(async move {
                let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let client = RawClient::with(tcp, tls).await;
                client.login(&user, Some("app"), &token).await.map(|(client, _)| client)
            })
        })
        .collect();
    let mut fared = Vec::new();
    for login in logins {
        fared.push(login.await.unwrap());
    }
    fared
}

/// STS reads the issuer's keys at its first call. That it may be slow to do so is another test's matter.
async fn warm_up(world: &World) {
    all_in(&crowd(world, vec![("alice".to_owned(), world.token("alice"))]).await);
}

fn all_in(fared: &[Result<RawClient, ErrorFields>]) {
    if let Some(error) = fared.iter().find_map(|one| one.as_ref().err()) {
        panic!(
            "{} of {} were refused, as in {error:?}",
            fared.iter().filter(|one| one.is_err()).count(),
            fared.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_a_thousand_logins_of_one_user_make_one_sts_call() {
    let (world, server) = world("").await;
    let token = world.token("alice");
    let fared = crowd(&world, vec![("alice".to_owned(), token); 1_000]).await;
    all_in(&fared);
    assert_eq!(world.cloud.sts.count(), 1);
    server.clients(1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_a_thousand_users_make_a_thousand_sts_calls() {
    let (world, _server) = world("").await;
    warm_up(&world).await;
    let fared = crowd(&world, tokens(&world, 1_000)).await;
    all_in(&fared);
    // A call that a busy machine makes wait too long is made again, and so is one cut off by its server.
    let granted = world.cloud.sts.calls().iter().filter(|call| call.granted()).count();
    assert_eq!(granted, 1 + 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_half_of_all_sts_calls_throttled_costs_no_login() {
    let (world, _server) = world("").await;
    warm_up(&world).await;
    world.cloud.sts.fail_half(StsFault::throttling());
    let fared = crowd(&world, tokens(&world, 200)).await;
    all_in(&fared);
    let calls = world.cloud.sts.calls();
    let throttled = calls.iter().filter(|call| call.code == "Throttling").count();
    assert_eq!(calls.len(), 1 + 200 + throttled);
    assert!(throttled > 100, "{throttled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_an_outage_of_sts_costs_few_calls_and_no_session() {
    let (world, _server) = world("").await;
    let mut sessions = crowd(&world, tokens(&world, 1)).await;
    world.cloud.sts.fail(StsFault::internal_failure());
    let fared = crowd(&world, tokens(&world, 300)).await;
    // The first of them is known and needs no STS.
    for refused in fared.iter().skip(1) {
        let refused = refused.as_ref().err().expect("nobody is let in");
        assert_eq!(refused.sqlstate(), "57P03");
        assert_eq!(refused.message(), "cannot connect now: AWS STS unavailable");
    }
    assert!(world.cloud.sts.count() <= 300, "{} calls", world.cloud.sts.count());
    world.log_line("AWS STS fails; calls to it pause").await;
    assert!(world.metric("pgpassport_sts_paused{endpoint=\"127.0.0.1\"}").await > 0.5);
    let alive = sessions.remove(0).ok().unwrap();
    drop(alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_the_queue_of_logins_is_bounded_and_says_so() {
    let (world, _server) = world("max_logins_per_second = 1").await;
    let known = ("alice".to_owned(), world.token("alice"));
    all_in(&crowd(&world, vec![known.clone()]).await);
    // All arrive at the queue together, so that nobody's turn has passed when the last one comes.
    let hold = Hold::new();
    world.cloud.sts.fail(Fault::Hold(hold.clone()));
    let people = tokens(&world, 14);
    let (fared, ()) = tokio::join!(crowd(&world, people), async {
        hold.arrived(14).await;
        hold.release();
        let waiting = async || world.metric("pgpassport_logins_queued").await > 4.5;
        until("logins wait for their turn", waiting).await;
    });
    let refused: Vec<_> = fared.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() <= 4, "{refused:?}");
    for refused in refused {
        assert_eq!(refused.sqlstate(), "53300");
        assert_eq!(refused.message(), "too many connections for cluster \"app\"");
        assert!(
            refused.detail().starts_with("Stage limits: new logins are let in at 1 a second"),
            "{refused:?}"
        );
        assert!(refused.hint().contains("cluster.max_logins_per_second"), "{refused:?}");
    }
    // Who uses a token again is not counted, however full the queue is.
    all_in(&crowd(&world, vec![known; 40]).await);
}
